//! Signals: one handler in the parent for all servers of the process, another in each child. The
//! handlers count and write a byte; everything else happens in the loops.
//!
//! signal-hook is not used: its registry and its pipe are global and inherited, and a signal to a
//! child would wake the parent.

#![allow(unsafe_code)]

use super::{fd_registry::Ours, pipes};
use crate::core::signal_policy::Arrived;
use nix::{
    errno::Errno,
    libc,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction},
};
use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The signals that the parent may handle, and where each is counted.
const HANDLED: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD];
static COUNTS: [AtomicU64; HANDLED.len()] = [const { AtomicU64::new(0) }; HANDLED.len()];

/// How many servers one process can run at a time.
const SERVERS: usize = 64;
/// No descriptor: nothing of ours is ever a standard stream. Zero, so that the statics that a child
/// resets lie on one page of those that begin as zeros, and a new child has no other to copy.
const NONE: RawFd = 0;
/// The pipe of each server. A pipe for each, since whoever drained a common one would take the wake-up
/// from the others.
static PIPES: [AtomicI32; SERVERS] = [const { AtomicI32::new(NONE) }; SERVERS];

/// The dispositions that were there before ours, and how many servers want ours.
static INSTALLED: Mutex<BTreeMap<usize, (usize, SigAction)>> = Mutex::new(BTreeMap::new());

fn installed() -> MutexGuard<'static, BTreeMap<usize, (usize, SigAction)>> {
    // OK to go on after a panic: each change of the map is a single insertion or removal.
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What errno was is put back: the code that was interrupted may be about to look at it.
struct SavedErrno(Errno);

impl SavedErrno {
    fn save() -> Self {
        Self(Errno::last())
    }
}

impl Drop for SavedErrno {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn wake(pipe: RawFd) {
    poke(pipe, b"!");
}

/// Writes to a descriptor that is there and in non-blocking mode.
fn poke(fd: RawFd, bytes: &'static [u8]) {
    if fd == NONE {
        return;
    }
    // Once more if it was interrupted: a wake-up that is lost is a signal that is lost.
    // SAFETY: write(2) is async-signal-safe; the bytes of a static are readable. If there is no room
    // the reader has a wake-up in it already.
    while unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } < 0
        && Errno::last() == Errno::EINTR
    {}
}

