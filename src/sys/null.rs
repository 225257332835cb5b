//! A file that discards output and has no input: /dev/null, or a substitute where it is missing.
//! Opens it; redirects no stream.

use crate::core::error::{Error, Operation};
use nix::{fcntl::OFlag, sys::stat::Mode};
use std::{
    io,
    os::fd::{AsRawFd, IntoRawFd, OwnedFd},
};

/// Opens /dev/null, and keeps it at standard stream numbers that the program has closed. Otherwise
/// the next descriptor to be opened would take such a number and be overwritten in each child.
pub(crate) fn open() -> Result<OwnedFd, Error> {
    loop {
        let null = open_device()
            .or_else(substitute)
            .map_err(|error| Error::new(Operation::Open, "/dev/null", error))?;
        if null.as_raw_fd() > nix::libc::STDERR_FILENO {
            return Ok(null);
        }
        // Open for the life of the process, as in std's start-up code.
        let _ = null.into_raw_fd();
    }
}

fn open_device() -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open("/dev/null", flags, Mode::empty())?)
}

/// A file in memory, for a chroot or a container without devices. A reader is at its end at once,
/// since writers and readers share one offset. It keeps what orphans print until they end, which is
/// soon.
#[cfg(target_os = "linux")]
fn substitute(error: io::Error) -> io::Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    log::debug!("no /dev/null ({error}): a file in memory takes its place");
    Ok(memfd_create(c"null", MFdFlags::MFD_CLOEXEC)?)
}

#[cfg(not(target_os = "linux"))]
fn substitute(error: io::Error) -> io::Result<OwnedFd> {
    Err(error)
}

/// Discards what was written to a file in memory that replaces /dev/null.
pub(crate) fn empty(null: &OwnedFd) {
    // OK to ignore: a device has no length.
    let _ = nix::unistd::ftruncate(null, 0);
}
