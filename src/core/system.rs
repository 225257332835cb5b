//! The interface from the loop to the operating system: the clock, waiting, forks, the children's
//! pipes and processes, the board, the parent's output. Only traits and data; `sys::Unix` and the
//! simulation's model implement them.

#[cfg(feature = "holder")]
mod note;
mod process;
mod readiness;

#[cfg(feature = "holder")]
pub(crate) use self::note::PoolJournal;
pub(crate) use self::{
    process::{ChildPipe, PipeRead, Process, ProcessState, Reaped, ToGroup},
    readiness::{ChildToken, EventSource, Ready, Wait},
};

use super::{
    board::{SharedView, SlotNotes},
    child::{ChildId, Signal},
    comm::Interval,
    error::{Error, Operation},
    queue::PrintTo,
    signal_policy::Arrived,
    stack::Frame,
    state::Snapshot,
    states::{Watch, WatchId},
    time::Time,
    upgrade::Trial,
    wire::BoardEntry,
};
use std::{any::Any, io, path::Path, time::Duration};

/// A client of the control socket that has just connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NewClient {
    /// Its number, which no other client of the server has or had.
    pub(crate) client: u64,
    /// Its process, 0 if that is not visible from here.
    pub(crate) pid: u32,
    /// The user of its process.
    pub(crate) user: u32,
    /// The user of this process.
    pub(crate) own_user: u32,
}

/// The result of one read from a client of the control socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ClientRead {
    Bytes(usize),
    Nothing,
    /// It sends no more, and may still read.
    End,
    /// It has closed the connection, or the connection is broken.
    Gone,
}

/// What a fork needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkTerms {
    /// The name of the child.
    pub(crate) id: ChildId,
    /// Whether its words have a pipe of their own.
    pub(crate) private: bool,
    /// Which signals go to the process group that it leads, if it leads one.
    pub(crate) group: Option<ToGroup>,
    /// The signal that it is sent in place of SIGINT.
    pub(crate) stop_signal: Signal,
    /// Whether it is to become another program.
    #[cfg(feature = "holder")]
    pub(crate) execs: bool,
    /// What is noted of it for the parent after this one.
    #[cfg(feature = "holder")]
    pub(crate) epoch: u32,
    #[cfg(feature = "holder")]
    pub(crate) successor: bool,
    #[cfg(any(feature = "holder", test))]
    pub(crate) reserved: bool,
}

/// The process in which a fork has returned.
pub(crate) enum Forked<P, N> {
    Parent {
        pid: u32,
        process: P,
        /// Whether its pipes could be watched.
        watched: io::Result<()>,
    },
    Child(N),
}

/// Everything that the loop asks of the operating system. Only `wait` blocks.
pub(crate) trait System {
    /// What a fork returns in the child.
    type NewChild;
    /// What a fork returns in the parent.
    type Process: Process + 'static;

    fn now(&self) -> Time;
    /// The id of this process.
    fn pid(&self) -> u32;

    /// Whether this process is to run the loop, and not a forked copy of it.
    ///
    /// The first turn [takes possession](Self::take_possession), so the program may become a daemon
    /// before it.
    fn is_owner(&self) -> bool;
    /// Makes this process the owner. True the first time.
    fn take_possession(&mut self) -> bool;

    /// Waits, and collects what is ready.
    fn wait(&mut self, wait: Wait, ready: &mut Vec<Ready>) -> Result<(), Error>;
    /// Installs the handler of a signal that posts a state of the subclass.
    fn lead(&mut self, signal: Signal) -> Result<(), Error>;
    /// Which signals have come. `woken` says that the source of signals was ready.
    fn signals(&mut self, woken: bool) -> Arrived;

    /// Fails if the process has more than one thread.
    fn check_threads(&self) -> Result<(), Error>;
    fn fork(&mut self, terms: ForkTerms) -> Result<Forked<Self::Process, Self::NewChild>, Error>;
    /// Whether a fork that failed with this error may succeed later.
    fn is_passing(&self, error: &io::Error) -> bool;
    /// The pid of a child process that has ended and was not reaped, whether the server or the
    /// program has forked it.
    fn peek(&mut self) -> Option<u32>;

    /// Reaps a process that has ended, if the parent has adopted it. True if it was reaped; false if
    /// it is the program's own, or this parent adopts none.
    fn reap_orphan(&mut self, pid: u32) -> bool;
    /// Reaps all adopted processes that have ended, also those that [`peek`](Self::peek) does not
    /// show because another process comes first. `is_child` says which pids are the server's.
    fn reap_orphans(&mut self, is_child: &dyn Fn(u32) -> bool);

