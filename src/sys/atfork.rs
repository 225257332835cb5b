//! What is done where code of the program's forks, and its child runs on without an exec: it keeps none
//! of our descriptors, and the connection in hand ends when the handler returns, whoever has a copy.
//! Sees the forks of the C library; a bare clone(2) is not seen.

#![allow(unsafe_code)]

use super::{fd_registry, signals::stranger};
use crate::core::say::say;
use nix::libc;
use std::{
    io,
    os::fd::RawFd,
    sync::{
        Once,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

/// No descriptor: ours are never a standard stream.
const NONE: RawFd = 0;
/// Whether the fork that is under way is one of ours.
static OURS: AtomicBool = AtomicBool::new(false);
/// In a child: the connection that was accepted last, and the listener that it came from.
static ACCEPTED: AtomicI32 = AtomicI32::new(NONE);
static LISTENER: AtomicI32 = AtomicI32::new(NONE);
/// A duplicate of the connection in hand, once somebody else has a copy.
static SHARED: AtomicI32 = AtomicI32::new(NONE);

/// Sees to the forks of others from now on. It cannot be undone, and does nothing while there is no
/// server.
pub(crate) fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY: both functions are there for as long as the process lives.
        let failed =
            unsafe { libc::pthread_atfork(None, Some(others_forked), Some(forked_by_others)) };
        if failed != 0 {
            let error = io::Error::from_raw_os_error(failed);
            say!(
                Warn,
                "forks of the program's own will keep descriptors of ours: {error}"
            );
        }
    });
}

/// Runs `fork`, which is one of ours.
pub(crate) fn ours<R>(fork: impl FnOnce() -> R) -> R {
    OURS.store(true, Ordering::Relaxed);
    let forked = fork();
    OURS.store(false, Ordering::Relaxed);
    forked
}

/// In the new process.
unsafe extern "C" fn forked_by_others() {
    if OURS.load(Ordering::Relaxed) || !stranger::is_one() {
        return;
    }
    // What this process does with its copy of the connection is its own affair.
    ACCEPTED.store(NONE, Ordering::Relaxed);
    SHARED.store(NONE, Ordering::Relaxed);
    fd_registry::close_in_stranger();
}

/// In the process that has forked.
unsafe extern "C" fn others_forked() {
    let (accepted, listener) = (
        ACCEPTED.load(Ordering::Relaxed),
        LISTENER.load(Ordering::Relaxed),
    );
    let is_due = accepted != NONE && SHARED.load(Ordering::Relaxed) == NONE;
    if OURS.load(Ordering::Relaxed) || !is_due || !came_from(accepted, listener) {
        return;
    }
    // SAFETY: two integers; the duplicate is nobody else's.
    let shared = unsafe { libc::fcntl(accepted, libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1) };
    SHARED.store(shared.max(NONE), Ordering::Relaxed);
}

/// Whether `fd` still is a connection that `listener` was connected to by: its handler may have closed
/// it, and the number be that of something else.
fn came_from(fd: RawFd, listener: RawFd) -> bool {
    use nix::sys::socket::{SockaddrStorage, getsockname};
    let port = |fd| {
        let name = getsockname::<SockaddrStorage>(fd).ok()?;
        let v4 = name.as_sockaddr_in().map(|name| name.port());
        let v6 = name.as_sockaddr_in6().map(|name| name.port());
        let path = name
            .as_unix_addr()
            .and_then(|name| name.path().map(ToOwned::to_owned));
        Some((v4.or(v6), path)).filter(|name| *name != (None, None))
    };
    port(fd).is_some_and(|name| port(listener) == Some(name))
}

/// In a child: `fd` has been accepted on `listener`.
pub(crate) fn note_accepted(fd: RawFd, listener: RawFd) {
    ACCEPTED.store(fd, Ordering::Relaxed);
    LISTENER.store(listener, Ordering::Relaxed);
}

/// In a child: the handler has returned. Its connection ends, also for those who have a copy.
pub(crate) fn connection_is_over() {
    let shared = SHARED.swap(NONE, Ordering::Relaxed);
    if shared != NONE {
        // SAFETY: the duplicate is ours alone. OK to ignore errors: the client may be gone already.
        unsafe {
            libc::shutdown(shared, libc::SHUT_RDWR);
            libc::close(shared);
        }
    }
}
