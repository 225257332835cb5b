//! The accept loop that the stock servers share: one connection at a time, and the rules by which
//! none is left behind.

pub(super) mod order;
mod queue;

use self::{order::Stance, queue::Queue};
use super::conn::{Conn, Stream};
use crate::{
    core::time::Time,
    hooks::{comm::Comm, server::complain},
    sys::{
        accept::Newcomer,
        blame::is_the_clients,
        fd_registry::Ours,
        hangup::{self, Hangup},
        link::Wake,
        sockets::{self, Accepted, Blocking},
    },
};
use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, AsRawFd},
    rc::Rc,
    time::Duration,
};

/// For how long an operation on a socket of ours blocks by itself. Long enough for a client that is
/// not slow; an ACK, or the notice that the parent is gone, may be late by as much.
pub(super) const BRIEFLY: Duration = Duration::from_millis(20);

pub(super) type Handler<S> = Box<dyn FnMut(Conn<S>) -> io::Result<()>>;

/// How a child takes connections, and how many it has taken.
#[derive(Debug)]
pub(super) struct Terms {
    /// After so many it leaves; 0 for no limit.
    pub(super) max_requests: u64,
    pub(super) requests_handled: u64,
    /// For how long connections block by themselves, if they do: see `Conn`.
    pub(super) first_wait: Option<Duration>,
    /// Whether the listener blocks, for `BRIEFLY`, so that children can wait in accept.
    pub(super) blocks: bool,
    /// Whether that is where idle children wait, too.
    pub(super) takes_turns: bool,
}

impl Terms {
    fn limit_reached(&self) -> bool {
        self.max_requests != 0 && self.requests_handled >= self.max_requests
    }
}

pub(super) struct AcceptLoop<'a, S, L: AsRawFd> {
    terms: &'a mut Terms,
    handler: Handler<S>,
    listeners: Rc<RefCell<Vec<Ours<L>>>>,
    comm: &'a Comm,
    /// The listener to try first: the one after that served last, so that a busy one does not
    /// starve the others.
    next: usize,
    stance: Stance,
    queue: Queue,
    /// Whether the last connection took long.
    long: bool,
    /// Whether a wait has ended because there is something to accept, unless somebody was faster.
    woken: bool,
    /// Whether it has waited for the last connection.
    waited: bool,
    clock: Option<Time>,
    /// How long to pause for want of descriptors, memory or permission, while that lasts.
    shortage: Option<Duration>,
    /// How many connections in a row were forbidden.
    forbidden: u32,
}

impl<'a, S: Stream, L: AsFd + AsRawFd> AcceptLoop<'a, S, L> {
    /// After so many that were forbidden it is taken that all are.
    const ALL: u32 = 64;
    /// A connection that takes so long is worth two system calls to get out of the way of others.
    const LONG: Duration = Duration::from_millis(1);

    pub(super) fn new(
        terms: &'a mut Terms,
        handler: Handler<S>,
        listeners: Rc<RefCell<Vec<Ours<L>>>>,
        comm: &'a Comm,
    ) -> Self {
        Self {
            stance: Stance::new(terms.takes_turns),
            queue: Queue::new(terms.blocks),
            terms,
            handler,
            listeners,
            comm,
            next: 0,
            long: false,
            woken: false,
            waited: false,
            clock: None,
            shortage: None,
            forbidden: 0,
        }
    }

