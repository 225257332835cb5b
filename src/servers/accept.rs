//! Performs the accept loop that the stock servers share: one connection at a time. `core/accept`
//! decides what comes next; this file makes the system calls and decides nothing.

mod finding;
mod serving;
mod shedder;

use super::{
    admission::Admission,
    conn::{Conn, Stream},
    ending::Ends,
    reserve::Reserve,
};
use crate::{
    core::{
        accept::{
            AcceptConfig, AcceptMachine, Action, Observation, Wakeups, refusal::Refusal,
            shortage::Shortage,
        },
        draining::ChildDrain,
        time::Time,
    },
    hooks::comm::Comm,
    listeners::Listener,
    sys::{accept::Newcomer, fd_registry::Registered},
};
use std::{cell::RefCell, io, os::fd::OwnedFd, rc::Rc, time::Duration};

pub(super) type Handler<S> = Box<dyn FnMut(Conn<S>) -> io::Result<()>>;

/// Looks at a connection before the handler gets it. False closes the connection, which then does
/// not count.
pub(super) type HeaderCheck<S> = Box<dyn FnMut(&mut Conn<S>) -> bool>;

/// The listening sockets: closed as soon as the child finds that the parent is gone.
pub(super) type SharedListeners = Rc<RefCell<Vec<Registered<OwnedFd>>>>;

/// What a child takes connections from, and what it does with them.
pub(super) struct Acceptor<'a, L: Listener> {
    pub(super) config: AcceptConfig,
    pub(super) admission: Admission<L::Stream>,
    /// The hooks and the log that are told how connections end, if there are any.
    pub(super) ends: Option<Rc<Ends>>,
    pub(super) header_check: Option<HeaderCheck<L::Stream>>,
    pub(super) kind: &'a L,
    pub(super) listeners: SharedListeners,
    pub(super) handler: Handler<L::Stream>,
    pub(super) comm: &'a Comm,
    /// For how long connections block by themselves, if they do: see `Conn`.
    pub(super) first_wait: Option<Duration>,
    pub(super) requests_handled: &'a mut u64,
    /// The number of the connection at which the child asks to be replaced.
    pub(super) replaced_after: Option<u64>,
    /// If this is the reserved child.
    pub(super) reserve: Option<Rc<Reserve>>,
}

impl<L: Listener<Stream: Stream>> Acceptor<'_, L> {
    /// Serves until told to stop, the limit is reached, or the parent is gone.
    pub(super) fn run(mut self) -> io::Result<()> {
        let reserve = self.reserve.take();
        let run = AcceptLoop {
            machine: AcceptMachine::new(self.config),
            acceptor: self,
            next: 0,
            in_hand: None,
            clock: None,
            drain: ChildDrain::default(),
            check_ins: 0,
            shortage: Shortage::default(),
        };
        match reserve {
            Some(reserve) => run.run_reserved(&reserve),
            None => run.run(),
        }
    }
}

/// After how many connections a child that need not wait looks whether its parent is gone.
const LOOK_FOR_PARENT_EVERY: u32 = 64;

/// A connection that was accepted.
struct AcceptedConn {
    connection: Newcomer,
    /// Why it is not to be served, if so.
    refusal: Option<Refusal>,
}

struct AcceptLoop<'a, L: Listener> {
    acceptor: Acceptor<'a, L>,
    machine: AcceptMachine,
    /// The listener to try first: the one after that served last, so that a busy one does not
    /// starve the others.
    next: usize,
    /// The connection that was found, until it is served.
    in_hand: Option<AcceptedConn>,
    /// When the last wait or the last connection ended.
    clock: Option<Time>,
    /// Until when the child takes queued connections, once it was told to stop.
    drain: ChildDrain,
    /// How often it has looked what the parent wants, modulo 2^32.
    check_ins: u32,
    shortage: Shortage,
}

impl<L: Listener<Stream: Stream>> AcceptLoop<'_, L> {
    fn run(mut self) -> io::Result<()> {
        self.keep_nonblocking()?;
        let mut seen = self.check_in(false);
        loop {
            seen = match self.machine.step(seen) {
                Action::CheckIn { say_not_busy } => self.check_in(say_not_busy),
                Action::Accept { attempt, wakeups } => self.accept(attempt, wakeups)?,
                Action::WaitInAccept => self.wait_in_accept()?,
                Action::WaitInEpoll => self.wait_in_epoll()?,
                Action::Serve {
                    wakeups,
                    look_first,
                } => match self.refusal(look_first) {
                    None => self.serve(wakeups),
                    Some(refusal) => self.refuse(refusal),
                },
                Action::Drain { attempt } => self.drain(attempt)?,
                Action::Leave => return Ok(()),
            };
        }
    }

    fn check_in(&mut self, say_not_busy: bool) -> Observation {
        if say_not_busy {
            self.say(Comm::not_busy);
        }
        self.check_ins = self.check_ins.wrapping_add(1);
        // Under load no wait may see the parent's end, and no word may be due.
        if self.check_ins.is_multiple_of(LOOK_FOR_PARENT_EVERY) {
            self.acceptor.comm.look_for_parent();
        }
        if self.acceptor.comm.shutdown_requested() {
            return self.told_to_stop();
        }
        // Under load there is always another connection, so no wait sends the ACK.
        self.say(|comm| comm.attend_at(self.clock));
        Observation::GoOn
    }

    /// A shutdown bounds how long the child serves what is queued; while the server goes on, it
    /// leaves that to the other children.
    fn told_to_stop(&mut self) -> Observation {
        let comm = self.acceptor.comm;
        match self.drain.lasts(comm.drain_timeout(), comm.now()) {
            true => Observation::ToldToStop,
            false => Observation::ToldLongAgo,
        }
    }

    fn settle(&self, wakeups: Wakeups) {
        if wakeups == Wakeups::LeftToOthers {
            self.acceptor.comm.leave_wakeups();
        }
    }

    /// The time since the end of the last wait or connection; `None` in a new child, where the
    /// first reading of the clock costs more than it is worth.
    fn lap(&mut self) -> Option<Duration> {
        let now = self.acceptor.comm.now();
        self.clock.replace(now).map(|before| now.since(before))
    }

    /// A failure to say a word is no reason to drop a client: if the parent is gone, the next wait
    /// notices.
    fn say(&self, word: impl FnOnce(&Comm) -> io::Result<()>) {
        if let Err(error) = word(self.acceptor.comm) {
            log::debug!("the parent cannot be reached: {error}");
        }
    }
}
