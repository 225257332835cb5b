//! The child's end of the wire: what a server says to the parent, and when. Decides which words are
//! due; writing, waiting and the clock are done below.

use crate::{
    core::{
        comm::{Acker, Channel, Interval, Sink},
        time::Time,
        wire::{CommWords, Word},
    },
    sys::link::{Interest, Link, Wake},
};
use std::{
    cell::{Cell, RefCell},
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How long a child waits before it says again what the pipe had no room for.
const SAY_AGAIN: Duration = Duration::from_millis(100);

/// How long a child waits for its client before it gets out of the way of connections for others.
const ASIDE_AFTER: Duration = Duration::from_millis(20);

/// An ACK is fresh for this part of the interval at which they are sent.
const FRESH: u32 = 16;

/// The child's end of the wire, handed to [`ChildServer::resume_accept`](crate::ChildServer::resume_accept).
///
/// A server says `busy` when it has a connection in hand and `not_busy` when it can take one, and
/// waits through [`wait`](Self::wait), which sends the ACKs that are due and never wakes more
/// children for a connection than one.
pub struct Comm {
    shared: Rc<Shared>,
}

struct Shared<L: ?Sized = dyn Link> {
    channel: Arc<Channel>,
    coalesce: bool,
    max_clients: Cell<usize>,
    drain_timeout: Cell<Duration>,
    interval: Cell<Option<Duration>>,
    /// Whether the interval follows what the parent asks for.
    follows: Cell<bool>,
    next_ack: Cell<Option<Time>>,
    /// Whether the child is to leave after the connection in hand, by its own wish.
    leaves: Cell<bool>,
    when_orphaned: RefCell<Vec<Box<dyn FnOnce()>>>,
    orphaned: Cell<bool>,
    when_told_to_stop: RefCell<Vec<Box<dyn FnOnce()>>>,
    /// What sends an ACK that is due; while it runs, and by default, there is none here.
    send_ack: RefCell<Option<SendAck>>,
    link: L,
}

type SendAck = Box<dyn FnMut(&Comm) -> io::Result<()>>;

impl Comm {
    pub(crate) fn new(
        link: impl Link + 'static,
        sink: impl Sink + 'static,
        words: CommWords,
        coalesce: bool,
    ) -> Self {
        Self {
            shared: Rc::new(Shared {
                channel: Arc::new(Channel::new(sink, words)),
                coalesce,
                max_clients: Cell::new(usize::MAX),
                drain_timeout: Cell::default(),
                interval: Cell::new(None),
                follows: Cell::new(false),
                next_ack: Cell::new(None),
                leaves: Cell::new(false),
                when_orphaned: RefCell::default(),
                orphaned: Cell::new(false),
                when_told_to_stop: RefCell::default(),
                send_ack: RefCell::default(),
                link,
            }),
        }
    }

    /// Another handle to the same end.
    pub(crate) fn share(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
        }
    }

    /// Says that the child is alive, now; the next ACK that is due by itself is an interval away.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached, which mostly means that it is gone. That a full pipe had
    /// no room for it is no error: the word is said again later.
    pub fn ack(&self) -> io::Result<()> {
        let shared = &self.shared;
        shared.next_ack.set(
            shared
                .interval
                .get()
                .map(|interval| shared.link.now() + interval),
        );
        shared.channel.say(Word::Ack)
    }

    /// Says that the child has a connection in hand, unless that was its last word. Each call counts one
    /// connection for [`Child::requests`](crate::Child::requests).
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn busy(&self) -> io::Result<()> {
        self.shared.channel.sink().count_request();
        self.shared.channel.set_busy(true)
    }

    /// Says that the child can take a connection, unless that was its last word.
    ///
    /// The first one tells the parent that the start has held, as the first BUSY does: from then on
    /// a death is none of a failed start. [`wait`](Self::wait) says it, if nothing was said before; a
    /// server with a wait of its own says it when it is ready.
    ///
    /// A child that was told to stop says nothing: it will not accept again, and just leaves.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn not_busy(&self) -> io::Result<()> {
        self.shutdown_requested();
        self.shared.channel.set_busy(false)
    }

    /// Whether BUSY was the last word.
    pub fn is_busy(&self) -> bool {
        self.shared.channel.busy.load(Ordering::Relaxed)
    }

    /// Whether a child under load should keep quiet between two connections: the attribute
    /// `coalesce_words`.
    pub fn coalesces(&self) -> bool {
        self.shared.coalesce
    }

    /// How many children there may be at a time: the attribute `max_clients`, as it was at the fork.
    pub fn max_clients(&self) -> usize {
        self.shared.max_clients.get()
    }

    /// How many children of the server have a connection in hand now, this one included: with
    /// [`max_clients`](Self::max_clients) it tells how full the pool is, for a child that is to answer
    /// "full" or to do less.
    ///
    /// It is what the children have noted, so no word to the parent is waited for; one that was killed counts
    /// until the parent has reaped it, some milliseconds later. Programs that
    /// [`ExecServer`](crate::ExecServer) runs are not counted, nor are children for which there was no room
    /// when `max_clients` was raised while the server ran.
    pub fn busy_servers(&self) -> usize {
        self.shared.channel.sink().busy_servers()
    }

    pub(crate) fn set_max_clients(&self, children: usize) {
        self.shared.max_clients.set(children);
    }

    /// For how long the child takes what is queued, once it was told to stop.
    pub(crate) fn drain_timeout(&self) -> Duration {
        self.shared.drain_timeout.get()
    }

    pub(crate) fn set_drain_timeout(&self, timeout: Duration) {
        self.shared.drain_timeout.set(timeout);
    }

    /// Whether the child should leave after the connection in hand: it was told to, the parent is gone, or
    /// [`leave_after_this`](Self::leave_after_this) was called.
    pub fn shutdown_requested(&self) -> bool {
        let leaving = self.shared.link.stop_requested() || self.is_orphaned() || self.is_leaving();
        if leaving {
            self.shared.channel.leaving.store(true, Ordering::Relaxed);
        }
        self.shared.notice_stop();
        leaving
    }

    /// Has the child leave after the connection in hand, of its own wish: it takes no other, and the parent
    /// replaces it, as at `max_requests`. For a child that has lost what it serves with, such as its
    /// connection to a database: a new one makes itself a new one.
    ///
    /// Nothing is said to the parent now, and there is no way back. A server with an accept loop of its own
    /// finds [`shutdown_requested`](Self::shutdown_requested) true from now on.
    pub fn leave_after_this(&self) {
        self.shared.leaves.set(true);
    }

    /// Whether [`leave_after_this`](Self::leave_after_this) was called.
    pub(crate) fn is_leaving(&self) -> bool {
        self.shared.leaves.get()
    }

    /// Whether the parent is gone, or has closed the pipe of this child. The first time that this turns out true, what was given to
    /// [`when_orphaned`](Self::when_orphaned) is run, and the process has `kill_timeout` left.
    pub fn is_orphaned(&self) -> bool {
        self.shared.notice_orphaned();
        self.shared.orphaned.get()
    }

    /// Has `close` run as soon as the parent is found to be gone, also in the midst of a connection:
    /// the place to close listening sockets, so that the address is free for the next server. If it
    /// has been found to be gone already, `close` is run now.
    pub fn when_orphaned(&self, close: impl FnOnce() + 'static) {
        if self.shared.orphaned.get() {
            return close();
        }
        self.shared.when_orphaned.borrow_mut().push(Box::new(close));
    }

    /// Has `signal_int` run once, as soon as the child notices that it was told to stop, be it in the
    /// midst of a connection: the original's handler of that name. It is told and not asked: the child
    /// leaves when it has served the connection in hand.
    ///
    /// Call it in a [`resume_accept`](crate::ChildServer::resume_accept) of one's own, or in
    /// [`server_start`](crate::PreForkHooks::server_start).
    pub fn when_told_to_stop(&self, signal_int: impl FnOnce() + 'static) {
        let mut callbacks = self.shared.when_told_to_stop.borrow_mut();
        callbacks.push(Box::new(signal_int));
    }

    /// Has `send_ack` called whenever an ACK is due, in place of [`Comm::ack`], the default, which it
    /// may call: the original's `handler_send_ack`. One that does not call it makes the parent believe
    /// that the child is stuck, and have it replaced: the place to look whether an interpreter, or a
    /// database connection, is still of use.
    ///
    /// Call it where [`when_told_to_stop`](Self::when_told_to_stop) is called.
    ///
    /// ```
    /// # use prefork_server::Comm;
    /// # fn healthy() -> bool { true }
    /// # fn with(comm: &Comm) {
    /// comm.when_ack_due(|comm| if healthy() { comm.ack() } else { Ok(()) });
    /// # }
    /// ```
    pub fn when_ack_due(&self, send_ack: impl FnMut(&Self) -> io::Result<()> + 'static) {
        *self.shared.send_ack.borrow_mut() = Some(Box::new(send_ack));
    }

    /// Waits until one of `listeners` may have something to accept, until an ACK was due and has
    /// been sent, or until the child should leave. One connection wakes one child (on Linux).
    ///
    /// Pass the same descriptors each time, open ones, in non-blocking mode.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached or the operating system refuses to wait.
    pub fn wait(&self, listeners: &[BorrowedFd<'_>]) -> io::Result<Wake> {
        if self.shutdown_requested() {
            return Ok(Wake::Stop);
        }
        // Who waits for a connection can take one, whether its server says so or not.
        if !self.shared.channel.stated.load(Ordering::Relaxed) {
            self.shared.channel.say_not_busy_at_first()?;
        }
        self.say_what_is_due(|| self.now())?;
        let wake = self
            .shared
            .link
            .wait_listeners(listeners, self.shared.patience(None))?;
        Ok(if self.shutdown_requested() {
            Wake::Stop
        } else {
            wake
        })
    }

    /// Takes no wake-ups for connections until the next [`wait`](Self::wait). The kernel asks every
    /// child that has waited on a listener, also while it is busy, before those that wait now: that
    /// costs much where many are busy for long, and little where they are busy for a moment.
    pub(crate) fn leave_wakeups(&self) {
        self.shared.link.leave_wakeups();
    }

    /// Sends the ACKs that are due. The waits do it by themselves; this is for a server that is kept
    /// so busy that it never waits. It may find one due some milliseconds late: it looks at the kernel's
    /// tick, since it may be called for each operation on a connection.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn attend(&self) -> io::Result<()> {
        self.say_what_is_due(|| self.shared.link.now_or_so())
    }

    /// As [`attend`](Self::attend), for one that has just looked at the clock.
    pub(crate) fn attend_at(&self, now: Option<Time>) -> io::Result<()> {
        self.say_what_is_due(|| now.unwrap_or_else(|| self.now()))
    }

    /// Says that something begins that may take long, a connection or the work on what has arrived: with an
    /// ACK, unless the last one is fresh. The parent counts silence from there, so work that takes less than
    /// `timeout` is not taken for a hang, whenever it began between two ACKs that were due.
    ///
    /// These are at most 32 ACKs in a `timeout`. `now` is for a caller that has just looked at the clock;
    /// without it the kernel's tick is looked at.
    pub(crate) fn begin(&self, now: Option<Time>) -> io::Result<()> {
        let shared = &self.shared;
        self.follow()?;
        let (Some(due), Some(interval)) = (shared.next_ack.get(), shared.interval.get()) else {
            return self.say_what_is_due(|| Time::START);
        };
        let now = now.unwrap_or_else(|| shared.link.now_or_so());
        if due.since(now) < interval - interval / FRESH {
            shared.next_ack.set(Some(now + interval));
            return self.send_ack();
        }
        self.say_what_is_due(|| now)
    }

    /// Waits for `duration`, sending the ACKs that are due; less if the child should leave.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn pause(&self, duration: Duration) -> io::Result<()> {
        let end = self.shared.link.now() + duration;
        while !self.shutdown_requested() && self.shared.link.now() < end {
            self.say_what_is_due(|| self.now())?;
            self.shared.link.sleep(self.shared.patience(Some(end)))?;
        }
        Ok(())
    }

    /// Waits until a connection is ready for what `interest` says, for `timeout` at most, sending the ACKs
    /// that are due: for a server that reads and writes by itself, in non-blocking mode. False when the time
    /// has passed; `None` waits for as long as it takes.
    ///
    /// It goes on when the child is told to stop, or has lost its parent: whoever has a client in hand serves
    /// it. [`shutdown_requested`](Self::shutdown_requested) tells.
    ///
    /// # Errors
    ///
    /// When the operating system refuses to wait.
    pub fn wait_stream(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        self.wait_until(stream, interest, self.deadline(timeout))
    }

    /// As [`wait_stream`](Self::wait_stream), until `deadline` at most.
    pub(crate) fn wait_until(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        deadline: Option<Time>,
    ) -> io::Result<bool> {
        loop {
            let wait = |patience| self.shared.link.wait_stream(stream, interest, patience);
            match self.wait_once(deadline, wait)? {
                Wake::Ready => return Ok(true),
                Wake::Stop | Wake::Timer if self.has_passed(deadline) => return Ok(false),
                Wake::Stop | Wake::Timer => {}
            }
        }
    }

    /// Waits until a connection is ready, until `deadline` at most, and no longer than until the child should
    /// leave. What has arrived by then is told first.
    pub(crate) fn wait_request(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        deadline: Option<Time>,
    ) -> io::Result<Wake> {
        loop {
            let leaving = self.shutdown_requested();
            let deadline = if leaving { Some(Time::START) } else { deadline };
            let wait = |patience| self.shared.link.wait_request(stream, interest, patience);
            match self.wait_once(deadline, wait)? {
                Wake::Ready => return Ok(Wake::Ready),
                Wake::Stop | Wake::Timer if leaving => return Ok(Wake::Stop),
                Wake::Stop | Wake::Timer if self.has_passed(deadline) => return Ok(Wake::Timer),
                Wake::Stop | Wake::Timer => {}
            }
        }
    }

    /// One wait for a client, as long as nothing else is due.
    fn wait_once(
        &self,
        deadline: Option<Time>,
        wait: impl FnOnce(Option<Duration>) -> io::Result<Wake>,
    ) -> io::Result<Wake> {
        // OK to go on without the parent: the client in hand is served for as long as it lasts.
        let _ = self.say_what_is_due(|| self.now());
        self.shared.notice_stop();
        let mut patience = self.shared.patience(deadline);
        let is_asked = self.shared.link.is_asked();
        if is_asked {
            patience = Some(patience.map_or(ASIDE_AFTER, |patience| patience.min(ASIDE_AFTER)));
        }
        let wake = wait(patience)?;
        match wake {
            // The parent's end may have been found in the same look.
            Wake::Ready | Wake::Stop => self.shared.notice_orphaned(),
            Wake::Timer if is_asked => self.leave_wakeups(),
            Wake::Timer => {}
        }
        Ok(wake)
    }

    fn has_passed(&self, deadline: Option<Time>) -> bool {
        deadline.is_some_and(|deadline| deadline <= self.now())
    }

    /// Whoever waits until something is due needs to know the moment: with a clock that is late it would wait
    /// for no time, again and again.
    fn say_what_is_due(&self, now: impl FnOnce() -> Time) -> io::Result<()> {
        let shared = &self.shared;
        self.follow()?;
        // Whoever is to send none needs no clock: in a new child the first look at it is dear.
        if let Some(due) = shared.next_ack.get() {
            let now = now();
            if due <= now {
                let interval = shared.interval.get();
                shared.next_ack.set(interval.map(|interval| now + interval));
                return self.send_ack();
            }
        }
        if shared.channel.unsaid.load(Ordering::Relaxed) {
            return shared.channel.say(Word::Ack);
        }
        Ok(())
    }

    /// Takes over the interval that the parent asks for by now. An ACK comes first, so that nobody judges what
    /// was before by the new interval.
    fn follow(&self) -> io::Result<()> {
        let shared = &self.shared;
        if !shared.follows.get() {
            return Ok(());
        }
        let sink = shared.channel.sink();
        match sink.asked_interval() {
            Some(asked) if asked.0 != shared.interval.get() => {
                self.keep(asked.0);
                let sent = self.send_ack();
                sink.note_interval(asked);
                sent
            }
            _ => Ok(()),
        }
    }

    fn keep(&self, interval: Option<Duration>) {
        self.shared.interval.set(interval);
        self.shared.next_ack.set(self.deadline(interval));
    }

    fn send_ack(&self) -> io::Result<()> {
        // It is out of its place while it runs, so that it may wait itself.
        let Some(mut send_ack) = self.shared.send_ack.take() else {
            return self.shared.channel.say(Word::Ack);
        };
        let sent = send_ack(self);
        self.shared.send_ack.borrow_mut().get_or_insert(send_ack);
        sent
    }

    pub(crate) fn now(&self) -> Time {
        self.shared.link.now()
    }

    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Option<Time> {
        timeout.map(|timeout| self.shared.link.now() + timeout)
    }

    /// Sets the interval of the ACKs that are sent by themselves; `None` sends none. It stays then, also when
    /// the `timeout` of the server is changed.
    pub fn set_send_ack(&self, interval: Option<Duration>) {
        self.shared.follows.set(false);
        self.keep(interval);
        self.shared.channel.sink().note_interval(Interval(interval));
    }

    /// As [`set_send_ack`](Self::set_send_ack), until the parent asks for another one.
    pub(crate) fn set_send_ack_for_now(&self, interval: Option<Duration>) {
        self.set_send_ack(interval);
        self.shared.follows.set(true);
    }

    /// A handle for other threads, tasks and libraries that own the connection.
    pub fn acker(&self) -> Acker {
        Acker {
            channel: Arc::clone(&self.shared.channel),
        }
    }
}

