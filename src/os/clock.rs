//! The clock: the only place where the time is read. Monotonic; on Linux it stands still while the
//! machine is suspended, so waking up times nobody out.

use crate::time::Time;
use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::at(self.start.elapsed())
    }
}
