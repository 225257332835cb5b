//! The process of one child, as the loop reaches it: its pipes, its signals, its end. Only a trait and
//! data.

use crate::core::{
    brake::RunTime,
    child::{Collected, Signal, Stuck},
    draining::QueuedClients,
};
use std::{fmt, io};

/// One of the pipes from a child to its parent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ChildPipe {
    Stdout,
    Stderr,
    /// The private channel for words.
    Comm,
}

impl ChildPipe {
    pub(crate) const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Comm];
}

/// The result of one read of a pipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PipeRead {
    Bytes(usize),
    Nothing,
    End,
}

/// The result of an attempt to reap a child.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reaped {
    /// It has not ended.
    Not,
    /// It has ended.
    Ended(Collected),
    /// It has ended, and processes of its group still run.
    Outlived(Collected),
}

/// The process of one child, and the parent's ends of its pipes.
pub(crate) trait Process: fmt::Debug {
    /// Reads once, without blocking.
    fn read(&mut self, pipe: ChildPipe, buffer: &mut [u8]) -> io::Result<PipeRead>;
    /// How many bytes are in a pipe now.
    fn pending(&self, pipe: ChildPipe) -> io::Result<usize>;
    /// Closes the parent's end of a pipe and stops watching it.
    fn close(&mut self, pipe: ChildPipe);
    /// Tells the child in shared memory that it is to leave. The signal follows, and may be lost.
    fn tell_to_leave(&self, queued: QueuedClients);
    /// Sends a signal to the child, or to its whole process group if it leads one.
    ///
    /// No signal goes to a process that is not known to be this child or of its group.
    fn signal(&self, signal: Signal) -> io::Result<()>;
    /// Where the child stands now, as far as the system tells.
    fn stuck(&self) -> Option<Stuck>;
    /// How much private memory the child has, in bytes; `None` where the system does not tell.
    fn memory(&self) -> Option<u64>;
    /// What another program needs to take the child over.
    fn save(&self) -> ProcessState {
        ProcessState::default()
    }
    /// Forgets the pipes, and closes none of them: they are another owner's.
    #[cfg(feature = "holder")]
    fn disown(&mut self) {}
    /// For how long the child has run, and has waited for a processor; `None` where the system does
    /// not tell.
    fn run_time(&self) -> Option<RunTime> {
        None
    }
    /// Collects the status if the child has ended. `Outlived` is returned again until its process
    /// group is empty.
    fn reap(&self) -> io::Result<Reaped>;
    /// What another process that reaps it tells of its end; `None` if there is none.
    fn end_from_others(&self) -> Option<Collected> {
        None
    }
}

/// Which signals to a child go to its whole process group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ToGroup {
    All,
    /// SIGKILL only: others go to the child, which tells the group by itself.
    Kill,
}

impl ToGroup {
    /// The number for what a child without a group or with one is sent, in a state and in a journal.
    pub(crate) fn code(group: Option<Self>) -> u8 {
        match group {
            None => 0,
            Some(Self::All) => 1,
            Some(Self::Kill) => 2,
        }
    }

    /// The same backwards; a number that is not known stands for a group that is sent all signals.
    pub(crate) fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => None,
            2 => Some(Self::Kill),
            _ => Some(Self::All),
        }
    }
}

/// What another program needs to take over the process of a child.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessState {
    /// The descriptors of its pipes.
    pub(crate) pipes: [Option<u32>; 3],
    pub(crate) group: Option<ToGroup>,
    pub(crate) stop_signal: Option<Signal>,
    pub(crate) outlived: Option<Collected>,
    /// The descriptor of the memory in which it is told to stop.
    pub(crate) stops: Option<u32>,
}
