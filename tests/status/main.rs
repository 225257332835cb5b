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

mod clients;
mod documents;
mod helper;
mod json;
mod page;
mod probes;
mod program;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
mod web;

use std::process::ExitCode;

fn main() -> ExitCode {
    let scenarios = [
        documents::SCENARIOS,
        probes::SCENARIOS,
        clients::SCENARIOS,
        helper::SCENARIOS,
        page::SCENARIOS,
        upgrade::SCENARIOS,
    ]
    .concat();
    support::main(program::PROGRAMS, &scenarios)
}
