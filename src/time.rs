//! The core's own time: how long since the server was made. Never reads a clock; a shell or a test
//! says what time it is.

use std::{fmt, ops::Add, time::Duration};

/// A moment, as the time that has passed since the server was made (monotonic, not rounded).
///
/// A test makes one with [`Time::at`]; in a hook, [`Monitor::now`](crate::Monitor::now) gives the
/// moment at which the current turn of the loop began to work.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(Duration);

impl Time {
    /// The moment at which the server was made.
    pub const START: Self = Self(Duration::ZERO);

    /// The moment `since_start` after the server was made.
    pub const fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long after the start this moment is.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this moment is; zero when it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Saturates: a timeout of `Duration::MAX` is a moment that never comes, not a panic.
impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.0.as_secs_f64())
    }
}
