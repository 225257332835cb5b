//! `Link` on Unix, for a child: the pipe for its words, its waits, the parent's life. Sends no word
//! by itself.

use super::{
    board::BoardSlot,
    clock::Clock,
    fd_registry::Registered,
    pipes, probes, signals,
    stop_board::StopFlag,
    title::ChildTitle,
    waiter::{THE_END, Waiter, poll_any},
};
use crate::{
    core::{
        child::ChildId,
        comm::{Interval, Sink},
        endpoint_load::Count,
        time::Time,
    },
    sys::link::{Interest, Link, Wake},
};
use nix::poll::PollFlags;
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    num::NonZeroU64,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

/// Where a child sends its words.
pub(crate) struct PipeSink {
    /// The write end of the pipe itself, so that redirecting fd 1 does not break it.
    pub(crate) pipe: OwnedFd,
    /// The child's slot on the board.
    pub(crate) slot: BoardSlot,
    /// Whether a word that the parent will find on the board need not be printed.
    pub(crate) coalesces: bool,
    pub(crate) clock: Clock,
    /// What the child shows in ps, if it shows anything.
    pub(crate) title: Option<ChildTitle>,
    pub(crate) traced: Traced,
}

/// What tracers are told of this child.
pub(crate) struct Traced {
    pid: u32,
    serial: u32,
    /// Whether a connection is in hand.
    is_busy: AtomicBool,
}

impl Traced {
    pub(crate) fn new(child: ChildId) -> Self {
        Self {
            pid: std::process::id(),
            serial: child.serial(),
            is_busy: AtomicBool::new(false),
        }
    }

    fn begin(&self, peer: Option<SocketAddr>) {
        self.is_busy.store(true, Relaxed);
        let (address, port) = match peer {
            Some(SocketAddr::V4(peer)) => (u32::from_ne_bytes(peer.ip().octets()), peer.port()),
            Some(SocketAddr::V6(peer)) => (0, peer.port()),
            None => (0, 0),
        };
        probes::busy(self.pid, self.serial, address, port);
    }

    fn end(&self) {
        if self.is_busy.load(Relaxed) {
            self.is_busy.store(false, Relaxed);
            probes::free(self.pid, self.serial);
        }
    }
}

impl Sink for PipeSink {
    /// Writes a word without blocking: children go on serving while the parent is stopped. The pipe
    /// stays in blocking mode, since stdout shares its description and expects that.
    fn write(&self, message: &[u8]) -> io::Result<bool> {
        // A word is shorter than PIPE_BUF, so it is written whole or not at all.
        Ok(pipes::write_nowait(self.pipe.as_raw_fd(), message)?.is_some())
    }

    fn note(&self, busy: bool) -> bool {
        // Before the state: the parent reads when the connection began once it knows of it.
        match busy {
            true => {
                self.slot.note_busy_since(|| self.clock.now());
                self.show(ChildTitle::busy);
            }
            false => self.end(),
        }
        self.slot.note(busy) && self.coalesces
    }

    fn begin(&self, since: Time, peer: Option<SocketAddr>) {
        self.slot.begin(since, peer);
        self.show(|title| title.begin(peer));
        self.traced.begin(peer);
    }

    fn refused(&self, reason: u32, queued: Duration) {
        let queued = u64::try_from(queued.as_nanos()).unwrap_or(u64::MAX);
        probes::shed(self.traced.pid, self.traced.serial, reason, queued);
    }

    fn end(&self) {
        self.slot.end();
        self.show(ChildTitle::free);
        self.traced.end();
    }

    fn claim(&self, client: NonZeroU64) -> usize {
        self.slot.claim(client)
    }

    fn extend(&self, time: Duration) {
        self.slot.extend(self.clock.now() + time);
    }

    fn note_queued(&self, queued: Duration) {
        self.slot.note_queued(queued);
    }

    fn count_queued(&self, listener: usize, queued: Duration) {
        self.slot.count_queued(listener, queued);
    }

    fn note_text(&self, text: &str) {
        self.slot.note_text(text);
    }

    fn note_due(&self) {
        self.slot.note_due();
    }

    fn asked_interval(&self) -> Option<Interval> {
        self.slot.asked_interval()
    }

    fn note_interval(&self, interval: Interval) {
        self.slot.note_interval(interval);
    }

    fn counts(&self) -> Vec<Count> {
        self.slot.counts()
    }

    fn busy_servers(&self) -> usize {
        self.slot.busy_servers()
    }
}

impl PipeSink {
    fn show(&self, change: impl FnOnce(&ChildTitle)) {
        if let Some(title) = &self.title {
            change(title);
        }
    }
}

/// A child's view of its parent.
pub(crate) struct ChildLink {
    clock: Clock,
    waiter: Waiter,
    stop: OwnedFd,
    stop_flag: StopFlag,
    death: Registered<OwnedFd>,
    death_seen: Cell<bool>,
}

impl ChildLink {
    pub(crate) fn new(
        clock: Clock,
        stop: OwnedFd,
        death: Registered<OwnedFd>,
        stop_flag: StopFlag,
    ) -> io::Result<Self> {
        let waiter = Waiter::new(&stop, &death)?;
        Ok(Self {
            clock,
            waiter,
            stop,
            stop_flag,
            death,
            death_seen: Cell::new(false),
        })
    }

