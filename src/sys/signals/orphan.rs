//! A child whose parent is gone: how long it may live on, and where its output goes.

use super::NONE;
use nix::libc;
use std::{
    os::fd::RawFd,
    sync::atomic::{AtomicI32, AtomicU64, Ordering},
    time::Duration,
};

static GRACE_MICROSECONDS: AtomicU64 = AtomicU64::new(0);
/// A descriptor that discards output.
static NULL: AtomicI32 = AtomicI32::new(NONE);

/// How long an orphan may live on.
pub(super) fn set_grace(grace: Duration) {
    let micros = u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
    GRACE_MICROSECONDS.store(micros.max(1), Ordering::Relaxed);
}

/// Sets the descriptor for outputs without a reader. It is opened early: a child may live where
/// there is no /dev/null.
pub(crate) fn keep_null(fd: RawFd) {
    NULL.store(fd, Ordering::Relaxed);
}

/// In a child whose parent is gone: arms SIGALRM, which has its default action, for the end of the
/// grace. Also redirects outputs without a reader to /dev/null: a print would otherwise panic, and
/// the client in hand would lose its connection. Acts once, however often it is called;
/// async-signal-safe.
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
        // A pipe without a reader. A file that the program has put there is left alone.
        if ask.revents & libc::POLLERR != 0 {
            redirect_to_null(fd);
        }
    }
}

/// Redirects to the descriptor that was kept, or to a new one if it has been closed.
fn redirect_to_null(fd: RawFd) {
    let kept = NULL.load(Ordering::Relaxed);
    // SAFETY: open, dup2 and close are async-signal-safe; the path is a literal, and only the
    // descriptor opened here is closed.
    unsafe {
        if kept != NONE && libc::dup2(kept, fd) >= 0 {
            return;
        }
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if null >= 0 {
            libc::dup2(null, fd);
            libc::close(null);
        }
    }
}

const NEVER: libc::timeval = libc::timeval {
    tv_sec: 0,
    tv_usec: 0,
};