    /// Looks for a connection before it ever waits: a newcomer may follow a child that died with a wake-up
    /// in its hands.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.keep_nonblocking()?;
        while !self.comm.shutdown_requested() {
            // Under load there is always another connection, and never a wait.
            self.say(|comm| comm.attend_at(self.clock));
            let connection = match self.accept()? {
                Some(connection) => Some(connection),
                None => {
                    self.say(Comm::not_busy);
                    self.wait()?
                }
            };
            if let Some(connection) = connection {
                self.handle(connection);
                if self.terms.limit_reached() || self.comm.is_leaving() {
                    return Ok(());
                }
                if !self.comm.coalesces() {
                    self.say(Comm::not_busy);
                }
            }
        }
        self.keep_nonblocking()?;
        self.last_round()
    }

    /// Some sibling may have made the listeners block, in which it is enough that one library of its
    /// handler is told of a wrong descriptor. A child that is stuck in accept sends no ACK. Looked at
    /// before the attempts that are likely to be in vain; under load there are none. A listener with a
    /// timeout needs no look: accept(2) obeys it as well, and an attempt that blocks ends soon.
    fn keep_nonblocking(&self) -> io::Result<()> {
        if self.terms.first_wait.is_some() || self.terms.blocks {
            return Ok(());
        }
        for listener in self.listeners.borrow().iter() {
            if sockets::keep_nonblocking(&**listener)? {
                complain!("somebody has set a listening socket to blocking mode; set back");
            }
        }
        Ok(())
    }

    /// Told to stop: a wake-up for a connection may have been spent on this child, so it looks at
    /// each listener once more.
    fn last_round(&mut self) -> io::Result<()> {
        let count = self.listeners.borrow().len();
        for index in 0..count {
            // Without a parent the listeners are closed, or are to be.
            if self.comm.is_orphaned() {
                break;
            }
            if self.terms.blocks && !self.is_queued(index)? {
                continue;
            }
            if let Some(connection) = self.try_accept(index)? {
                self.handle(connection);
            }
        }
        Ok(())
    }

    /// Waits for a connection, in one of two ways; only one of them yields it at once.
    fn wait(&mut self) -> io::Result<Option<Newcomer>> {
        let in_line = self.stance.in_line();
        if in_line || self.queue.has_ended() {
            let found = self.try_accept(0)?;
            if found.is_none() {
                self.stance.leave();
            }
            let took = self.lap();
            self.waited = in_line && took.is_some_and(|took| took >= Queue::A_WAIT);
            return Ok(found);
        }
        self.wait_outside()?;
        self.keep_nonblocking()?;
        Ok(None)
    }

    fn wait_outside(&mut self) -> io::Result<()> {
        let listeners = self.listeners.borrow();
        let wake = match &listeners[..] {
            // Without an allocation for each connection.
            [listener] => self.comm.wait(&[listener.as_fd()])?,
            many => {
                let fds: Vec<_> = many.iter().map(|listener| listener.as_fd()).collect();
                self.comm.wait(&fds)?
            }
        };
        self.woken = wake == Wake::Ready;
        drop(listeners);
        let took = self.lap();
        self.waited = self.woken && took.is_some_and(|took| took >= Queue::A_WAIT);
        if self.woken && took.is_some_and(|took| self.stance.woken(took, BRIEFLY)) {
            // Whoever has waited outside goes before those in line.
            self.comm.stand_aside();
        }
        Ok(())
    }

    /// Whether a look at a listener comes before the attempt to accept. One in vain costs ten times as
    /// much as a look: accept(2) makes a socket and a file before it looks itself. So only a child that
    /// was woken, or that has found one connection after the other, does without.
    ///
    /// Where the listener blocks, it waits if that is in vain, in line behind those who are idle: the latter while
    /// its last word was BUSY, briefly. The clock shows it afterwards, and then it looks again.
    fn looks_first(&self) -> bool {
        !self.woken && self.queue.looks_first()
    }

    /// Takes a connection that is queued.
    fn accept(&mut self) -> io::Result<Option<Newcomer>> {
        if !self.woken && std::mem::take(&mut self.waited) {
            // It has waited for the last one, so there is hardly another. If there is, the wait ends at
            // once: each looks before it sleeps.
            self.queue.forget();
            return Ok(None);
        }
        let count = self.listeners.borrow().len();
        let look_first = self.looks_first();
        let woken = std::mem::take(&mut self.woken);
        let mut found = None;
        for offset in 0..count {
            let index = (self.next + offset) % count;
            if look_first && !self.is_queued(index)? {
                continue;
            }
            found = self.try_accept(index)?;
            if found.is_some() {
                self.next = index + 1;
                break;
            }
        }
        if self.queue.tried(found.is_some(), woken) {
            self.comm.stand_aside();
        }
        Ok(found)
    }

    fn is_queued(&self, index: usize) -> io::Result<bool> {
        match self.listeners.borrow().get(index) {
            Some(listener) => sockets::is_queued(&**listener),
            None => Ok(false),
        }
    }

    fn try_accept(&mut self, index: usize) -> io::Result<Option<Newcomer>> {
        let blocking = match self.terms.first_wait {
            Some(_) => Blocking::Allowed,
            None => Blocking::Never,
        };
        let accepted = match self.listeners.borrow().get(index) {
            Some(listener) => sockets::accept(&**listener, blocking),
            None => Accepted::Nothing,
        };
        match accepted {
            Accepted::Connection(connection) => {
                self.shortage = None;
                self.forbidden = 0;
                Ok(Some(connection))
            }
            Accepted::Nothing => Ok(None),
            Accepted::Exhausted(error) => self.sit_out(&error).map(|()| None),
            Accepted::Forbidden(error) => {
                self.forbidden = self.forbidden.saturating_add(1);
                // One by one they are no business of the other clients'.
                if self.forbidden < Self::ALL {
                    return Ok(None);
                }
                self.sit_out(&error).map(|()| None)
            }
            Accepted::Broken(error) => Err(error),
        }
    }

    /// For want of descriptors, memory or permission: no spinning, and one line an episode.
    fn sit_out(&mut self, error: &io::Error) -> io::Result<()> {
        const SHORTEST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(1);
        let pause = match self.shortage {
            Some(pause) => pause.saturating_mul(2).min(LONGEST),
            None => {
                complain!("cannot accept for now: {error}");
                SHORTEST
            }
        };
        self.shortage = Some(pause);
        self.comm.pause(pause)
    }

    fn handle(&mut self, connection: Newcomer) {
        if self.is_in_vain(&connection) {
            return log::debug!("a client has gone before it was served");
        }
        self.say(Comm::busy);
        // The best guess at how long it will take is how long the last one took.
        if self.long {
            self.comm.stand_aside();
        }
        self.terms.requests_handled += 1;
        let conn = Conn::new(
            connection,
            self.comm.share(),
            self.terms.requests_handled,
            self.terms.first_wait,
        );
        match (self.handler)(conn) {
            Ok(()) => {}
            // Clients come and go; that is no news.
            Err(error) if is_the_clients(&error) => log::debug!("connection ended: {error}"),
            Err(error) => complain!("connection failed: {error}"),
        }
        let took = self.lap();
        self.long = took.is_some_and(|took| took >= Self::LONG);
        self.queue.took(took);
    }

    /// Whether nobody waits for an answer any more. Where handlers take long, clients give up while they are
    /// queued; where they do not, a handler that runs in vain costs less than a look at each client.
    fn is_in_vain(&self, connection: &Newcomer) -> bool {
        self.long && hangup::look(&connection.stream) == Hangup::Whole
    }

    /// How long it is since it has last looked at the clock: when a wait or a connection came to its end. A
    /// new child has not, since its first look is dear.
    fn lap(&mut self) -> Option<Duration> {
        let now = self.comm.now();
        self.clock.replace(now).map(|before| now.since(before))
    }

    /// A word that cannot be said is no reason to drop a client: if it is because the parent is
    /// gone, the next wait tells.
    fn say(&self, word: impl FnOnce(&Comm) -> io::Result<()>) {
        if let Err(error) = word(self.comm) {
            log::debug!("the parent cannot be reached: {error}");
        }
    }
}
