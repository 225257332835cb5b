//! A descriptor of the program's that no child keeps. Children close it like the crate's own
//! descriptors; only the parent can get it.

use super::fd_registry::Registered;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A descriptor that every child closes, such as an administrator's connection.
///
/// Every child inherits the descriptors that are open when it is forked, and close-on-exec does not
/// change that. So a connection that the parent has closed stays open as long as one of those
/// children lives. A child closes a descriptor that is wrapped in this type when it starts, and
/// [`get`](Self::get) returns `None` there.
///
/// ```
/// use prefork_server::ParentOnly;
/// use std::{io::Read, os::unix::net::UnixStream};
///
/// let (admin, _client) = UnixStream::pair()?;
/// admin.set_nonblocking(true)?;
/// let admin = ParentOnly::new(admin);
/// let mut stream = admin.get().expect("this is the parent");
/// assert!(stream.read(&mut [0; 64]).is_err(), "there is no input");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ParentOnly<F: AsRawFd>(Registered<F>);

impl<F: AsFd + AsRawFd + Into<OwnedFd>> ParentOnly<F> {
    /// Keeps `inner`, which must be open, for the parent alone.
    ///
    /// Children that already live keep their copies.
    pub fn new(inner: F) -> Self {
        Self(Registered::parents(inner))
    }

    /// The descriptor; `None` in a child.
    pub fn get(&self) -> Option<&F> {
        self.0.is_open().then_some(&*self.0)
    }
}

impl Registered<OwnedFd> {
    /// Our own duplicate of a descriptor, from now on for the parent alone.
    pub(crate) fn duplicate(fd: impl AsFd) -> std::io::Result<Self> {
        Ok(Self::parents(fd.as_fd().try_clone_to_owned()?))
    }
}
