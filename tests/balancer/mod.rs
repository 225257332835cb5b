//! A balancer in front of three hosts, each a network namespace of its own with a real server in it,
//! that tell the balancer how loaded they are. One is four times slower, one is killed, and one is
//! drained and replaced, all under load.
//!
//! `tests/status` plays it in seconds and asserts what must hold on any machine; the benchmark
//! `balancer` plays it for long and prints figures. Nothing here leaves the namespaces, and nothing
//! asserts how fast the machine is: what a server does for a request is a sleep.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the test and the benchmark use a part each"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod asker;
mod experiment;
mod figures;
mod host;
mod load;
mod network;
mod proxy;

pub use asker::asker;
pub use experiment::{Experiment, Outcome, Policy};
pub use figures::Share;
pub use host::host;
pub use load::Load;

/// The hosts; the last parts of their addresses are 11, 12, 13.
const HOSTS: [&str; 3] = ["one", "two", "three"];
