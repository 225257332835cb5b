//! A server that has a holder, on real processes: parents killed at every moment, children that serve
//! on, signals, the ends. Built with the feature `holder` only: `cargo test --features holder --test
//! holder`.
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what other modules use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod calls;
mod deaths;
mod ends;
mod kept;
mod kills;
mod program;
mod programs;
mod signals;
#[cfg(feature = "status")]
mod status;
#[path = "../scenarios/strace/mod.rs"]
mod strace;
#[path = "../support/mod.rs"]
mod support;
mod told;
mod upgrades;
mod versions;
mod walk;
#[path = "../scenarios/walked.rs"]
mod walked;
#[path = "../scenarios/walking/mod.rs"]
mod walking;
mod watched;

use std::process::ExitCode;

use support::{Scenarios, scenarios_of};

fn main() -> ExitCode {
    let modules: &[(&str, Scenarios)] = scenarios_of![
        kills,
        walk,
        calls,
        deaths,
        programs,
        told,
        signals,
        kept,
        ends,
        upgrades,
        upgrades::meanwhile,
        upgrades::refused,
    ];
    #[cfg(feature = "status")]
    let modules = &[modules, scenarios_of![status]].concat();
    support::main_of(&[program::PROGRAMS, calls::PROGRAMS].concat(), modules)
}
