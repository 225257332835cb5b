//! The child's handler: notes a stop, and notices that the parent is gone. A child has one parent
//! and one stop event, so these are plain statics. Does not end the child, except for an orphan's
//! timer.

use super::{
    NONE, SavedErrno,
    dispositions::{self, ChildHandlers},
    foreign, native, orphan, parent, poke, set_action,
};
use crate::{
    core::signal_policy::{InChild, TABLE},
    sys::fork::Tie,
};
use nix::{
    libc,
    sys::signal::{SigHandler, Signal},
};
use std::{
    io,
    os::fd::{IntoRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    time::Duration,
};

static STOP: AtomicBool = AtomicBool::new(false);
/// Whether the child was told to reopen its logs, and whether a callback waits for that.
static REOPEN: AtomicBool = AtomicBool::new(false);
static REOPENS: AtomicBool = AtomicBool::new(false);
static ORPHANED: AtomicBool = AtomicBool::new(false);
static STOP_EVENT: AtomicI32 = AtomicI32::new(NONE);
static PARENT: AtomicI32 = AtomicI32::new(0);
/// The process that keeps this child when its parent is gone; 0 for none.
static HOLDER: AtomicI32 = AtomicI32::new(0);
/// Whether the holder has got this child.
static HANDED_OVER: AtomicBool = AtomicBool::new(false);

extern "C" fn in_child(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let _errno = SavedErrno::save();
    if foreign::is_foreign_process() {
        return foreign::end_by(signal);
    }
    // SAFETY: getppid is async-signal-safe and cannot fail.
    let parent = unsafe { libc::getppid() };
    let (own, holder) = (
        PARENT.load(Ordering::Relaxed),
        HOLDER.load(Ordering::Relaxed),
    );
    let is_kept = holder != 0 && parent == holder && own != holder;
    // SAFETY: the kernel passes what it knows of the signal.
    if is_kept && unsafe { (*info).si_pid() } == own && !HANDED_OVER.swap(true, Ordering::Relaxed) {
        // The kernel says that the parent is gone. A stop that the parent has sent right before that is
        // on the stop board.
        return;
    }
    STOP.store(true, Ordering::Relaxed);
    if parent != own && !is_kept {
        ORPHANED.store(true, Ordering::Relaxed);
        // Also ends an orphan that is stuck in code and watches nothing.
        orphan::become_orphan();
    }
    raise(STOP_EVENT.load(Ordering::Relaxed));
}

extern "C" fn reopen_in_child(signal: libc::c_int) {
    let _errno = SavedErrno::save();
    if foreign::is_foreign_process() {
        return foreign::end_by(signal);
    }
    REOPEN.store(true, Ordering::Relaxed);
    if REOPENS.load(Ordering::Relaxed) {
        raise(STOP_EVENT.load(Ordering::Relaxed));
    }
}

extern "C" fn nothing_in_child(signal: libc::c_int) {
    let _errno = SavedErrno::save();
    if foreign::is_foreign_process() {
        foreign::end_by(signal);
    }
}

/// Installs the dispositions of a new child, while all signals are blocked: the table's, including
/// its own handlers for SIGINT and SIGTERM. Other dispositions of the user's stay, as does std's
/// SIGSEGV handler, which tells a stack overflow from a crash.
pub(crate) fn become_child(tie: Tie, grace: Duration) -> io::Result<()> {
    parent::forget_in_child();
    foreign::become_child();
    STOP.store(false, Ordering::Relaxed);
    ORPHANED.store(false, Ordering::Relaxed);
    STOP_EVENT.store(NONE, Ordering::Relaxed);
    PARENT.store(tie.parent.cast_signed(), Ordering::Relaxed);
    HOLDER.store(tie.holder.unwrap_or(0).cast_signed(), Ordering::Relaxed);
    HANDED_OVER.store(false, Ordering::Relaxed);
    orphan::set_grace(grace);
    REOPEN.store(false, Ordering::Relaxed);
    REOPENS.store(false, Ordering::Relaxed);
    dispositions::become_child(ChildHandlers {
        stop: SigHandler::SigAction(in_child),
        reopen: SigHandler::Handler(reopen_in_child),
        nothing: SigHandler::Handler(nothing_in_child),
    })
}

/// Makes the handler raise this event from now on. The handler owns it for the rest of the process.
pub(crate) fn set_stop_event(stop_event: OwnedFd) {
    STOP_EVENT.store(stop_event.into_raw_fd(), Ordering::Relaxed);
}

/// In a child: raises the stop event again.
pub(crate) fn raise_stop_event() {
    raise(STOP_EVENT.load(Ordering::Relaxed));
}

fn raise(stop_event: RawFd) {
    static ONE: [u8; 8] = 1_u64.to_ne_bytes();
    poke(stop_event, &ONE);
}

/// For a child that is about to become another program: what stops a child in any case (SIGINT,
/// SIGTERM) ends it, as a program expects, even if that was ignored when the server was started. So
/// does SIGPIPE, which std ignores.
pub(crate) fn give_back() -> io::Result<()> {
    for row in TABLE.iter().filter(|row| row.child == InChild::Stop) {
        set_action(native(row.signal)?, SigHandler::SigDfl)?;
    }
    set_action(Signal::SIGPIPE, SigHandler::SigDfl)?;
    dispositions::stop_ignoring()
}

/// The mask for a child that is about to become another program, once the child's own is restored.
pub(crate) fn block_again() -> io::Result<()> {
    dispositions::block_again()
}

/// In a child: an order to reopen logs raises the stop event from now on.
pub(crate) fn raise_stop_event_at_reopen() {
    REOPENS.store(true, Ordering::Relaxed);
}

/// In a child: whether it was told to reopen its logs.
pub(crate) fn reopen_requested() -> bool {
    REOPEN.load(Ordering::Relaxed)
}

/// The same, once for each order.
pub(crate) fn take_reopen() -> bool {
    reopen_requested() && REOPEN.swap(false, Ordering::Relaxed)
}

/// In a child: whether it was told to stop.
pub(crate) fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// In a child: whether its handler has found that the parent is gone.
pub(crate) fn found_orphaned() -> bool {
    ORPHANED.load(Ordering::Relaxed)
}
