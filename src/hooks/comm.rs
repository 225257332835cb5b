//! The child's end of the wire: which words a server sends to the parent, and when. Decides which
//! words are due; its link and its channel write, wait and read the clock.

mod reopening;

use self::reopening::Reopening;
use crate::{
    core::{
        accept::refusal::Refusal,
        comm::{Acker, Channel, Interval, Sink},
        endpoint_load::{EndpointLoad, Rate},
        replacement::{self, Spread},
        time::Time,
        wire::{CommWords, Word},
    },
    sys::link::{Interest, Link, Wake},
};
use std::{
    cell::{Cell, RefCell},
    fmt, io,
    net::SocketAddr,
    num::NonZeroU64,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How long a child waits before it repeats a word for which the pipe had no room.
const SAY_AGAIN: Duration = Duration::from_millis(100);

/// How long a child waits for its client before it leaves the wake-ups to other children.
const ASIDE_AFTER: Duration = Duration::from_millis(20);

/// An ACK counts as fresh for this fraction (1/n) of the interval of ACKs.
const FRESH: u32 = 16;

/// The child's end of the wire, for a server in a child.
///
/// [`ChildServer::resume_accept`](crate::ChildServer::resume_accept) gets it.
///
/// A server says `busy` when it has a connection in hand and `not_busy` when it can take one, and
/// waits with [`wait`](Self::wait), which sends the ACKs that are due and wakes only one child for
/// a connection.
pub struct Comm {
    shared: Rc<Shared>,
}

struct Shared<L: ?Sized = dyn Link> {
    channel: Arc<Channel>,
    coalesce: bool,
    max_clients: Cell<usize>,
    reserved: Cell<bool>,
    drain_timeout: Cell<Duration>,
    limit_jitter: Cell<usize>,
    interval: Cell<Option<Duration>>,
    /// Whether the interval follows what the parent asks for.
    follows: Cell<bool>,
    next_ack: Cell<Option<Time>>,
    /// Whether the child itself has asked to leave after the connection in hand.
    leaves: Cell<bool>,
    when_orphaned: RefCell<Vec<Box<dyn FnOnce()>>>,
    orphaned: Cell<bool>,
    when_told_to_stop: RefCell<Vec<Box<dyn FnOnce()>>>,
    reopening: Reopening,
    rate: RefCell<Rate>,
    /// The callback that sends an ACK that is due; empty by default and while the callback runs.
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
                reserved: Cell::default(),
                drain_timeout: Cell::default(),
                limit_jitter: Cell::default(),
                interval: Cell::new(None),
                follows: Cell::new(false),
                next_ack: Cell::new(None),
                leaves: Cell::new(false),
                when_orphaned: RefCell::default(),
                orphaned: Cell::new(false),
                when_told_to_stop: RefCell::default(),
                reopening: Reopening::default(),
                rate: RefCell::default(),
                send_ack: RefCell::default(),
                link,
            }),
        }
    }

    /// Returns another handle to the same end.
    pub(crate) fn share(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
        }
    }

    /// Sends an ACK now: the child is alive. The next automatic ACK is due after an interval.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached, which mostly means that it is gone. A full pipe is not an
    /// error: the word is repeated later.
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

    /// Says that the child has a connection in hand, unless that was its last word.
    ///
    /// Each call counts one connection for [`Child::requests`](crate::Child::requests).
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn busy(&self) -> io::Result<()> {
        self.busy_since(self.now(), None)
    }

    /// The same for a connection of `peer` that was taken after `waited`, when the last wait ended.
    ///
    /// A wait within accept(2) may have been longer than that, so the cheap clock is read as well.
    pub(crate) fn busy_after(
        &self,
        waited: Option<Time>,
        peer: Option<SocketAddr>,
    ) -> io::Result<()> {
        let now = self.shared.link.now_or_so();
        self.busy_since(waited.map_or(now, |waited| waited.max(now)), peer)
    }

    fn busy_since(&self, since: Time, peer: Option<SocketAddr>) -> io::Result<()> {
        self.shared.channel.sink().begin(since, peer);
        self.shared.channel.set_busy(true)
    }

    /// Notes that no connection is in hand. Sends no word: the next connection may follow at once.
    pub(crate) fn end_connection(&self) {
        self.shared.channel.sink().end();
    }

    /// Tells tracers of a connection that is not served.
    pub(crate) fn note_refused(&self, refusal: Refusal, queued: Option<Duration>) {
        let queued = queued.unwrap_or_default();
        self.shared.channel.sink().refused(refusal as u32, queued);
    }

    /// Notes that the connection in hand is one of this client, and returns how many it has, in all
    /// children. [`end_connection`](Self::end_connection) ends that.
    pub(crate) fn claim(&self, client: NonZeroU64) -> usize {
        self.shared.channel.sink().claim(client)
    }

    /// Notes how long the connection in hand was queued.
    pub(crate) fn note_queued(&self, queued: Duration) {
        self.shared.channel.sink().note_queued(queued);
    }

    /// Counts how long a connection was queued at the listener of that number, whether it is served or
    /// not.
    pub(crate) fn count_queued(&self, listener: usize, queued: Duration) {
        self.shared.channel.sink().count_queued(listener, queued);
    }

    /// Asks the parent for more time for the connection in hand: `time` from now.
    ///
    /// It is for work that may take longer than `busy_timeout`. The connection then has until that
    /// time or until the end of `busy_timeout`, whichever is later; a further call replaces this one. No
    /// word is sent: the time is noted in shared memory. Without effect in a program that
    /// [`ExecServer`](crate::ExecServer) runs, and in a child beyond the `max_clients` of the start.
    pub fn extend(&self, time: Duration) {
        self.shared.channel.sink().extend(time);
    }

    /// Says what the child does with the connection in hand, for whoever looks at its slot.
    ///
    /// The first 128 bytes are kept, until the next connection. It costs no system call and a few
    /// nanoseconds.
    ///
    /// ```
    /// # fn with(comm: &prefork_server::Comm) {
    /// comm.describe("GET /reports/42");
    /// # }
    /// ```
    pub fn describe(&self, text: &str) {
        self.shared.channel.sink().note_text(text);
    }

    /// Says that the child can take a connection, unless that was its last word.
    ///
    /// Like the first BUSY, the first NOT_BUSY tells the parent that the child has started.
    /// [`wait`](Self::wait) says it if nothing was said before; a server that waits by itself
    /// should say it when it is ready.
    ///
    /// A child that was told to stop sends nothing, because it will not accept again.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn not_busy(&self) -> io::Result<()> {
        self.end_connection();
        self.shutdown_requested();
        self.shared.channel.set_busy(false)
    }

    /// Whether BUSY was the last word.
    pub fn is_busy(&self) -> bool {
        self.shared.channel.busy.load(Ordering::Relaxed)
    }

    /// Whether a child under load sends no words between connections: `coalesce_words`.
    pub fn coalesces(&self) -> bool {
        self.shared.coalesce
    }

    /// The maximum number of children that serve: the attribute `max_clients`, as it was at the
    /// fork, without a child that [is reserved](Self::is_reserved).
    pub fn max_clients(&self) -> usize {
        self.shared.max_clients.get()
    }

    /// How many children of the server have a connection in hand now, including this one.
    ///
    /// Together with [`max_clients`](Self::max_clients) it tells how full the pool is, for a child
    /// that then answers "full" or does less work.
    ///
    /// It is read from the children's notes in shared memory, without asking the parent. A child
    /// that was killed counts until the parent has reaped it, some milliseconds later. Programs
    /// that [`ExecServer`](crate::ExecServer) runs are not counted, and neither are children beyond
    /// the `max_clients` of the start.
    pub fn busy_servers(&self) -> usize {
        self.shared.channel.sink().busy_servers()
    }

    /// How loaded the server is, for a balancer: see [`EndpointLoad`].
    ///
    /// It is read from the children's notes in shared memory. The rate is that of the last second or
    /// more, known from the second call on that comes a second after the first, in each child.
    pub fn endpoint_load(&self) -> EndpointLoad {
        let shared = &self.shared;
        let counts = || shared.channel.sink().counts();
        let rate = shared.rate.borrow_mut().at(self.now(), counts);
        EndpointLoad::new(self.busy_servers(), self.max_clients(), rate)
    }

    /// Whether this child is the one that is kept for the time when all others are busy: see the
    /// attribute `reserved_shedder`.
    ///
    /// Only if the server [can shed](crate::ChildServer::can_shed). Such a child does not serve.
    pub fn is_reserved(&self) -> bool {
        self.shared.reserved.get()
    }

    pub(crate) fn set_reserved(&self, reserved: bool) {
        self.shared.reserved.set(reserved);
    }

    pub(crate) fn set_max_clients(&self, children: usize) {
        self.shared.max_clients.set(children);
    }

    /// How long the child serves queued connections after it was told to stop. It looks once in any
    /// case.
    pub(crate) fn drain_timeout(&self) -> Duration {
        if self.shared.link.leaves_queue() {
            return Duration::ZERO;
        }
        self.shared.drain_timeout.get()
    }

    pub(crate) fn set_drain_timeout(&self, timeout: Duration) {
        self.shared.drain_timeout.set(timeout);
    }

    /// How far below a limit of connections a child may be replaced, in per cent.
    pub(crate) fn set_limit_jitter(&self, percent: usize) {
        self.shared.limit_jitter.set(percent);
    }

    /// The number of connections after which this child is to be replaced, if there is a limit: see
    /// the attribute `limit_jitter`.
    pub(crate) fn replaced_after(&self, limit: u64) -> Option<u64> {
        let spread = Spread {
            percent: self.shared.limit_jitter.get(),
            seed: std::process::id(),
        };
        replacement::soft(limit, spread)
    }

    /// Asks the parent to replace this child: it is told to stop when its successor is ready.
    ///
    /// Use it for a child that still serves but should not for long: it has leaked, or its caches
    /// are stale. See [`leave_after_this`](Self::leave_after_this) for one that cannot serve any
    /// more. The child goes on taking connections until it is told to stop. It sends an ACK, so that
    /// the parent looks at its note in shared memory; children without a place there (beyond the
    /// `max_clients` of the start) are not replaced.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn ask_for_replacement(&self) -> io::Result<()> {
        self.shared.channel.sink().note_due();
        self.ack()
    }

    /// Whether the child should leave after the connection in hand.
    ///
    /// That is so if it was told to stop, if the parent is gone, or if
    /// [`leave_after_this`](Self::leave_after_this) was called.
    pub fn shutdown_requested(&self) -> bool {
        let leaving = self.shared.link.stop_requested() || self.is_orphaned() || self.is_leaving();
        if leaving {
            self.shared.channel.leaving.store(true, Ordering::Relaxed);
        }
        self.shared.notice_stop();
        self.shared.notice_reopen();
        leaving
    }

    /// Makes the child leave after the connection in hand.
    ///
    /// The child takes no other connection, and the parent replaces it, as at `max_requests`. Use
    /// it for a child that cannot serve any more, such as one that has lost its database
    /// connection: the new child opens a new one.
    ///
    /// No word is sent now, and the call cannot be undone. From now on
    /// [`shutdown_requested`](Self::shutdown_requested) is true, also for a server with an accept
    /// loop of its own.
    pub fn leave_after_this(&self) {
        self.shared.leaves.set(true);
    }

    /// Whether [`leave_after_this`](Self::leave_after_this) was called.
    pub(crate) fn is_leaving(&self) -> bool {
        self.shared.leaves.get()
    }

    /// Whether the parent is gone, or has closed the pipe of this child.
    ///
    /// When this is found for the first time, the callbacks of
    /// [`when_orphaned`](Self::when_orphaned) are run, and the process has `kill_timeout` left.
    pub fn is_orphaned(&self) -> bool {
        self.shared.notice_orphaned();
        self.shared.orphaned.get()
    }

    /// Runs `close` as soon as the child finds that the parent is gone.
    ///
    /// That may be during a connection.
    ///
    /// Use it to close listening sockets, so that the address is free for the next server. If the
    /// parent is already known to be gone, `close` is run now.
    pub fn when_orphaned(&self, close: impl FnOnce() + 'static) {
        if self.shared.orphaned.get() {
            return close();
        }
        self.shared.when_orphaned.borrow_mut().push(Box::new(close));
    }

    /// Runs `signal_int` once, when the child notices that it was told to stop.
    ///
    /// This may be during a connection. It is the original's handler of that name. The callback
    /// cannot prevent the stop: the child leaves when it has served the connection in hand.
    ///
    /// Call this in your own [`resume_accept`](crate::ChildServer::resume_accept), or in
    /// [`server_start`](crate::PreForkHooks::server_start).
    pub fn when_told_to_stop(&self, signal_int: impl FnOnce() + 'static) {
        let mut callbacks = self.shared.when_told_to_stop.borrow_mut();
        callbacks.push(Box::new(signal_int));
    }

    /// Calls `send_ack` whenever an ACK is due, in place of the default, [`Comm::ack`].
    ///
    /// It is the original's `handler_send_ack`. Use it to check whether an interpreter, or a
    /// database connection, still works, and call [`Comm::ack`] only if so: without ACKs the parent
    /// takes the child for stuck and replaces it.
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

    /// Waits for a connection on `listeners`, or until the child should leave.
    ///
    /// It also returns when an ACK was due and has been sent. On Linux one connection wakes one
    /// child.
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
        // A child that waits for a connection can take one, even if its server has not said so.
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

    /// Takes no wake-ups for connections until the next [`wait`](Self::wait).
    ///
    /// The kernel checks every child whose epoll has the listener, also while the child is busy,
    /// before the children that wait now. That is costly where many children are busy for
    /// long.
    pub(crate) fn leave_wakeups(&self) {
        self.shared.link.leave_wakeups();
    }

    /// Sends an ACK if one is due, for a server that is too busy to wait.
    ///
    /// The waits send ACKs by themselves. This call may be some milliseconds late, because it reads
    /// the kernel's coarse clock: it is cheap enough for each operation on a connection.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn attend(&self) -> io::Result<()> {
        self.say_what_is_due(|| self.shared.link.now_or_so())
    }

    /// As [`attend`](Self::attend), for a caller that has just read the clock.
    pub(crate) fn attend_at(&self, now: Option<Time>) -> io::Result<()> {
        self.say_what_is_due(|| now.unwrap_or_else(|| self.now()))
    }

    /// Notes that work begins that may take long, and sends an ACK unless the last one is fresh.
    ///
    /// The parent counts silence from the ACK, so work that takes less than `timeout` does not
    /// count as a hang, whenever it begins.
    ///
    /// This sends at most 32 ACKs in a `timeout`. `now` is for a caller that has just read the
    /// clock; without it the kernel's coarse clock is read.
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

    /// Waits for `duration` and sends the ACKs that are due. Returns early if the child should
    /// leave.
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

    /// Waits until a connection is ready for `interest`, and sends the ACKs that are due.
    ///
    /// It is for a server that reads and writes by itself in non-blocking mode. False after
    /// `timeout`; `None` waits without a limit.
    ///
    /// The wait goes on when the child is told to stop or has lost its parent, because the client
    /// in hand is served to the end. Check [`shutdown_requested`](Self::shutdown_requested) for
    /// that.
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

    /// As [`wait_stream`](Self::wait_stream), with a deadline in place of a timeout.
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

    /// Waits until a connection is ready, until `deadline`, or until the child should leave. If the
    /// connection is ready, that is returned even if the child should leave.
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

    /// Waits once for a client, until something else is due.
    fn wait_once(
        &self,
        deadline: Option<Time>,
        wait: impl FnOnce(Option<Duration>) -> io::Result<Wake>,
    ) -> io::Result<Wake> {
        // OK to go on without the parent: the client in hand is served to the end.
        let _ = self.say_what_is_due(|| self.now());
        self.shared.notice_stop();
        self.shared.notice_reopen();
        let mut patience = self.shared.patience(deadline);
        let is_asked = self.shared.link.is_asked();
        if is_asked {
            patience = Some(patience.map_or(ASIDE_AFTER, |patience| patience.min(ASIDE_AFTER)));
        }
        let wake = wait(patience)?;
        match wake {
            // The same wait may have found that the parent is gone.
            Wake::Ready | Wake::Stop => self.shared.notice_orphaned(),
            Wake::Timer if is_asked => self.leave_wakeups(),
            Wake::Timer => {}
        }
        Ok(wake)
    }

    fn has_passed(&self, deadline: Option<Time>) -> bool {
        deadline.is_some_and(|deadline| deadline <= self.now())
    }

    /// Sends the ACK or the word that is due.
    ///
    /// Before a wait, `now` must be exact: with a coarse clock that is late, the child would wait
    /// for zero time again and again.
    fn say_what_is_due(&self, now: impl FnOnce() -> Time) -> io::Result<()> {
        let shared = &self.shared;
        self.follow()?;
        // A child that sends no ACKs reads no clock: in a new child the first reading is costly.
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

    /// Takes over the interval of ACKs that the parent asks for now.
    ///
    /// An ACK is sent first, so that the parent does not judge the time before by the new interval.
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
        // The callback is taken out while it runs, because it may wait and so come here again.
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

    /// Sets the interval of automatic ACKs; `None` sends none.
    ///
    /// The interval then stays, even if the `timeout` of the server is changed.
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

    /// Returns a handle for other threads, tasks, and libraries that own the connection.
    pub fn acker(&self) -> Acker {
        Acker {
            channel: Arc::clone(&self.shared.channel),
        }
    }
}

/// Readable when the child should leave, for other event loops.
///
/// After the first [`Comm::wait`] it is also readable when a listener is, so use only one of the
/// two.
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
    /// Notices that the parent is gone or does not count this process as a child.
    ///
    /// If the parent lives but has closed the pipe, this process is a copy that a child has made of
    /// itself, as by daemon(3), and the parent has reaped that child.
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

    /// Runs the callbacks of `when_told_to_stop`, once, if the child was told to stop.
    fn notice_stop(&self) {
        // Mostly there is no callback, and then the check is not needed.
        if self.when_told_to_stop.borrow().is_empty() || !self.link.stop_requested() {
            return;
        }
        for signal_int in self.when_told_to_stop.take() {
            signal_int();
        }
    }

    /// How long the child may wait before something is due.
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
