//! The clock: the only place where the time is read. Monotonic; on Linux it stands still while the
//! machine is suspended, so waking up times nobody out.

#![allow(unsafe_code)]

use crate::time::Time;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    tick: Option<Duration>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            tick: tick(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::at(self.start.elapsed())
    }

    /// As [`now`](Self::now), at a fraction of its price, but it may be some milliseconds early or late:
    /// the kernel's tick, where there is such a clock.
    pub(crate) fn now_or_so(&self) -> Time {
        match (self.tick, tick()) {
            (Some(start), Some(tick)) => Time::at(tick.saturating_sub(start)),
            _ => self.now(),
        }
    }
}

/// When the kernel last looked at its clock, which takes no reading of the hardware's.
#[cfg(target_os = "linux")]
fn tick() -> Option<Duration> {
    use nix::libc;
    let mut tick = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `tick` is valid for writes for the length of the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut tick) };
    // OK to cast: this clock is never negative, and nanoseconds are less than a second of them.
    (result == 0).then(|| Duration::new(tick.tv_sec as u64, tick.tv_nsec as u32))
}

#[cfg(not(target_os = "linux"))]
fn tick() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_look_tell_the_same_time_or_so() {
        let clock = Clock::new();
        while clock.now() < Time::at(Duration::from_millis(30)) {
            let (before, between, after) = (clock.now(), clock.now_or_so(), clock.now());
            assert!(
                before.since(between) <= Duration::from_millis(20),
                "it lags"
            );
            assert!(
                between.since(after) <= Duration::from_millis(20),
                "it leads"
            );
        }
    }
}