    /// Prepares the slot on the board of the child that is forked next. False if it has none.
    fn open_slot(&mut self, child: ChildId) -> bool;
    /// Clears the slot of a child that has ended; what it has counted is kept. True if looks at the
    /// board are to be taken again: it was the last child on the board of an earlier program.
    fn close_slot(&mut self, slot: usize) -> bool;
    /// The entry of a child on the board.
    fn noted(&self, slot: usize) -> BoardEntry;
    /// A look at the board.
    fn view(&self) -> SharedView;
    /// What a child has noted on the board. Its values are in range, and may still be wrong.
    fn notes(&self, slot: usize) -> SlotNotes;
    /// Asks the children, through the board, for ACKs at this interval.
    fn ask_interval(&mut self, interval: Interval);
    /// The interval of ACKs that a child has noted on the board, if any.
    fn kept_interval(&self, slot: usize) -> Option<Interval>;

    /// For how long in all some process of the machine has had to wait for a processor; `None` where
    /// the system does not tell.
    fn pressure(&self) -> Option<Duration> {
        None
    }

    /// Queues bytes for the parent's own output.
    fn print(&mut self, to: PrintTo, bytes: &[u8]);
    /// Writes what the outputs take now. Returns how many bytes were dropped since the last call.
    fn flush(&mut self) -> u64;
    /// Whether output waits to be written.
    fn is_printing(&self) -> bool;
    /// Drops the output that waits. Returns how many bytes were dropped since the last call,
    /// including these.
    fn give_up_printing(&mut self) -> u64;

    /// Watches a descriptor of the subclass.
    fn watch(&mut self, watch: Watch) -> io::Result<()>;
    fn unwatch(&mut self, id: WatchId);
    /// The state of a watched descriptor that is ready. It is reported again while it stays so.
    fn watched_state(&self, number: u64) -> Option<&str>;

    /// Takes the next client of the control socket, if there is one.
    fn accept_control(&mut self) -> io::Result<Option<NewClient>> {
        Ok(None)
    }
    /// Reads once from a client of the control socket, without blocking.
    fn read_control(&mut self, _client: u64, _buffer: &mut [u8]) -> ClientRead {
        ClientRead::Gone
    }
    /// Writes to a client of the control socket, without blocking. Returns how many bytes it took.
    fn write_control(&mut self, _client: u64, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    /// Closes the connection of a client of the control socket.
    fn close_control(&mut self, _client: u64) {}
    /// The descriptor of a client's connection.
    fn control_fd(&self, _client: u64) -> Option<u32> {
        None
    }

    /// Shows the state of the parent in ps, under this name; without a name shows what the process
    /// was started with.
    fn show_title(&mut self, _name: Option<&str>, _busy: usize, _children: usize) {}

    /// Whether children can be asked for their stacks.
    fn collects_stacks(&self) -> bool {
        false
    }
    /// Asks a child for its stack. It answers, or not, some time later.
    fn ask_stack(&mut self, _: ChildId, _pid: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The answers that have come; no frames if there will be none.
    fn stacks(&mut self) -> Vec<(ChildId, Vec<Frame>)> {
        Vec::new()
    }
    /// Whether a child that has ended has left its stack to be read.
    fn has_left_stack(&self, _: ChildId) -> bool {
        false
    }
    /// Clears what a child has left, before its slot is used again.
    fn clear_stack(&mut self, _: ChildId) {}

    /// Whether children that are other programs live on when this process becomes a new one.
    fn keeps_programs(&self) -> bool {
        true
    }
    /// Runs another program, with this state, to see whether it could take it over; without a path the
    /// file from which this program was started.
    fn begin_trial(&mut self, _: Option<&Path>, _: &mut Snapshot) -> Result<(), Error> {
        Err(unsupported())
    }
    /// What is known of the trial.
    fn trial(&mut self) -> Trial {
        Trial::Gone
    }
    /// Kills the process of the trial.
    fn end_trial(&mut self) {}
    /// Forgets a trial: the upgrade is over.
    fn forget_trial(&mut self) {}
    /// Adds to a state what the system knows of it, and all descriptors that are handed on besides those
    /// that it lists already, by number and role.
    fn save(&self, _: &mut Snapshot) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Replaces this process, or the holder that it has, by the program of the trial, or by the one that
    /// was here before if the state says why. Returns only if that fails; `None` if the state is not
    /// up to date any more.
    fn become_program(&mut self, _: &Snapshot) -> Option<Error> {
        Some(unsupported())
    }
    /// The program that was here before is not needed any more.
    fn forget_image(&mut self) {}
    /// Notes a connection on which the outcome of an upgrade is told.
    fn add_asker(&mut self, _: Box<dyn Any>) {}
    /// Tells the outcome of an upgrade that does not begin to the client that has asked for it.
    fn answer_asker(&mut self, _: Box<dyn Any>, _outcome: &str) {}
    /// Tells all that wait for the outcome of an upgrade.
    fn answer_askers(&mut self, _outcome: &str) {}

    /// Where to note what a parent after this one is to know, if there is a process that starts another
    /// when this one is gone.
    #[cfg(feature = "holder")]
    fn journal(&self) -> Option<&dyn PoolJournal> {
        None
    }

    /// Releases what belongs to the whole process, such as its signal handlers, at the end of the
    /// server.
    fn close(&mut self);
}

fn unsupported() -> Error {
    let reason = io::ErrorKind::Unsupported.into();
    Error::new(Operation::Upgrade, "on this system", reason)
}
