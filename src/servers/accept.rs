//! Performs the accept loop that the stock servers share: one connection at a time. `core/accept`
//! decides what comes next; this file makes the system calls and decides nothing.

mod shedder;

use super::{
    admission::Admission,
    conn::{Conn, ConnContext, Metered, Stream},
    ending::{Ends, WatchedConn},
    reserve::Reserve,
};
use crate::{
    core::{
        accept::{
            AcceptConfig, AcceptMachine, Action, Observation,
            refusal::Refusal,
            shortage::{RetryPause, Shortage},
        },
        conn_end::Outcome,
        time::Time,
    },
    hooks::{comm::Comm, server::complain},
    listeners::Listener,
    sys::{
        accept::Newcomer,
        atfork,
        blame::is_the_clients,
        fd_registry::Registered,
        hangup::{self, Hangup},
        link::Wake,
        sockets::{self, Accepted, Blocking},
    },
};
use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

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
            drains_until: None,
            shortage: Shortage::default(),
        };
        match reserve {
            Some(reserve) => run.run_reserved(&reserve),
            None => run.run(),
        }
    }
}

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
    drains_until: Option<Time>,
    shortage: Shortage,
}

impl<L: Listener<Stream: Stream>> AcceptLoop<'_, L> {
    fn run(mut self) -> io::Result<()> {
        self.keep_nonblocking()?;
        let mut seen = self.check_in(false);
        loop {
            seen = match self.machine.step(seen) {
                Action::CheckIn { say_not_busy } => self.check_in(say_not_busy),
                Action::Accept {
                    look_first,
                    leave_wakeups,
                } => self.accept(look_first, leave_wakeups)?,
                Action::WaitInAccept => self.wait_in_accept()?,
                Action::WaitInEpoll => self.wait_in_epoll()?,
                Action::Serve {
                    leave_wakeups,
                    look_first,
                } => match self.refusal(look_first) {
                    None => self.serve(leave_wakeups),
                    Some(refusal) => self.refuse(refusal),
                },
                Action::Drain { look_first } => self.drain(look_first)?,
                Action::Leave => return Ok(()),
            };
        }
    }

    fn check_in(&mut self, say_not_busy: bool) -> Observation {
        if say_not_busy {
            self.say(Comm::not_busy);
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
        let now = comm.now();
        let until = self
            .drains_until
            .get_or_insert_with(|| now + comm.drain_timeout());
        if *until <= now {
            Observation::ToldLongAgo
        } else {
            Observation::ToldToStop
        }
    }

    fn drain(&mut self, look_first: bool) -> io::Result<Observation> {
        // Without a parent the listeners are closed, or will be.
        if self.acceptor.comm.is_orphaned() || self.acceptor.comm.is_leaving() {
            return Ok(Observation::NothingQueued);
        }
        self.keep_nonblocking()?;
        self.accept(look_first, false)
    }

    fn accept(&mut self, look_first: bool, leave_wakeups: bool) -> io::Result<Observation> {
        if leave_wakeups {
            self.acceptor.comm.leave_wakeups();
        }
        let count = self.count();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            if self.try_accept(index, look_first)? {
                self.next = index + 1;
                return Ok(Observation::Found);
            }
        }
        Ok(Observation::NothingQueued)
    }

    fn wait_in_accept(&mut self) -> io::Result<Observation> {
        self.say(Comm::not_busy);
        let found = self.try_accept(0, false)?;
        let took = self.lap();
        Ok(Observation::WaitedInAccept { found, took })
    }

    fn wait_in_epoll(&mut self) -> io::Result<Observation> {
        self.say(Comm::not_busy);
        let wake = self.wait()?;
        let after = self.lap();
        self.keep_nonblocking()?;
        Ok(match wake {
            Wake::Ready => Observation::Woken { after },
            Wake::Stop | Wake::Timer => Observation::NotWoken,
        })
    }

    fn wait(&self) -> io::Result<Wake> {
        match &self.acceptor.listeners.borrow()[..] {
            // The usual case needs no allocation for each connection.
            [listener] => self.acceptor.comm.wait(&[listener.as_fd()]),
            many => {
                let fds: Vec<_> = many.iter().map(|listener| listener.as_fd()).collect();
                self.acceptor.comm.wait(&fds)
            }
        }
    }

    fn serve(&mut self, leave_wakeups: bool) -> Observation {
        let connection = self.in_hand.as_ref().map(|in_hand| &in_hand.connection);
        let peer = connection.and_then(|connection| connection.remote);
        let queued = connection.and_then(|connection| connection.queued);
        self.say(|comm| comm.busy_after(self.clock, peer));
        if let Some(queued) = queued {
            self.acceptor.comm.note_queued(queued);
        }
        if leave_wakeups {
            self.acceptor.comm.leave_wakeups();
        }
        // A child that has not read the clock yet is new, and its first ACK is recent.
        if self.clock.is_some() {
            self.say(|comm| comm.begin(self.clock));
        }
        if let Some(in_hand) = self.in_hand.take() {
            self.check_header(in_hand.connection);
        }
        self.acceptor.comm.end_connection();
        let took = self.lap();
        if self.acceptor.comm.is_leaving() {
            return Observation::ServedLast;
        }
        Observation::Served {
            took,
            number: *self.acceptor.requests_handled,
        }
    }

    /// Why the connection in hand is not to be served. With `look_first` also if its client has
    /// reset it while it was queued.
    fn refusal(&self, look_first: bool) -> Option<Refusal> {
        let in_hand = self.in_hand.as_ref()?;
        self.unless_gone(in_hand.refusal, look_first)
    }

    /// A refusal of the connection in hand, or that its client has gone, who needs no answer.
    fn unless_gone(&self, refusal: Option<Refusal>, look_first: bool) -> Option<Refusal> {
        let in_hand = self.in_hand.as_ref()?;
        let looks = refusal.map_or(look_first, Refusal::has_an_answer);
        let has_gone = looks && hangup::look(&in_hand.connection.stream) == Hangup::Whole;
        if has_gone {
            Some(Refusal::Gone)
        } else {
            refusal
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Observation {
        log::debug!("a connection is not served: {refusal}");
        self.acceptor.admission.count(refusal);
        self.acceptor.comm.end_connection();
        if let Some(in_hand) = self.in_hand.take() {
            let queued = in_hand.connection.queued;
            self.acceptor.comm.note_refused(refusal, queued);
            let watched = self.watch(&in_hand.connection, 0);
            if refusal.has_an_answer() {
                let number = *self.acceptor.requests_handled;
                let conn = self.conn(in_hand.connection, number, &watched);
                note_end(self.acceptor.admission.shed(conn));
            }
            end(watched, Outcome::Refused(refusal));
        }
        self.lap();
        Observation::Skipped
    }

    /// Begins to look at a connection, if anybody is told of its end.
    fn watch(&self, connection: &Newcomer, number: u64) -> Option<WatchedConn> {
        let ends = self.acceptor.ends.as_ref()?;
        Some(ends.begin(connection, number))
    }

    /// Counts a connection. Near its limit the child asks to be replaced before it serves, so that
    /// the successor starts meanwhile.
    fn count_connection(&mut self) {
        *self.acceptor.requests_handled += 1;
        if self.acceptor.replaced_after == Some(*self.acceptor.requests_handled) {
            self.say(Comm::ask_for_replacement);
        }
    }

    /// Hands a connection to the handler, unless its header is refused; then it does not count.
    fn check_header(&mut self, connection: Newcomer) {
        let number = *self.acceptor.requests_handled + 1;
        let mut watched = self.watch(&connection, number);
        let mut conn = self.conn(connection, number, &watched);
        let check = self.acceptor.header_check.as_mut();
        let admits = check.is_none_or(|admits| admits(&mut conn));
        if let Some(watched) = &mut watched {
            watched.note_client(&conn);
        }
        if !admits {
            return end(watched, Outcome::NoHeader);
        }
        self.count_connection();
        let outcome = self.handle(conn);
        end(watched, outcome);
    }

    fn handle(&mut self, conn: Conn<L::Stream>) -> Outcome {
        let served = (self.acceptor.handler)(conn);
        // The child may wait next, for long.
        atfork::connection_is_over();
        note_end(served)
    }

    fn conn(
        &self,
        connection: Newcomer,
        number: u64,
        watched: &Option<WatchedConn>,
    ) -> Conn<L::Stream> {
        let meter: Metered = watched.as_ref().map(WatchedConn::meter);
        let acceptor = &self.acceptor;
        let place = ConnContext {
            comm: acceptor.comm.share(),
            listeners: Rc::clone(&acceptor.listeners),
            number,
            first_wait: acceptor.first_wait,
            meter,
        };
        Conn::new(connection, place)
    }

    fn count(&self) -> usize {
        self.acceptor.listeners.borrow().len()
    }

    /// Whether there is a connection in hand now.
    fn try_accept(&mut self, index: usize, look_first: bool) -> io::Result<bool> {
        let blocking = match self.acceptor.first_wait {
            Some(_) => Blocking::Allowed,
            None => Blocking::Never,
        };
        let accepted = match self.acceptor.listeners.borrow().get(index) {
            Some(listener) if look_first && !sockets::is_queued(&**listener)? => return Ok(false),
            Some(listener) => sockets::accept(&**listener, blocking),
            None => Accepted::Nothing,
        };
        match accepted {
            Accepted::Connection(connection) => {
                self.shortage.end();
                self.in_hand = Some(self.judge(index, connection));
            }
            Accepted::Nothing => {}
            Accepted::Exhausted(error) => {
                let pause = self.shortage.exhausted();
                self.back_off(pause, &error)?;
            }
            Accepted::Forbidden(error) => {
                if let Some(pause) = self.shortage.forbidden() {
                    self.back_off(pause, &error)?;
                }
            }
            // The parent has closed it.
            Accepted::Broken(_) if self.acceptor.comm.shutdown_requested() => {}
            Accepted::Broken(error) => return Err(error),
        }
        Ok(self.in_hand.is_some())
    }

    fn judge(&mut self, listener: usize, mut connection: Newcomer) -> AcceptedConn {
        let Acceptor {
            admission,
            kind,
            comm,
            ..
        } = &mut self.acceptor;
        admission.count_taken(listener);
        admission.measure(*kind, &mut connection);
        if let Some(queued) = connection.queued {
            comm.count_queued(listener, queued);
        }
        let refusal = admission.refusal(listener, &connection, comm);
        AcceptedConn {
            connection,
            refusal,
        }
    }

    fn back_off(&self, pause: RetryPause, error: &io::Error) -> io::Result<()> {
        if pause.is_first {
            complain!("cannot accept for now: {error}");
        }
        self.acceptor.comm.pause(pause.duration)
    }

    /// A library that gets a wrong descriptor may set the listeners to blocking mode, for all
    /// children, and a child that is stuck in accept sends no ACK. The mode is checked before
    /// attempts that probably find nothing; under load there are none. A listener with a timeout
    /// needs no check: accept(2) respects the timeout, so an attempt that blocks ends soon.
    fn keep_nonblocking(&self) -> io::Result<()> {
        if self.acceptor.first_wait.is_some() || self.acceptor.config.blocks {
            return Ok(());
        }
        for listener in self.acceptor.listeners.borrow().iter() {
            if sockets::keep_nonblocking(&**listener)? {
                complain!("somebody has set a listening socket to blocking mode; set back");
            }
        }
        Ok(())
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

/// What the code for a connection has returned.
fn note_end(result: io::Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Served,
        // The client caused it: not worth a line on stderr.
        Err(error) if is_the_clients(&error) => {
            log::debug!("connection ended: {error}");
            Outcome::Lost
        }
        Err(error) => {
            complain!("connection failed: {error}");
            Outcome::Failed
        }
    }
}

/// Tells those who are to be told.
fn end(watched: Option<WatchedConn>, outcome: Outcome) {
    if let Some(watched) = watched {
        watched.end(outcome);
    }
}
