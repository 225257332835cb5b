//! Processes that were forked from the parent or from a child by other code than ours and run on
//! without an exec, such as a helper of a handler: strangers. They have our handlers, and are none
//! of ours. Tells them from the process that our signals are for; ends none.

use nix::libc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The process that the handlers are for; zero while that is open: between the start of a server and
/// its first turn a program may become a daemon.
static HOME: AtomicI32 = AtomicI32::new(0);

fn own_pid() -> libc::pid_t {
    // SAFETY: getpid is async-signal-safe and cannot fail.
    unsafe { libc::getpid() }
}

/// The process in which the server that lives in `HOME` was started.
static STARTED_IN: AtomicI32 = AtomicI32::new(0);

/// This process is the one that the handlers are for; its server was started in `started_in`.
pub(crate) fn note_home(started_in: u32) {
    STARTED_IN.store(started_in.cast_signed(), Ordering::Relaxed);
    HOME.store(own_pid(), Ordering::Relaxed);
}

/// In a new child: it is one of its own, and no server was started in it.
pub(super) fn become_child() {
    STARTED_IN.store(0, Ordering::Relaxed);
    HOME.store(own_pid(), Ordering::Relaxed);
}

/// Which process that is, is open again.
pub(super) fn forget_home() {
    HOME.store(0, Ordering::Relaxed);
}

/// Whether what was started in process `by` belongs to this one: it is the same, or the daemon that
/// the program has become since.
pub(crate) fn is_home_of(by: u32) -> bool {
    let (by, own) = (by.cast_signed(), own_pid());
    let moved = STARTED_IN.load(Ordering::Relaxed) == by && HOME.load(Ordering::Relaxed) == own;
    by == own || moved
}

/// Whether this process is a stranger. Async-signal-safe.
pub(crate) fn is_one() -> bool {
    let home = HOME.load(Ordering::Relaxed);
    home != 0 && home != own_pid()
}

/// In the handler of a stranger: the default action of `signal`, as soon as the handler returns.
pub(super) fn end_by(signal: libc::c_int) {
    // SAFETY: both are async-signal-safe, and `SIG_DFL` is no code.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
