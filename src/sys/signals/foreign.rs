//! Foreign processes: forked from the parent or from a child by code that is not ours, and running
//! on without an exec, such as a helper of a handler. They inherit our handlers, but our signals
//! are not for them. Recognises them; ends one only when a signal arrives there.

use nix::libc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The process that the handlers are for. Zero while undecided: between the start of a server and
/// its first turn a program may become a daemon.
static HOME: AtomicI32 = AtomicI32::new(0);

fn own_pid() -> libc::pid_t {
    // SAFETY: getpid is async-signal-safe and cannot fail.
    unsafe { libc::getpid() }
}

/// The process in which the server that runs in `HOME` was started.
static STARTED_IN: AtomicI32 = AtomicI32::new(0);

/// Notes that the handlers are for this process, and that its server was started in `started_in`.
pub(crate) fn note_home(started_in: u32) {
    STARTED_IN.store(started_in.cast_signed(), Ordering::Relaxed);
    HOME.store(own_pid(), Ordering::Relaxed);
}

/// In a new child: the handlers are for the child, and no server was started in it.
pub(super) fn become_child() {
    STARTED_IN.store(0, Ordering::Relaxed);
    HOME.store(own_pid(), Ordering::Relaxed);
}

/// Makes the process that the handlers are for undecided again.
pub(super) fn forget_home() {
    HOME.store(0, Ordering::Relaxed);
}

/// Whether an object that was made in process `by` belongs to this process: it is the same process,
/// or the daemon that the program has become since.
pub(crate) fn is_home_of(by: u32) -> bool {
    let (by, own) = (by.cast_signed(), own_pid());
    let moved = STARTED_IN.load(Ordering::Relaxed) == by && HOME.load(Ordering::Relaxed) == own;
    by == own || moved
}

/// Whether this process is foreign. Async-signal-safe.
pub(crate) fn is_foreign_process() -> bool {
    let home = HOME.load(Ordering::Relaxed);
    home != 0 && home != own_pid()
}

/// In the handler of a foreign process: the default action of `signal`, as soon as the handler
/// returns.
pub(super) fn end_by(signal: libc::c_int) {
    // SAFETY: both are async-signal-safe, and `SIG_DFL` runs no code.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
