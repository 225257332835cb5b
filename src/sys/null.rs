//! What takes output and keeps none, and has no input: /dev/null, or what does for it where there is
//! none. Opens; puts it nowhere.

use crate::core::error::{Error, Operation};
use nix::{fcntl::OFlag, sys::stat::Mode};
use std::{
    io,
    os::fd::{AsRawFd, IntoRawFd, OwnedFd},
};

/// Opens it, and leaves it at the numbers of standard streams that the program has closed: whatever
/// is opened next would take one of them, and be overwritten in each child.
pub(crate) fn open() -> Result<OwnedFd, Error> {
    loop {
        let null = open_device()
            .or_else(substitute)
            .map_err(|error| Error::new(Operation::Open, "/dev/null", error))?;
        if null.as_raw_fd() > nix::libc::STDERR_FILENO {
            return Ok(null);
        }
        // For as long as the process lives, as std has it when a program starts.
        let _ = null.into_raw_fd();
    }
}

fn open_device() -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open("/dev/null", flags, Mode::empty())?)
}

/// A file in memory: a chroot or a container may have no devices. A reader finds its end at once,
/// since it is written at the one offset that all who hold it share. What orphans print is kept in it
/// until they end, and they end soon.
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

/// Forgets what was written where a file in memory is in the place of /dev/null.
pub(crate) fn empty(null: &OwnedFd) {
    // OK to ignore: a device has no length.
    let _ = nix::unistd::ftruncate(null, 0);
}
