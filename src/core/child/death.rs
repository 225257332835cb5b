//! How and why a child ended, as hooks and observers read it. Plain data; decides no cause itself.

use super::WaitStatus;
use crate::core::stack::{self, Frame};
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
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Death {
    pub(crate) status: Option<WaitStatus>,
    pub(crate) cause: Cause,
    pub(crate) stack: Vec<Frame>,
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

    /// Where it was stuck: its calls when it was over its time, the innermost first.
    ///
    /// Only with the feature `stacks`, and only of a child that was told to stop because it was over
    /// its time, or that had not left shortly before it got SIGKILL. `None` if it could not be asked
    /// or did not answer, as with SIGURG blocked, or stopped by SIGSTOP. Of a deep stack these are
    /// the innermost 64 calls, and the functions that were inlined there.
    ///
    /// It has been read from the child's memory, which a fault may have damaged: what is told here is
    /// no proof.
    pub fn stack(&self) -> Option<&[Frame]> {
        (!self.stack.is_empty()).then_some(&self.stack)
    }

    /// The innermost function of the program on [`stack`](Self::stack).
    ///
    /// It is the first one that is Rust and neither of the standard library nor of this crate; if
    /// there is none, the first that has a name.
    pub fn stuck_in(&self) -> Option<&Frame> {
        stack::innermost(&self.stack)
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => status.fmt(f)?,
            None => f.write_str("unknown status")?,
        }
        match self.stuck_in() {
            Some(frame) => write!(f, ", stuck in {frame}"),
            None => Ok(()),
        }
    }
}
