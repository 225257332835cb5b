//! Time in the core: how long since the server was made. Never reads a clock; the caller passes the
//! time.

use std::{fmt, ops::Add, time::Duration};

/// A point in time: the monotonic time since the server was made, in nanoseconds.
///
/// A test makes one with [`Time::at`]; in a hook, [`Monitor::now`](crate::Monitor::now) is the time
/// at which the current turn of the loop began to work.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(u64);

impl Time {
    /// The time at which the server was made.
    pub const START: Self = Self(0);

    /// The time `since_start` after the server was made, limited to 584 years.
    pub const fn at(since_start: Duration) -> Self {
        Self(nanoseconds(since_start))
    }

    pub(crate) const fn at_nanoseconds(since_start: u64) -> Self {
        Self(since_start)
    }

    /// How long after the start this time is.
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long after `earlier` this time is; zero if it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time `duration` before this one, but not before the start.
    pub(crate) const fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanoseconds(duration)))
    }
}

const fn nanoseconds(duration: Duration) -> u64 {
    let nanoseconds = duration.as_nanos();
    if nanoseconds > u64::MAX as u128 {
        u64::MAX
    } else {
        nanoseconds as u64
    }
}

/// Saturates: a timeout of `Duration::MAX` never comes, and does not panic.
impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.since_start().as_secs_f64())
    }
}
