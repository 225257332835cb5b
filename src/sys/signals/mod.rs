//! Signals: one handler in the parent for all servers of the process, another one in each child.
//! The handlers count and write a byte; the loops do everything else.
//!
//! signal-hook is not used: its registry and its pipe are global and inherited, and a signal to a
//! child would wake the parent.

#![allow(unsafe_code)]

mod child;
mod dispositions;
pub(crate) mod foreign;
mod mask;
mod orphan;
mod parent;

#[cfg(target_os = "linux")]
pub(crate) use self::parent::{after_failed_exec, leave_all_to_next};
pub(crate) use self::{
    child::{
        become_child, block_again, found_orphaned, give_back, raise_stop_event,
        raise_stop_event_at_reopen, reopen_requested, set_stop_event, stop_requested, take_reopen,
    },
    mask::Mask,
    orphan::{become_orphan, keep_null},
    parent::Subscription,
};

use crate::core::child::{Signal, with_signals};
use nix::{
    errno::Errno,
    libc,
    sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, sigaction},
};
use std::{io, os::fd::RawFd};

/// No descriptor: ours are never standard streams. Zero, so that the statics that a child resets
/// share one page in .bss, and a new child copies one page only.
const NONE: RawFd = 0;

/// Restores errno: the interrupted code may be about to read it.
pub(super) struct SavedErrno(Errno);

impl SavedErrno {
    pub(super) fn save() -> Self {
        Self(Errno::last())
    }
}

impl Drop for SavedErrno {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Writes to a descriptor that is open and in non-blocking mode.
fn poke(fd: RawFd, bytes: &'static [u8]) {
    if fd == NONE {
        return;
    }
    // Tries again after an interruption: a lost wake-up is a lost signal.
    // SAFETY: write(2) is async-signal-safe; the bytes of a static are readable. If there is no
    // room, the pipe already holds a wake-up for the reader.
    while unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) } < 0
        && Errno::last() == Errno::EINTR
    {}
}

fn set_action(signal: signal::Signal, handler: SigHandler) -> io::Result<SigAction> {
    // SA_RESTART keeps the user's blocking calls from failing with EINTR (it does not affect
    // poll(2) and epoll_wait(2)). SA_ONSTACK uses the thread's alternate stack, if any: code that
    // switches stacks may leave no room for a handler.
    let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    // No handler interrupts another one: the frames of a few would fill an alternate stack. So the
    // question for the stack waits, too, and is about the code that was interrupted.
    let action = SigAction::new(handler, flags, SigSet::all());
    // SAFETY: our handlers call only async-signal-safe functions; `SIG_DFL` and `SIG_IGN` run no
    // code.
    Ok(unsafe { sigaction(signal, &action) }?)
}

/// Before an exec of this process, while all signals are blocked: the next program is to find what this
/// one has found.
#[cfg(target_os = "linux")]
pub(crate) fn before_exec() -> io::Result<()> {
    dispositions::before_exec()
}

/// The signals that the program had blocked, by number: bit 0 is signal 1.
pub(crate) fn blocked_before() -> io::Result<u64> {
    dispositions::blocked_before()
}

/// After an upgrade: blocks again what the program had blocked, and lets come what servers handle.
pub(crate) fn resume(blocked_before: u64) -> io::Result<()> {
    dispositions::resume(blocked_before)
}

macro_rules! define_number {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $native:ident;)*) => {
        /// The number of a signal on this system.
        pub(crate) const fn number(signal: Signal) -> libc::c_int {
            match signal {
                $(Signal::$name => libc::$native,)*
            }
        }
    };
}
with_signals!(define_number);

/// The same number as nix's type.
fn native(signal: Signal) -> io::Result<signal::Signal> {
    Ok(signal::Signal::try_from(number(signal))?)
}
