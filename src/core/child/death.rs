//! How and why a child ended, as hooks and observers read it. Plain data; decides no cause itself.

use super::WaitStatus;
use std::fmt;

/// Why a child ended, as the [`Report`](crate::Report) counts it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Cause {
    /// It was told to stop because there were too many spare children.
    Culled,
    /// It was told to stop because it had sent no ACK for longer than `timeout`.
    TimedOut,
    /// It had closed its outputs and was told to stop.
    Closed,
    /// Reading its output had failed, or the parent had no descriptors left for it.
    Faulty,
    /// It was told to stop after its successor was ready: it had reached a limit, or a hook or the
    /// child itself wanted it replaced.
    Recycled,
    /// It was told to stop in a reload.
    Reloaded,
    /// It ended in the shutdown.
    Shutdown,
    /// A hook had told it to stop or sent it a signal that ends processes.
    Asked,
    /// It ended by itself within a second of its fork, before it had taken a connection.
    FailedStart,
    /// It ended by itself with exit code 0, as at `max_requests`.
    Finished,
    /// It ended by itself with another exit code.
    Failed,
    /// It was ended by a signal that the parent had not sent.
    Killed,
}

/// How a child ended: handed to `server_exited`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Death {
    pub(crate) status: Option<WaitStatus>,
    pub(crate) cause: Cause,
}

impl Death {
    /// Whether it exited with a code that says so, which a child does not that is told to stop.
    pub(crate) fn failed_by_itself(&self) -> bool {
        self.code().is_some_and(|code| code != 0)
    }

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
