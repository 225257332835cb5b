//! The clock: the only place where the time is read. Monotonic; on Linux it stands still while the
//! machine is suspended, so waking up times nobody out.

use crate::time::Time;
#[cfg(target_os = "linux")]
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};
use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    #[cfg(target_os = "linux")]
    ticks: Option<TimeSpec>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            #[cfg(target_os = "linux")]
            ticks: ticks(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::at(self.start.elapsed())
    }

    /// As [`now`](Self::now), at a fraction of its price, but it may be some milliseconds early or late:
    /// the kernel's tick, where there is such a clock.
    pub(crate) fn now_or_so(&self) -> Time {
        #[cfg(target_os = "linux")]
        if let (Some(start), Some(ticks)) = (self.ticks, ticks()) {
            return Time::at((ticks - start).into());
        }
        self.now()
    }
}

#[cfg(target_os = "linux")]
fn ticks() -> Option<TimeSpec> {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
