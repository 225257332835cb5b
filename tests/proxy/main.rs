//! Servers behind proxies: headers written by hand, and those of real ones. Built with the feature
//! `proxy-protocol` only: `cargo test --features proxy-protocol --test proxy`.
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what other modules use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod headers;
mod program;
mod proxies;
mod real;
mod refused;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use support::scenarios_of;

fn main() -> ExitCode {
    support::main_of(program::PROGRAMS, scenarios_of![headers, refused, real])
}
