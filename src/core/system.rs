//! What the loop asks of the world: the clock, waiting, forks, the children's pipes and processes, the
//! board, its own output. Names it; `sys::UnixSystem` does it, and the simulation's model does.

use super::{
    child::{ChildId, Signal, WaitStatus},
    comm::Interval,
    error::Error,
    queue::PrintTo,
    signal_policy::Arrived,
    states::{Watch, WatchId},
    time::Time,
    wire::Entry,
};
use std::{fmt, io, time::Duration};

/// One of the pipes from a child to its parent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pipe {
    Stdout,
    Stderr,
    /// The private channel for words.
    Comm,
}

impl Pipe {
    pub(crate) const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::Comm];
}

/// A child as an event names it: by its slot and as much of its serial as a poller's token has room for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Told {
    pub(crate) slot: usize,
    pub(crate) serial: u32,
}

impl Told {
    /// On 32 bits a token has room for half of the serial.
    const ROOM: usize = usize::MAX >> (usize::BITS / 2);

    pub(crate) fn of(id: ChildId) -> Self {
        Self {
            slot: id.slot(),
            serial: id.serial(),
        }
    }

    pub(crate) fn is(self, id: ChildId) -> bool {
        self.slot == id.slot() && self.serial as usize == id.serial() as usize & Self::ROOM
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    Pipe(Told, Pipe),
    /// A descriptor of the subclass's own.
    Watch(u64),
    Signals,
}

/// A source that is ready, and whether the other side has hung up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) source: Source,
    pub(crate) hung_up: bool,
}

/// What a turn begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wait {
    /// Everything ends it, or so much time.
    ForAnything(Option<Duration>),
    /// Words pile up for so long, or until something urgent has come; then everything is looked at.
    /// Meanwhile the parent's promise to look stands on the board.
    ForWords(Duration),
}

/// What one read of a pipe has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    Bytes(usize),
    Nothing,
    End,
}

/// What waiting for a child has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reaped {
    /// It lives.
    Not,
    /// It has ended; `None` if somebody else has collected its status.
    Ended(Option<WaitStatus>),
    /// It has ended likewise, and what it has started lives on in its process group.
    Outlived(Option<WaitStatus>),
}

/// The process of one child, and the parent's ends of its pipes.
pub(crate) trait Process: fmt::Debug {
    /// Reads once, without blocking.
    fn read(&mut self, pipe: Pipe, buffer: &mut [u8]) -> io::Result<Found>;
    /// How many bytes stand in a pipe now.
    fn pending(&self, pipe: Pipe) -> io::Result<usize>;
    /// Closes one end, and watches it no more.
    fn close(&mut self, pipe: Pipe);
    /// Sends a signal, to the whole process group if it leads one; nothing is sent to a process that is
    /// not known to be this child, or of its group.
    fn signal(&self, signal: Signal) -> io::Result<()>;
    /// Collects the status if it has ended. Of one that was outlived it is said again until nobody is left.
    fn reap(&self) -> io::Result<Reaped>;
}

/// What a fork needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkTerms {
    /// What the child will be called.
    pub(crate) id: ChildId,
    /// Whether its words have a pipe of their own.
    pub(crate) private: bool,
    /// Whether it leads a process group.
    pub(crate) group: bool,
    /// What it is sent in place of SIGINT.
    pub(crate) stop_signal: Signal,
}

/// In which process a fork has returned.
pub(crate) enum Forked<P, N> {
    Parent {
        pid: u32,
        process: P,
        /// Whether its pipes could be watched.
        watched: io::Result<()>,
    },
    Child(N),
}

/// The loop's whole view of the world. Nothing here blocks but `wait`.
pub(crate) trait System {
    /// What a fork gives in the child.
    type Newborn;
    /// What it gives in the parent.
    type Process: Process + 'static;

    fn now(&self) -> Time;

    /// Whether this process is the one that is to run the loop, and not a copy of it. The first turn
    /// [takes possession](Self::take_possession): a program may become a daemon before that.
    fn is_owner(&self) -> bool;
    /// True the first time.
    fn take_possession(&mut self) -> bool;

    /// Waits, and collects what is ready.
    fn wait(&mut self, wait: Wait, ready: &mut Vec<Ready>) -> Result<(), Error>;
    /// Has a signal handled, which leads to a state of the subclass's.
    fn lead(&mut self, signal: Signal) -> Result<(), Error>;
    /// Which signals have come; `woken` if something was ready that says so.
    fn signals(&mut self, woken: bool) -> Arrived;

    /// Fails where the process has more than one thread.
    fn check_threads(&self) -> Result<(), Error>;
    fn fork(&mut self, terms: ForkTerms) -> Result<Forked<Self::Process, Self::Newborn>, Error>;
    /// Whether a fork that failed so may succeed later.
    fn is_passing(&self, error: &io::Error) -> bool;
    /// The pid of some child process that has ended and was not reaped, ours or the program's own.
    fn peek(&mut self) -> Option<u32>;

    /// What a child has noted on the board.
    fn noted(&self, slot: usize) -> Entry;
    /// Sets a child's entry, before its fork and after its end. False if the board has no such slot.
    fn set_noted(&mut self, slot: usize, entry: Entry) -> bool;
    /// How many connections it has noted there.
    fn requests(&self, slot: usize) -> u64;
    /// Asks the children for ACKs at that interval.
    fn ask_interval(&mut self, interval: Interval);
    /// The interval that a child has noted there, if it has.
    fn kept_interval(&self, slot: usize) -> Option<Interval>;

    /// Queues bytes for the parent's own output.
    fn print(&mut self, to: PrintTo, bytes: &[u8]);
    /// Writes what the outputs take now. How many bytes were dropped since last asked.
    fn flush(&mut self) -> u64;
    /// Whether output waits for a reader.
    fn is_printing(&self) -> bool;
    /// Drops what waits. How many bytes that was, and what was dropped since last asked.
    fn give_up_printing(&mut self) -> u64;

    /// Watches a descriptor of the subclass's own.
    fn watch(&mut self, watch: Watch) -> io::Result<()>;
    fn unwatch(&mut self, id: WatchId);
    /// The state of a watched descriptor that is ready. It is reported again while it stays so.
    fn watched_state(&self, number: u64) -> Option<&str>;

    /// Has the children see that their parent goes.
    fn end_death_watch(&mut self);
    /// Lets go of what belongs to the whole process, its signals among them: the end of the server.
    fn close(&mut self);
}
