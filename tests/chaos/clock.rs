//! The clock that the server, its children and the scenario share.
//!
//! It never jumps, and what one process writes down another compares with its own.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since some moment that is the same for every process.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .expect("a monotonic clock")
        .into()
}
