//! A descriptor of the program's own that no child is to have. Closes it in children as those of the
//! framework are closed; hands it out in the parent only.

use super::fd_registry::Ours;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A descriptor that every child closes: an administrator's connection, a log, a lock.
///
/// What a program opens is inherited by all children that are forked while it is open, and
/// close-on-exec changes nothing about that: a connection that the parent has closed stays open for as long
/// as one of them lives. One that is wrapped in this is closed in each child at its start, and
/// [`get`](Self::get) finds nothing there.
///
/// ```
/// use prefork_server::ParentOnly;
/// use std::{io::Read, os::unix::net::UnixStream};
///
/// let (admin, _client) = UnixStream::pair()?;
/// admin.set_nonblocking(true)?;
/// let admin = ParentOnly::new(admin);
/// let mut stream = admin.get().expect("this is no child");
/// assert!(stream.read(&mut [0; 64]).is_err(), "nobody has written anything");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ParentOnly<F: AsRawFd>(Ours<F>);

impl<F: AsFd + AsRawFd + Into<OwnedFd>> ParentOnly<F> {
    /// Takes `inner`, which must be open, for the parent alone. Children that live have it.
    pub fn new(inner: F) -> Self {
        Self(Ours::parents(inner))
    }

    /// The descriptor; `None` in a child.
    pub fn get(&self) -> Option<&F> {
        self.0.is_open().then_some(&*self.0)
    }
}

impl Ours<OwnedFd> {
    /// Our own duplicate of a descriptor, for the parent alone from now on.
    pub(crate) fn duplicate(fd: impl AsFd) -> std::io::Result<Self> {
        Ok(Self::parents(fd.as_fd().try_clone_to_owned()?))
    }
}
