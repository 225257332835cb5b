//! The status of a server, as its clients see it: documents, probes, bounds, deaths of the helper.
//! Built with the feature `status` only: `cargo test --features status --test status`.
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what other modules use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod balancer;
mod browser;
mod clients;
mod documents;
mod helper;
mod json;
mod kubernetes;
mod page;
mod probes;
mod program;
mod seen;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
mod web;

use std::process::ExitCode;

use support::scenarios_of;

fn main() -> ExitCode {
    let modules = scenarios_of![
        documents, probes, clients, helper, page, seen, upgrade, kubernetes, balancer
    ];
    let programs = [program::PROGRAMS, balancer::PROGRAMS].concat();
    support::main_of(&programs, modules)
}
