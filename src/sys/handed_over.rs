//! Sockets that whoever started this program has left open for it, and the variables that say so.
//! Looks at descriptors and duplicates them; closes none and decides nothing.

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

/// What a descriptor is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A socket of the kind that was asked for.
    Fitting {
        listens: bool,
    },
    OtherSocket,
    NoSocket,
}

/// The number of a descriptor that was handed over. In the registry of descriptors of ours children
/// close it, and the parent does not when this is dropped: it is the program's.
#[derive(Debug)]
pub(crate) struct Given(RawFd);

impl AsRawFd for Given {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// What `fd` is, where `fits` tells a fitting socket from others. An error if it was not open when we
/// began: what was promised and is missing leaves a number that descriptors of ours take.
pub(crate) fn kind(fd: RawFd, fits: &dyn Fn(BorrowedFd<'_>) -> bool) -> io::Result<Kind> {
    if fd_registry::is_of_our_making(fd) {
        return Err(Errno::EBADF.into());
    }
    let fd = open(fd)?;
    match socket::getsockopt(&fd, sockopt::SockType) {
        Err(Errno::ENOTSOCK) => Ok(Kind::NoSocket),
        Err(errno) => Err(errno.into()),
        Ok(_) if fits(fd) => {
            let listens = socket::getsockopt(&fd, sockopt::AcceptConn)?;
            Ok(Kind::Fitting { listens })
        }
        Ok(_) => Ok(Kind::OtherSocket),
    }
}

/// A duplicate of `fd`, a listening socket, close-on-exec and in non-blocking mode. The original
/// becomes close-on-exec too: programs that children run are not to find it.
///
/// It is not taken itself, but duplicated: the number came in a variable, and whoever wrote that may
/// have been wrong about whose it is.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<(OwnedFd, Given)> {
    let original = open(fd)?;
    let copy = original.try_clone_to_owned()?;
    let flags = FdFlag::from_bits_retain(fcntl(original, FcntlArg::F_GETFD)?);
    fcntl(original, FcntlArg::F_SETFD(flags | FdFlag::FD_CLOEXEC))?;
    Ok((copy, Given(fd)))
}

/// Borrows `fd`, if it is open.
fn open(fd: RawFd) -> io::Result<BorrowedFd<'static>> {
    // SAFETY: two integers; a number that is not open is an error.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: it is open, not -1, and used at once: a server that starts has one thread, which closes
    // nothing meanwhile.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// In a child: forgets the variables, so that programs which it runs do not take themselves for whoever
/// they were meant for. They name the parent's pid, so nobody should; this is a second belt, and is
/// left off if the child has several threads already, or if that cannot be known.
pub(crate) fn forget_variables() {
    if !limits::has_one_thread() {
        return;
    }
    for variable in VARIABLES.into_iter().chain(["LISTEN_PIDFDID"]) {
        // SAFETY: there is one thread, so none reads or writes the environment meanwhile.
        unsafe { env::remove_var(variable) };
    }
}
