//! The clocks: the only place that reads the time. Monotonic; on Linux it stops while the machine is
//! suspended, so timeouts do not expire because of that.

#![allow(unsafe_code)]

use crate::core::time::Time;
use nix::libc;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
}

/// A cheap clock: the time of the kernel's last tick, without reading the hardware's clock.
#[cfg(target_os = "linux")]
const TICK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
#[cfg(not(target_os = "linux"))]
const TICK: libc::clockid_t = libc::CLOCK_MONOTONIC;

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: read(libc::CLOCK_MONOTONIC),
        }
    }

    /// The clock of an earlier program of this process, which showed this at the start.
    pub(crate) fn since(start: u64) -> Self {
        Self { start }
    }

    /// What CLOCK_MONOTONIC showed at the start, in nanoseconds.
    pub(crate) fn started(&self) -> u64 {
        self.start
    }

    #[inline]
    pub(crate) fn now(&self) -> Time {
        Time::at_nanoseconds(read(libc::CLOCK_MONOTONIC).saturating_sub(self.start))
    }

    /// Like [`now`](Self::now), but much cheaper and up to some milliseconds late.
    #[inline]
    pub(crate) fn now_or_so(&self) -> Time {
        Time::at_nanoseconds(read(TICK).saturating_sub(self.start))
    }
}

/// The monotonic time of the machine in microseconds, as systemd reads it too.
#[cfg(feature = "systemd")]
pub(crate) fn monotonic_microseconds() -> u64 {
    read(libc::CLOCK_MONOTONIC) / 1_000
}

/// The time in nanoseconds. Not std's `Instant`, which costs more: each connection reads the clock
/// three times.
#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    // SAFETY: all bytes zero are a valid timespec.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is valid for writes for the length of the call. The call cannot fail: these
    // clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    // OK to cast: such a clock is never negative, and starts with the machine.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn both_ways_to_look_tell_the_same_time_or_so() {
        let clock = Clock::new();
        let mut lag = Duration::MAX;
        // A busy machine may delay a tick.
        while lag > Duration::from_millis(20) {
            let (before, between, after) = (clock.now(), clock.now_or_so(), clock.now());
            assert!(between <= after, "it leads");
            lag = before.since(between);
            assert!(
                after < Time::at(Duration::from_secs(20)),
                "it lags by {lag:?}"
            );
        }
    }
}