/// Readable when the child should leave: for loops of others. (After the first
/// [`Comm::wait`] also when a listener is, so use the one or the other.)
impl AsFd for Comm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.link.as_fd()
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comm")
            .field("busy", &self.is_busy())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// A parent that lives and does not read counts this process no more: it is a copy that a child
    /// has made of itself, as by daemon(3), and the parent has reaped that child.
    fn notice_orphaned(&self) {
        let disowned = self.channel.unheard.load(Ordering::Relaxed);
        if self.orphaned.get() || !(disowned || self.link.orphaned()) {
            return;
        }
        self.orphaned.set(true);
        self.link.become_orphan();
        for close in self.when_orphaned.take() {
            close();
        }
    }

    /// Runs what wants to know that the child was told to stop, the first time that it was.
    fn notice_stop(&self) {
        // Mostly there is nothing to run, and then no need to look.
        if self.when_told_to_stop.borrow().is_empty() || !self.link.stop_requested() {
            return;
        }
        for signal_int in self.when_told_to_stop.take() {
            signal_int();
        }
    }

    /// How long may be waited before something is due.
    fn patience(&self, deadline: Option<Time>) -> Option<Duration> {
        let again = self.channel.unsaid.load(Ordering::Relaxed);
        let again = again.then_some(SAY_AGAIN);
        let Some(due) = [self.next_ack.get(), deadline].into_iter().flatten().min() else {
            return again;
        };
        let due = due.since(self.link.now());
        Some(again.map_or(due, |again| again.min(due)))
    }
}

#[cfg(test)]
mod tests;
