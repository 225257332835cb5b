//! How and why a child ended, as hooks and observers read it. Plain data; decides no cause itself.

use super::WaitStatus;
use std::fmt;

/// What became of a child, in the words that the report counts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Cause {
    /// It was told to stop because there were too many spare ones.
    Culled,
    /// It was told to stop because it had fallen silent.
    TimedOut,
    /// It had closed its outputs and was told to stop.
    Closed,
    /// Reading its output had failed, or the output was lost for want of descriptors.
    Faulty,
    /// It ended in the shutdown.
    Shutdown,
    /// A hook had asked for its end.
    Asked,
    /// It died unasked within a second of its fork, and had said neither BUSY nor NOT_BUSY.
    FailedStart,
    /// It left on its own with exit code 0, as at `max_requests`.
    Finished,
    /// It left on its own with another exit code.
    Failed,
    /// A signal that the parent did not send ended it.
    Killed,
}

/// How a child ended: handed to `server_exited`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Death {
    pub(crate) status: Option<WaitStatus>,
    pub(crate) cause: Cause,
}

impl Death {
    /// Why it ended.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The exit code, if it exited.
    pub fn code(&self) -> Option<i32> {
        self.status.and_then(WaitStatus::code)
    }

    /// The number of the signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.and_then(WaitStatus::signal)
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => status.fmt(f),
            None => f.write_str("unknown status"),
        }
    }
}
