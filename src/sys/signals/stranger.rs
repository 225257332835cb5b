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

/// This process is the one that the handlers are for.
pub(crate) fn note_home() {
    HOME.store(own_pid(), Ordering::Relaxed);
}

/// Which process that is, is open again.
pub(super) fn forget_home() {
    HOME.store(0, Ordering::Relaxed);
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