extern "C" fn in_parent(signal: libc::c_int) {
    let _errno = SavedErrno::save();
    for (handled, count) in HANDLED.iter().zip(&COUNTS) {
        if *handled as libc::c_int == signal {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    for pipe in &PIPES {
        wake(pipe.load(Ordering::Relaxed));
    }
}

/// A server's share of the process's signals.
#[derive(Debug)]
pub(crate) struct Subscription {
    read: Ours<OwnedFd>,
    // Closed after `slot` has been given back, so that the handler never writes to a stranger.
    _write: Ours<OwnedFd>,
    slot: usize,
    seen: [u64; HANDLED.len()],
    wanted: Vec<usize>,
    /// Which of the signals that we wait for were blocked before.
    blocked_before: SigSet,
}

impl Subscription {
    /// Subscribes to SIGCHLD and, with `stop`, to SIGINT and SIGTERM.
    pub(crate) fn new(stop: bool) -> io::Result<Self> {
        let (read, write) = pipes::pipe()?;
        pipes::set_nonblocking(&read)?;
        pipes::set_nonblocking(&write)?;
        let fd = write.as_raw_fd();
        let claim = |pipe: &AtomicI32| {
            pipe.compare_exchange(NONE, fd, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        let slot = PIPES.iter().position(claim).ok_or_else(|| {
            io::Error::other(format!("{SERVERS} servers run in this process already"))
        })?;
        let mut subscription = Self {
            read: Ours::parents(read),
            _write: Ours::parents(write),
            slot,
            seen: std::array::from_fn(|index| COUNTS[index].load(Ordering::Relaxed)),
            wanted: Vec::new(),
            blocked_before: SigSet::empty(),
        };
        subscription.want(Signal::SIGCHLD)?;
        subscription.unblock(&[Signal::SIGCHLD])?;
        if stop {
            subscription.want(Signal::SIGINT)?;
            subscription.want(Signal::SIGTERM)?;
            subscription.unblock(&[Signal::SIGINT, Signal::SIGTERM])?;
        }
        Ok(subscription)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// What has arrived. Drains the pipe first, if it is readable, and looks at the counters then:
    /// the other way round, a signal in between would be counted and its wake-up lost. The counters
    /// are looked at in any case: a signal ends the wait too, and its handler may have failed to
    /// write, or the pipe to be read.
    pub(crate) fn arrived(&mut self, woken: bool) -> Arrived {
        let mut sink = [0; 512];
        while woken && matches!(pipes::read(&self.read, &mut sink), Ok(Some(512))) {}
        let mut fresh = |index: usize| {
            let count = COUNTS[index].load(Ordering::Relaxed);
            count.wrapping_sub(std::mem::replace(&mut self.seen[index], count))
        };
        Arrived {
            interrupts: fresh(0),
            terminations: fresh(1),
            deaths: fresh(2),
        }
    }

    fn want(&mut self, signal: Signal) -> io::Result<()> {
        // OK because every caller names one of `HANDLED`.
        let Some(index) = HANDLED.iter().position(|handled| *handled == signal) else {
            return Ok(());
        };
        if self.wanted.contains(&index) {
            return Ok(());
        }
        let mut installed = installed();
        if let Some((count, _)) = installed.get_mut(&index) {
            *count += 1;
        } else {
            let before = set_action(signal, SigHandler::Handler(in_parent))?;
            installed.insert(index, (1, before));
        }
        self.wanted.push(index);
        Ok(())
    }

    /// A mask that was inherited from whoever started us must not keep signals away that we wait for.
    fn unblock(&mut self, signals: &[Signal]) -> io::Result<()> {
        let wanted: SigSet = signals.iter().copied().collect();
        let before = wanted.thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?;
        let blocked = before.iter().filter(|signal| wanted.contains(*signal));
        self.blocked_before.extend(blocked);
        Ok(())
    }
}

/// Puts back the dispositions and the mask that were there before.
impl Drop for Subscription {
    fn drop(&mut self) {
        PIPES[self.slot].store(NONE, Ordering::Relaxed);
        let mut installed = installed();
        for &index in &self.wanted {
            let Some((count, before)) = installed.get_mut(&index) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                // SAFETY: it is the disposition that the process had before; whoever set it
                // vouches for its handler.
                let _ = unsafe { sigaction(HANDLED[index], before) };
                installed.remove(&index);
            }
        }
        let _ = self.blocked_before.thread_block();
    }
}

fn set_action(signal: Signal, handler: SigHandler) -> io::Result<SigAction> {
    // Restarting, so that the user's own blocking calls do not fail with EINTR. poll(2) and
    // epoll_wait(2) are interrupted all the same.
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: our handlers call nothing but async-signal-safe functions; `SIG_DFL` is no code.
    Ok(unsafe { sigaction(signal, &action) }?)
}

/// The disposition of SIGCHLD that was there before, and how many servers want the default.
static STATUSES: Mutex<(usize, Option<SigAction>)> = Mutex::new((0, None));

/// While it lives, SIGCHLD is not ignored: ignored, as it may have been inherited, every status
/// would be lost. A handler that the program has installed is left alone.
#[derive(Debug)]
pub(crate) struct Statuses(());

impl Statuses {
    pub(crate) fn keep() -> io::Result<Self> {
        let mut statuses = STATUSES.lock().unwrap_or_else(PoisonError::into_inner);
        if statuses.0 == 0 {
            let before = set_action(Signal::SIGCHLD, SigHandler::SigDfl)?;
            match before.handler() {
                SigHandler::SigDfl => {}
                SigHandler::SigIgn => statuses.1 = Some(before),
                // SAFETY: it was there the moment before.
                _ => drop(unsafe { sigaction(Signal::SIGCHLD, &before) }?),
            }
        }
        statuses.0 += 1;
        Ok(Self(()))
    }
}

impl Drop for Statuses {
    fn drop(&mut self) {
        let mut statuses = STATUSES.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.0 -= 1;
        if statuses.0 == 0
            && let Some(before) = statuses.1.take()
        {
            // SAFETY: it is the disposition that the process had before: to ignore.
            let _ = unsafe { sigaction(Signal::SIGCHLD, &before) };
        }
    }
}

/// The mask that was in force before all signals were blocked.
#[derive(Debug)]
pub(crate) struct Mask(SigSet);

impl Mask {
    /// Blocks every signal, across a fork.
    pub(crate) fn block_all() -> io::Result<Self> {
        Ok(Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?))
    }

    /// Goes back to what was in force.
    pub(crate) fn restore(self) -> io::Result<()> {
        Ok(self.0.thread_set_mask()?)
    }

    /// As `restore`, but never without the signals by which a child is told to stop and ended.
    pub(crate) fn for_child(mut self) -> io::Result<()> {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGALRM] {
            self.0.remove(signal);
        }
        self.restore()
    }
}

// ---- The child's side. A child has one parent and one stop bell, so these are plain statics. ----

static STOP: AtomicBool = AtomicBool::new(false);
static ORPHANED: AtomicBool = AtomicBool::new(false);
static STOP_BELL: AtomicI32 = AtomicI32::new(NONE);
static PARENT: AtomicI32 = AtomicI32::new(0);
static GRACE_MICROSECONDS: AtomicU64 = AtomicU64::new(0);

extern "C" fn in_child(_signal: libc::c_int) {
    let _errno = SavedErrno::save();
    STOP.store(true, Ordering::Relaxed);
    // SAFETY: getppid is async-signal-safe and cannot fail.
    if unsafe { libc::getppid() } != PARENT.load(Ordering::Relaxed) {
        ORPHANED.store(true, Ordering::Relaxed);
        // A child that is stuck in code watches nothing; this ends it.
        become_orphan();
    }
    ring(STOP_BELL.load(Ordering::Relaxed));
}

/// In a new child, all signals blocked: its own handlers for SIGINT and SIGTERM, the default for
/// SIGCHLD if we had handled it. What the user had installed for other signals stays, as does
/// std's SIGSEGV handler, which tells a stack overflow from a crash.
pub(crate) fn become_child(parent: u32, grace: Duration) -> io::Result<()> {
    for pipe in &PIPES {
        pipe.store(NONE, Ordering::Relaxed);
    }
    STOP.store(false, Ordering::Relaxed);
    ORPHANED.store(false, Ordering::Relaxed);
    STOP_BELL.store(NONE, Ordering::Relaxed);
    PARENT.store(i32::try_from(parent).unwrap_or(0), Ordering::Relaxed);
    let micros = u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
    GRACE_MICROSECONDS.store(micros.max(1), Ordering::Relaxed);
    set_action(Signal::SIGINT, SigHandler::Handler(in_child))?;
    set_action(Signal::SIGTERM, SigHandler::Handler(in_child))?;
    set_action(Signal::SIGALRM, SigHandler::SigDfl)?;
    if installed()
        .keys()
        .any(|&index| HANDLED[index] == Signal::SIGCHLD)
    {
        set_action(Signal::SIGCHLD, SigHandler::SigDfl)?;
    }
    // Left where it is: to free it would touch pages that the child shares with its parent.
    std::mem::forget(std::mem::take(&mut *installed()));
    Ok(())
}

/// The handler rings `bell` from now on. It is the handler's for the rest of the process.
pub(crate) fn ring_at_stop(bell: OwnedFd) {
    STOP_BELL.store(bell.into_raw_fd(), Ordering::Relaxed);
}

fn ring(bell: RawFd) {
    static ONE: [u8; 8] = 1_u64.to_ne_bytes();
    poke(bell, &ONE);
}

/// In a child that is about to become another program: SIGINT and SIGTERM end it, as a program
/// expects, even if whoever started us had them ignored; and so does SIGPIPE, which std has ignored.
pub(crate) fn give_back() -> io::Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        set_action(signal, SigHandler::SigDfl)?;
    }
    Ok(())
}

