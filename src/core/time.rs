//! The core's own time: how long since the server was made. Never reads a clock; a shell or a test
//! says what time it is.

use std::{fmt, ops::Add, time::Duration};

/// A moment, as the time that has passed since the server was made (monotonic, in whole nanoseconds).
///
/// A test makes one with [`Time::at`]; in a hook, [`Monitor::now`](crate::Monitor::now) gives the
/// moment at which the current turn of the loop began to work.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(u64);

impl Time {
    /// The moment at which the server was made.
    pub const START: Self = Self(0);

    /// The moment `since_start` after the server was made. More than 584 years are as good as never.
    pub const fn at(since_start: Duration) -> Self {
        Self(nanoseconds(since_start))
    }

    pub(crate) const fn at_nanoseconds(since_start: u64) -> Self {
        Self(since_start)
    }

    /// How long after the start this moment is.
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long after `earlier` this moment is; zero when it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
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

/// Saturates: a timeout of `Duration::MAX` is a moment that never comes, not a panic.
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
