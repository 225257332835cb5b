//! Signals: one handler in the parent for all servers of the process, another in each child. The
//! handlers count and write a byte; everything else happens in the loops.
//!
//! signal-hook is not used: its registry and its pipe are global and inherited, and a signal to a
//! child would wake the parent.

#![allow(unsafe_code)]

mod child;
mod dispositions;
mod mask;
mod orphan;
mod parent;
pub(crate) mod stranger;

pub(crate) use self::{
    child::{become_child, found_orphaned, give_back, ring_at_stop, stop_requested},
    mask::Mask,
    orphan::{become_orphan, keep_null},
    parent::Subscription,
};

use crate::core::child::Signal;
use nix::{
    errno::Errno,
    libc,
    sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, sigaction},
};
use std::{io, os::fd::RawFd};

/// No descriptor: nothing of ours is ever a standard stream. Zero, so that the statics that a child
/// resets lie on one page of those that begin as zeros, and a new child has no other to copy.
const NONE: RawFd = 0;

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

fn set_action(signal: signal::Signal, handler: SigHandler) -> io::Result<SigAction> {
    // Restarting, so that the user's own blocking calls do not fail with EINTR (poll(2) and
    // epoll_wait(2) are interrupted all the same). On the alternate stack, if the thread has one:
    // code that switches stacks leaves no room for a handler on its own.
    let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    let action = SigAction::new(handler, flags, SigSet::empty());
    // SAFETY: our handlers call nothing but async-signal-safe functions; `SIG_DFL` and `SIG_IGN`
    // are no code.
    Ok(unsafe { sigaction(signal, &action) }?)
}

/// The number of a signal on this system.
pub(crate) const fn number(signal: Signal) -> libc::c_int {
    match signal {
        Signal::Abort => libc::SIGABRT,
        Signal::Alarm => libc::SIGALRM,
        Signal::BackgroundRead => libc::SIGTTIN,
        Signal::BackgroundWrite => libc::SIGTTOU,
        Signal::Child => libc::SIGCHLD,
        Signal::Continue => libc::SIGCONT,
        Signal::FileSize => libc::SIGXFSZ,
        Signal::Hangup => libc::SIGHUP,
        Signal::Interrupt => libc::SIGINT,
        Signal::Kill => libc::SIGKILL,
        Signal::Pipe => libc::SIGPIPE,
        Signal::Quit => libc::SIGQUIT,
        Signal::Stop => libc::SIGSTOP,
        Signal::Terminate => libc::SIGTERM,
        Signal::User1 => libc::SIGUSR1,
        Signal::User2 => libc::SIGUSR2,
        Signal::Window => libc::SIGWINCH,
    }
}

/// The same as nix has it.
fn native(signal: Signal) -> io::Result<signal::Signal> {
    Ok(signal::Signal::try_from(number(signal))?)
}
