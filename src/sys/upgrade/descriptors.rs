//! Descriptors that are handed on under their numbers: what tells each from another one, and whether an
//! exec keeps it. Opens none.

#![allow(unsafe_code)]

use crate::{
    core::state::{Descriptor, FdRole, SocketFileState},
    sys::socket_files::BoundFile,
};
use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{MsgFlags, send},
        stat::{SFlag, fstat},
    },
};
use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStringExt,
    },
};

/// Describes a descriptor that is open.
pub(crate) fn identify(role: FdRole, fd: RawFd) -> io::Result<Descriptor> {
    let borrowed = borrow_fd(fd)?;
    let stat = fstat(borrowed)?;
    Ok(Descriptor {
        role,
        // OK because it is open.
        fd: fd.cast_unsigned(),
        device: stat.st_dev,
        inode: stat.st_ino,
        kind: stat.st_mode & SFlag::S_IFMT.bits(),
        file: BoundFile::of(&borrowed).map(SocketFileState::from),
    })
}

impl From<BoundFile> for SocketFileState {
    fn from(file: BoundFile) -> Self {
        Self {
            path: file.path.into_os_string().into_vec(),
            device: file.id.0,
            inode: file.id.1,
        }
    }
}

/// Fails unless the number leads to the file that was handed on. From now on an exec closes it.
pub(crate) fn verify(descriptor: &Descriptor) -> io::Result<()> {
    let fd = descriptor.fd.cast_signed();
    let bad = |reason: String| {
        let role = descriptor.role;
        io::Error::other(format!("descriptor {fd}, {role:?}: {reason}"))
    };
    let found = identify(descriptor.role, fd).map_err(|error| bad(error.to_string()))?;
    let identity = |it: &Descriptor| (it.device, it.inode, it.kind);
    if identity(&found) != identity(descriptor) {
        return Err(bad("it leads to another file".to_owned()));
    }
    close_on_exec(fd, true)
}

/// Whether an exec closes the descriptor. Async-signal-safe.
pub(crate) fn close_on_exec(fd: RawFd, closes: bool) -> io::Result<()> {
    let flags = if closes { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: two integers; a number that is not open is an error.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, flags) })?;
    Ok(())
}

/// Takes possession of a descriptor that was verified. Only once for each number.
pub(crate) fn take(fd: u32) -> OwnedFd {
    // SAFETY: the state lists the number for this process, it was verified to be open, and nothing
    // else in this process knows of it.
    unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) }
}

/// Borrows `fd`, if it is open.
pub(super) fn borrow_fd(fd: RawFd) -> io::Result<BorrowedFd<'static>> {
    // SAFETY: two integers; a number that is not open is an error.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: the descriptor is open and not -1, and used at once.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// A duplicate, close-on-exec.
pub(crate) fn duplicate(fd: u32) -> io::Result<OwnedFd> {
    borrow_fd(fd.cast_signed())?.try_clone_to_owned()
}

/// Writes a line to a connection without waiting; what it has no room for is lost.
pub(super) fn send_line(connection: BorrowedFd<'_>, line: &str) {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    if let Err(error) = send(connection.as_raw_fd(), line.as_bytes(), flags) {
        log::debug!("the client that asked for the upgrade is gone: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_told_from_another_one_of_the_same_number() {
        let (read, write) = std::io::pipe().unwrap();
        let known = identify(FdRole::Pipe, read.as_raw_fd()).unwrap();
        verify(&known).unwrap();
        let (other, _end) = std::io::pipe().unwrap();
        let swapped = Descriptor {
            fd: other.as_raw_fd().cast_unsigned(),
            ..known
        };
        let error = verify(&swapped).expect_err("a refusal").to_string();
        assert!(error.contains("it leads to another file"), "{error}");
        drop((read, write));
    }

    #[test]
    fn a_descriptor_that_is_missing_is_refused() {
        let missing = Descriptor {
            fd: 1 << 20,
            ..Descriptor::default()
        };
        assert!(verify(&missing).is_err());
    }
}
