//! Handles forks by code that is not ours, when the new process runs on without an exec. That
//! process keeps none of our descriptors, and the connection in hand ends when the handler returns,
//! even if other processes have copies. Notices the forks of the C library only, not a bare
//! clone(2).

#![allow(unsafe_code)]

use super::{cells, fd_registry, signals::foreign};
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

/// No descriptor: ours are never standard streams.
const NONE: RawFd = 0;
/// Whether the fork in progress is one of ours.
static OURS: AtomicBool = AtomicBool::new(false);
/// In a child: the connection accepted last, and the listener that it came from.
static ACCEPTED: AtomicI32 = AtomicI32::new(NONE);
static LISTENER: AtomicI32 = AtomicI32::new(NONE);
/// A duplicate of the connection in hand, made once another process has a copy.
static SHARED: AtomicI32 = AtomicI32::new(NONE);

/// Installs the fork handlers. They cannot be removed, and do nothing while there is no server.
pub(crate) fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY: both functions exist for the life of the process.
        let failed =
            unsafe { libc::pthread_atfork(None, Some(others_forked), Some(forked_by_others)) };
        if failed != 0 {
            let error = io::Error::from_raw_os_error(failed);
            say!(
                Warn,
                "processes that the program forks will keep our descriptors: {error}"
            );
        }
    });
}

/// Runs `fork`, which is a fork of ours.
pub(crate) fn ours<R>(fork: impl FnOnce() -> R) -> R {
    OURS.store(true, Ordering::Relaxed);
    let forked = fork();
    OURS.store(false, Ordering::Relaxed);
    forked
}

/// Runs in the new process.
unsafe extern "C" fn forked_by_others() {
    if OURS.load(Ordering::Relaxed) || !foreign::is_foreign_process() {
        return;
    }
    // This process may do what it likes with its copy of the connection.
    ACCEPTED.store(NONE, Ordering::Relaxed);
    SHARED.store(NONE, Ordering::Relaxed);
    cells::leave();
    fd_registry::close_in_foreign_process();
}

/// Runs in the process that has forked.
unsafe extern "C" fn others_forked() {
    let (accepted, listener) = (
        ACCEPTED.load(Ordering::Relaxed),
        LISTENER.load(Ordering::Relaxed),
    );
    let is_due = accepted != NONE && SHARED.load(Ordering::Relaxed) == NONE;
    if OURS.load(Ordering::Relaxed) || !is_due || !came_from(accepted, listener) {
        return;
    }
    // SAFETY: two integers; the duplicate has no other owner.
    let shared = unsafe { libc::fcntl(accepted, libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1) };
    SHARED.store(shared.max(NONE), Ordering::Relaxed);
}

/// Whether `fd` is still a connection accepted on `listener`: the handler may have closed it, and
/// the number may be in use again.
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

/// In a child: notes that `fd` was accepted on `listener`.
pub(crate) fn note_accepted(fd: RawFd, listener: RawFd) {
    ACCEPTED.store(fd, Ordering::Relaxed);
    LISTENER.store(listener, Ordering::Relaxed);
}

/// In a child: notes that the handler has returned. Ends its connection, also for processes that
/// have a copy.
pub(crate) fn connection_is_over() {
    let shared = SHARED.swap(NONE, Ordering::Relaxed);
    if shared != NONE {
        // SAFETY: the duplicate is ours alone. OK to ignore errors: the client may have gone
        // already.
        unsafe {
            libc::shutdown(shared, libc::SHUT_RDWR);
            libc::close(shared);
        }
    }
}
