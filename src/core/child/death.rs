//! How and why a child ended, and all that is known of it, as hooks and observers read it. Plain
//! data; decides no cause itself.

use super::{Child, Stuck, Usage, WaitStatus, last_lines::LastLines};
use crate::core::{
    stack::{self, Frame},
    time::Time,
};
use std::{fmt, time::Duration};

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
    /// It was told to stop after its successor was ready.
    ///
    /// It had reached a limit, or a hook or the child itself wanted it replaced.
    Recycled,
    /// It was told to stop in a reload.
    Reloaded,
    /// It ended in the shutdown.
    Shutdown,
    /// A hook had told it to stop or had sent it the signal that ended it.
    Asked,
    /// It ended by itself within a second of its fork, without a connection.
    FailedStart,
    /// It ended by itself with exit code 0, as at `max_requests`.
    Finished,
    /// It ended by itself with another exit code.
    Failed,
    /// It was ended by a signal that the parent had not sent.
    ///
    /// A crash counts also if the child was replaced, culled or told to leave in a shutdown, and was
    /// still serving a client.
    Killed,
    /// It was told to stop because a connection took longer than `busy_timeout`.
    Overtime,
    /// It had said neither BUSY nor NOT_BUSY within `start_timeout`, and was stopped.
    StartTimeout,
    /// The kernel ended it for lack of memory.
    ///
    /// It got a SIGKILL that the parent had not sent, and its control group or the kernel's log
    /// tells of such an end. Where neither can be read, the cause is [`Killed`](Self::Killed).
    OutOfMemory,
    /// Other code in the program has collected its status: how it ended is unknown.
    Lost,
}

impl Cause {
    pub(crate) const ALL: [Self; 16] = [
        Self::Culled,
        Self::TimedOut,
        Self::Closed,
        Self::Faulty,
        Self::Recycled,
        Self::Reloaded,
        Self::Shutdown,
        Self::Asked,
        Self::FailedStart,
        Self::Finished,
        Self::Failed,
        Self::Killed,
        Self::Overtime,
        Self::StartTimeout,
        Self::OutOfMemory,
        Self::Lost,
    ];

    /// Whether a child that ends for this cause before it is ready has failed to start.
    pub(crate) fn is_failure(self) -> bool {
        !matches!(
            self,
            Self::Culled | Self::Recycled | Self::Reloaded | Self::Asked | Self::Shutdown
        )
    }
}

/// What the parent collects from a child that has ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Collected {
    /// `None` if other code has collected it.
    pub(crate) status: Option<WaitStatus>,
    pub(crate) usage: Option<Usage>,
    /// Whether the kernel has ended it for lack of memory, as far as can be seen.
    pub(crate) out_of_memory: bool,
}

impl From<Option<WaitStatus>> for Collected {
    fn from(status: Option<WaitStatus>) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

/// How a child ended, and what is known of its life.
///
/// It is handed to `server_exited` and to observers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Death {
    pub(crate) status: Option<WaitStatus>,
    pub(crate) cause: Cause,
    epoch: u32,
    usage: Option<Usage>,
    age: Duration,
    connections: u64,
    in_hand_for: Option<Duration>,
    stuck: Option<Stuck>,
    last_lines: LastLines,
    pub(crate) stack: Vec<Frame>,
}

impl Death {
    pub(crate) fn of(child: &Child, end: &Collected, now: Time) -> Self {
        Self {
            status: end.status,
            cause: child.cause(*end, now),
            epoch: child.epoch,
            usage: end.usage,
            age: now.since(child.start_time),
            connections: child.believed_requests(now),
            in_hand_for: child.in_hand_for(now),
            stuck: child.stuck.clone(),
            last_lines: child.last_lines.clone(),
            stack: Vec::new(),
        }
    }

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
    /// It is the first one that is Rust and neither of the standard library, nor of this crate, nor
    /// of `mio` and `nix`, by which it makes its system calls; if there is none, the first that has a
    /// name.
    pub fn stuck_in(&self) -> Option<&Frame> {
        stack::innermost(&self.stack)
    }

    /// The number of the reload before which it was forked: [`Child::epoch`](crate::Child::epoch).
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How old it was.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// How many connections it has taken.
    ///
    /// That is [`Child::requests`](crate::Child::requests), unless no child can be that fast; then
    /// it is the number of its BUSY words.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// For how long it had the connection that was in its hands; `None` if it had none.
    ///
    /// A server of your own that says no NOT_BUSY when it leaves seems to have one.
    pub fn in_hand_for(&self) -> Option<Duration> {
        self.in_hand_for
    }

    /// Where it stood when the parent sent it SIGKILL.
    ///
    /// `None` if the parent has sent none.
    pub fn stuck(&self) -> Option<&Stuck> {
        self.stuck.as_ref()
    }

    /// What it has used of the machine; `None` if other code has collected its status.
    pub fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// The last lines that it wrote to stderr, the newest last.
    ///
    /// At most 8, each cut to 256 bytes.
    pub fn last_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.last_lines.iter()
    }

    /// What is known, on one line, for the log.
    pub(crate) fn details(&self) -> impl fmt::Display + '_ {
        Details(self)
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

struct Details<'a>(&'a Death);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let death = self.0;
        let (age, taken) = (death.age.as_secs_f64(), death.connections);
        write!(f, "after {age:.3} s and {taken} connections")?;
        if death.epoch > 0 {
            write!(f, ", of epoch {}", death.epoch)?;
        }
        if let Some(time) = death.in_hand_for {
            write!(f, ", the last in hand for {:.3} s", time.as_secs_f64())?;
        }
        if let Some(stuck) = &death.stuck {
            write!(f, ", stuck {stuck}")?;
        }
        if let Some(usage) = &death.usage {
            write!(f, ", {usage}")?;
        }
        write!(f, ", last lines {:?}", death.last_lines.text())
    }
}
