//! A flag that a parent raises for its children, who can wait for it. Does not know what it means.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

/// A flag that all processes share. A raised one is a descriptor that can be read.
///
/// A child could change it: nothing depends on it but when a child looks at something.
#[derive(Debug)]
pub(crate) struct Flag(imp::Shared);

impl Flag {
    /// A lowered flag, for the children of the server that is being started.
    pub(crate) fn new() -> io::Result<Self> {
        imp::Shared::new().map(Self)
    }

    /// Raises it, or lowers it; costs a system call.
    pub(crate) fn set(&self, raised: bool) -> io::Result<()> {
        self.0.set(raised)
    }

    pub(crate) fn is_raised(&self) -> io::Result<bool> {
        super::sockets::is_queued(&self.0)
    }
}

impl AsFd for Flag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use crate::sys::fd_registry::Registered;
    use nix::{
        errno::Errno,
        sys::eventfd::{EfdFlags, EventFd},
        unistd,
    };
    use std::{
        io,
        os::fd::{AsFd, BorrowedFd, OwnedFd},
    };

    #[derive(Debug)]
    pub(super) struct Shared(Registered<OwnedFd>);

    impl Shared {
        pub(super) fn new() -> io::Result<Self> {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let fd = OwnedFd::from(EventFd::from_flags(flags)?);
            Ok(Self(Registered::servers(fd)))
        }

        pub(super) fn set(&self, raised: bool) -> io::Result<()> {
            let done = match raised {
                true => unistd::write(&*self.0, &1_u64.to_ne_bytes()),
                // The number that is read is zero from then on, however large it was.
                false => unistd::read(&*self.0, &mut [0; 8]),
            };
            match done {
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
    }

    impl AsFd for Shared {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::{
        convert::Infallible,
        io,
        os::fd::{AsFd, BorrowedFd},
    };

    /// There is none: what it is for works on Linux only.
    #[derive(Debug)]
    pub(super) struct Shared(Infallible);

    impl Shared {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn set(&self, _: bool) -> io::Result<()> {
            match self.0 {}
        }
    }

    impl AsFd for Shared {
        fn as_fd(&self) -> BorrowedFd<'_> {
            match self.0 {}
        }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_stays_as_it_was_set_last() {
        let flag = Flag::new().unwrap();
        for raised in [false, true, true, false, false, true] {
            flag.set(raised).unwrap();
            assert_eq!(flag.is_raised().unwrap(), raised);
            assert_eq!(flag.is_raised().unwrap(), raised, "a look changes nothing");
        }
    }
}
