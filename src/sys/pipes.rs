//! The pipes between parent and child: close-on-exec, non-blocking at the parent's ends. Reads
//! bytes; does not interpret them.

#![allow(unsafe_code)]

use super::fd_registry::Registered;
use nix::{fcntl::OFlag, libc, unistd};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

/// A pipe, close-on-exec.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// What a signal handler raises: a write end, and a read end that becomes readable. To raise it is to
/// write eight bytes, a one in this machine's byte order; it never blocks.
#[cfg(target_os = "linux")]
pub(crate) fn event() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::sys::eventfd::{EfdFlags, EventFd};
    // An eventfd is cheaper to make than a pipe, and every child makes one.
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let event = OwnedFd::from(EventFd::from_flags(flags)?);
    Ok((event.try_clone()?, event))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn event() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe()?;
    set_nonblocking(&write)?;
    Ok((write, read))
}

/// A pipe whose read end belongs to the parent.
fn from_child() -> io::Result<(Registered<OwnedFd>, OwnedFd)> {
    let (read, write) = pipe()?;
    set_nonblocking(&read)?;
    Ok((Registered::parents(read), write))
}

/// Sets O_NONBLOCK. The mode belongs to the open file description: never set it on one that is
/// shared with code that expects blocking mode.
pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let mut on: libc::c_int = 1;
    // SAFETY: FIONBIO reads one int, which lives across the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &raw mut on) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The parent's ends of one child's pipes.
#[derive(Debug)]
pub(crate) struct ParentEnds {
    pub(crate) stdout: Registered<OwnedFd>,
    pub(crate) stderr: Registered<OwnedFd>,
    pub(crate) comm: Option<Registered<OwnedFd>>,
}

/// The child's ends of its pipes.
#[derive(Debug)]
pub(crate) struct ChildEnds {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) comm: Option<OwnedFd>,
}

/// The pipes of one child; with `private`, also a pipe for words.
pub(crate) fn for_child(private: bool) -> io::Result<(ParentEnds, ChildEnds)> {
    let (stdout_read, stdout) = from_child()?;
    let (stderr_read, stderr) = from_child()?;
    let (comm_read, comm) = match private.then(from_child).transpose()? {
        Some((read, write)) => (Some(read), Some(write)),
        None => (None, None),
    };
    let parents = ParentEnds {
        stdout: stdout_read,
        stderr: stderr_read,
        comm: comm_read,
    };
    Ok((
        parents,
        ChildEnds {
            stdout,
            stderr,
            comm,
        },
    ))
}

/// Reads once. `None` when there is nothing to read now; 0 at the end.
pub(crate) fn read(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match unistd::read(fd, buffer) {
            Ok(count) => return Ok(Some(count)),
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// How many bytes the pipe holds now.
pub(crate) fn pending(fd: &OwnedFd) -> io::Result<usize> {
    pending_in(fd.as_raw_fd())
}

/// The same for a descriptor that has no owner yet.
pub(crate) fn pending_in(fd: RawFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which lives across the call; a number that is not open is an
    // error.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if result == 0 {
        Ok(usize::try_from(count).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Writes without blocking to a pipe that is in blocking mode and must stay so. `None` if there is
/// no room now.
pub(crate) fn write_nowait(fd: libc::c_int, bytes: &[u8]) -> io::Result<Option<usize>> {
    loop {
        match try_write_nowait(fd, bytes) {
            Ok(count) => return Ok(Some(count)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => return Ok(None),
                _ => return Err(error),
            },
        }
    }
}

#[cfg(target_os = "linux")]
fn try_write_nowait(fd: libc::c_int, bytes: &[u8]) -> io::Result<usize> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: one iovec that points at `bytes`, which lives across the call and is only read.
    // Offset -1 means the current position, as in write(2).
    let written = unsafe { libc::pwritev2(fd, &raw const part, 1, -1, libc::RWF_NOWAIT) };
    if written >= 0 {
        return Ok(written.unsigned_abs());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Kernels before 6.5 do not support the flag for pipes.
        Some(libc::EOPNOTSUPP | libc::ENOSYS) => write_if_writable(fd, bytes),
        _ => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn try_write_nowait(fd: libc::c_int, bytes: &[u8]) -> io::Result<usize> {
    write_if_writable(fd, bytes)
}

/// The fallback: if poll(2) calls a pipe writable, it has room for PIPE_BUF bytes, unless another
/// writer takes the room in between.
fn write_if_writable(fd: libc::c_int, bytes: &[u8]) -> io::Result<usize> {
    let mut ask = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd, which lives across the call.
    if unsafe { libc::poll(&raw mut ask, 1, 0) } == 0 {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    let count = bytes.len().min(libc::PIPE_BUF);
    // SAFETY: `count` bytes of `bytes` are readable.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), count) };
    if written >= 0 {
        Ok(written.unsigned_abs())
    } else {
        Err(io::Error::last_os_error())
    }
}
