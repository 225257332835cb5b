//! Sockets that the process which started this program has left open for it, and the variables that
//! announce them. Inspects and duplicates descriptors; decides nothing.

#![allow(unsafe_code)]

use super::{fd_registry, limits};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    sys::socket::{self, sockopt},
};
use std::{
    env, io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

/// LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES.
pub(crate) const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The kind of a descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FdKind {
    /// A socket of the kind that was asked for.
    Fitting {
        listens: bool,
    },
    OtherSocket,
    NoSocket,
}

/// The number of a descriptor that was handed over. It is in the registry, so that children close
/// it. The parent does not close it when this is dropped: it belongs to the program.
#[derive(Debug)]
pub(crate) struct HandedOverFd(RawFd);

impl AsRawFd for HandedOverFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// The kind of `fd`; `fits` recognises a fitting socket. Fails if `fd` was not open at our start:
/// if an announced descriptor is missing, a descriptor of ours may get its number.
pub(crate) fn kind(fd: RawFd, fits: &dyn Fn(BorrowedFd<'_>) -> bool) -> io::Result<FdKind> {
    if fd_registry::is_registered(fd) {
        return Err(Errno::EBADF.into());
    }
    let fd = open(fd)?;
    match socket::getsockopt(&fd, sockopt::SockType) {
        Err(Errno::ENOTSOCK) => Ok(FdKind::NoSocket),
        Err(errno) => Err(errno.into()),
        Ok(_) if fits(fd) => {
            let listens = socket::getsockopt(&fd, sockopt::AcceptConn)?;
            Ok(FdKind::Fitting { listens })
        }
        Ok(_) => Ok(FdKind::OtherSocket),
    }
}

/// A duplicate of `fd`, a listening socket, close-on-exec and in non-blocking mode. The original
/// becomes close-on-exec too: programs that children run must not find it.
///
/// The original is not used: its number comes from a variable, whose writer may have been wrong.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<(OwnedFd, HandedOverFd)> {
    let original = open(fd)?;
    let copy = original.try_clone_to_owned()?;
    let flags = FdFlag::from_bits_retain(fcntl(original, FcntlArg::F_GETFD)?);
    fcntl(original, FcntlArg::F_SETFD(flags | FdFlag::FD_CLOEXEC))?;
    Ok((copy, HandedOverFd(fd)))
}

/// Borrows `fd`, if it is open.
fn open(fd: RawFd) -> io::Result<BorrowedFd<'static>> {
    // SAFETY: two integers; a number that is not open is an error.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: the descriptor is open, not -1, and used at once: a server that starts has one
    // thread, which closes nothing meanwhile.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// In a child: removes the variables, so that programs that it runs do not use them. They contain
/// the parent's pid, so such programs should ignore them anyway; this is a second safeguard. It is
/// skipped if the child has, or may have, several threads.
pub(crate) fn forget_variables() {
    if !limits::has_one_thread() {
        return;
    }
    for variable in VARIABLES.into_iter().chain(["LISTEN_PIDFDID"]) {
        // SAFETY: there is one thread, so no other thread uses the environment meanwhile.
        unsafe { env::remove_var(variable) };
    }
}
