//! What a program of the original overrode, ported: its example, a policy of one's own, and the seams
//! of the stock servers, in real processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::main(support::programs![], support::scenarios![])
}