/// In a child: whether it was told to stop.
pub(crate) fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// In a child: whether a signal has found the parent gone.
pub(crate) fn found_orphaned() -> bool {
    ORPHANED.load(Ordering::Relaxed)
}

/// In a child whose parent is gone: SIGALRM, which nobody handles, when the grace has passed; and
/// /dev/null for outputs that nobody reads, since to print to them would be a panic, and the client
/// in hand would pay for it. Once, however often it is called; async-signal-safe.
pub(crate) fn become_orphan() {
    static ORPHAN: AtomicI32 = AtomicI32::new(0);
    // SAFETY: getpid is async-signal-safe and cannot fail.
    let pid = unsafe { libc::getpid() };
    if ORPHAN.swap(pid, Ordering::Relaxed) == pid {
        return;
    }
    silence_broken_outputs();
    let micros = GRACE_MICROSECONDS.load(Ordering::Relaxed);
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(micros / 1_000_000).unwrap_or(libc::time_t::MAX),
        // OK because the remainder is less than a million.
        tv_usec: (micros % 1_000_000) as libc::suseconds_t,
    };
    let timer = libc::itimerval {
        it_interval: NEVER,
        it_value: value,
    };
    // SAFETY: setitimer is a bare system call in the C libraries, `timer` lives across it, and the
    // old value is not asked for.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}

fn silence_broken_outputs() {
    for fd in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        let mut ask = libc::pollfd {
            fd,
            events: 0,
            revents: 0,
        };
        // SAFETY: one pollfd, which lives across the call; poll is async-signal-safe.
        unsafe { libc::poll(&raw mut ask, 1, 0) };
        // A pipe without a reader. Whatever else the program has put there is left alone.
        if ask.revents & libc::POLLERR != 0 {
            // SAFETY: open, dup2 and close are async-signal-safe; the path is a literal, and what
            // is closed is what was opened here.
            unsafe {
                let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                if null >= 0 {
                    libc::dup2(null, fd);
                    libc::close(null);
                }
            }
        }
    }
}

const NEVER: libc::timeval = libc::timeval {
    tv_sec: 0,
    tv_usec: 0,
};