    /// Waits only for the parent's end. The connection is left out, because poll(2) would always
    /// report its reset.
    fn wait_time(&self, timeout: Option<Duration>) -> io::Result<Wake> {
        if self.death_seen.get() {
            poll_any([], timeout)?;
            return Ok(Wake::Timer);
        }
        let [death] = poll_any([(self.death.as_fd(), THE_END)], timeout)?;
        self.note_death(death);
        Ok(if death { Wake::Stop } else { Wake::Timer })
    }

    /// Silences a bell that was rung for something else than a stop, which it reports forever.
    fn reset_stop_event(&self) -> io::Result<()> {
        if self.stop_requested() {
            return Ok(());
        }
        let [is_raised] = poll_any(
            [(self.stop.as_fd(), PollFlags::POLLIN)],
            Some(Duration::ZERO),
        )?;
        if is_raised {
            pipes::read(&self.stop, &mut [0; 8])?;
        }
        // A stop that came meanwhile may have been silenced.
        if self.stop_requested() {
            signals::raise_stop_event();
        }
        Ok(())
    }

    /// The result of a check of the death watch.
    fn note_death(&self, ended: bool) {
        if ended {
            self.death_seen.set(true);
        }
    }
}

impl Link for ChildLink {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn now_or_so(&self) -> Time {
        self.clock.now_or_so()
    }

    fn wait_listeners(
        &self,
        listeners: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<Wake> {
        let wake = self.waiter.wait(listeners, timeout)?;
        if wake != Wake::Stop || self.stop_requested() {
            return Ok(wake);
        }
        let [death] = poll_any([(self.death.as_fd(), THE_END)], Some(Duration::ZERO))?;
        self.note_death(death);
        if death {
            return Ok(Wake::Stop);
        }
        self.reset_stop_event()?;
        Ok(Wake::Timer)
    }

    fn may_be_woken(&self) -> bool {
        self.waiter.may_be_woken()
    }

    fn leave_wakeups(&self) {
        self.waiter.leave_wakeups();
    }

    fn wait_stream(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<Wake> {
        let Some(flags) = flags(interest) else {
            return self.wait_time(timeout);
        };
        if self.death_seen.get() {
            // The end of input is known, and would end every further wait at once.
            let [ready] = poll_any([(stream, flags)], timeout)?;
            return Ok(if ready { Wake::Ready } else { Wake::Timer });
        }
        let watched = [(stream, flags), (self.death.as_fd(), THE_END)];
        let [ready, death] = poll_any(watched, timeout)?;
        self.note_death(death);
        Ok(match (ready, death) {
            (true, _) => Wake::Ready,
            (false, true) => Wake::Stop,
            (false, false) => Wake::Timer,
        })
    }

    fn wait_request(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<Wake> {
        let stop = (self.stop.as_fd(), PollFlags::POLLIN);
        let death = (self.death.as_fd(), THE_END);
        let [ready, stop, death] = match flags(interest) {
            Some(flags) => poll_any([(stream, flags), stop, death], timeout)?,
            None => {
                let [stop, death] = poll_any([stop, death], timeout)?;
                [false, stop, death]
            }
        };
        self.note_death(death);
        if stop {
            self.reset_stop_event()?;
        }
        Ok(match (ready, stop || death) {
            (true, _) => Wake::Ready,
            (false, true) => Wake::Stop,
            (false, false) => Wake::Timer,
        })
    }

    fn sleep(&self, timeout: Option<Duration>) -> io::Result<()> {
        let watched = [
            (self.stop.as_fd(), PollFlags::POLLIN),
            (self.death.as_fd(), THE_END),
        ];
        let [stop, death] = poll_any(watched, timeout)?;
        self.note_death(death);
        if stop {
            self.reset_stop_event()?;
        }
        Ok(())
    }

    fn stop_requested(&self) -> bool {
        signals::stop_requested() || self.stop_flag.is_set()
    }

    fn leaves_queue(&self) -> bool {
        self.stop_flag.leaves_queue()
    }

    fn wake_to_reopen(&self) {
        signals::raise_stop_event_at_reopen();
    }

    fn take_reopen(&self) -> bool {
        if !signals::reopen_requested() {
            return false;
        }
        // For loops that watch the event by themselves. OK to ignore: the event stays raised then.
        let _ = self.reset_stop_event();
        signals::take_reopen()
    }

    fn orphaned(&self) -> bool {
        self.death_seen.get() || signals::found_orphaned()
    }

    fn look_for_parent(&self) {
        if !self.death_seen.get()
            && let Ok([ended]) = poll_any([(self.death.as_fd(), THE_END)], Some(Duration::ZERO))
        {
            self.note_death(ended);
        }
    }

    fn become_orphan(&self) {
        signals::become_orphan();
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiter.as_fd()
    }
}

/// The events for poll(2). `None` for none at all, since poll(2) would still report a reset.
fn flags(interest: Interest) -> Option<PollFlags> {
    match interest {
        Interest::Read => Some(PollFlags::POLLIN),
        Interest::Write => Some(PollFlags::POLLOUT),
        Interest::Both => Some(PollFlags::POLLIN | PollFlags::POLLOUT),
        Interest::Neither => None,
    }
}
