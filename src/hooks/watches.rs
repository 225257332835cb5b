//! Descriptors of the subclass's own in the loop: duplicated here, watched by the system. Reads nothing.

use crate::core::{
    monitor::Monitor,
    states::{Readiness, States, WatchId},
};
use std::{any::Any, io, os::fd::AsFd};

/// Our own duplicate, for the core to hand through.
fn duplicate(fd: impl AsFd) -> io::Result<Box<dyn Any>> {
    Ok(Box::new(fd.as_fd().try_clone_to_owned()?))
}

impl States {
    /// Registers `state` and posts it whenever `fd` can be read, for as long as it can.
    ///
    /// The descriptor is duplicated; the caller keeps its own. Children close the duplicate, but
    /// inherit the caller's, open.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn select_read(&mut self, fd: impl AsFd, state: &str) -> io::Result<WatchId> {
        Ok(self.select(duplicate(fd)?, Readiness::Read, state))
    }

    /// As [`select_read`](Self::select_read), whenever `fd` can be written.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn select_write(&mut self, fd: impl AsFd, state: &str) -> io::Result<WatchId> {
        Ok(self.select(duplicate(fd)?, Readiness::Write, state))
    }
}

impl Monitor {
    /// Registers `state` and posts it whenever `fd` can be read, for as long as it can. The
    /// descriptor is duplicated; the caller keeps its own.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn select_read(&mut self, fd: impl AsFd, state: &str) -> io::Result<WatchId> {
        Ok(self.select(duplicate(fd)?, Readiness::Read, state))
    }

    /// As [`select_read`](Self::select_read), whenever `fd` can be written.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn select_write(&mut self, fd: impl AsFd, state: &str) -> io::Result<WatchId> {
        Ok(self.select(duplicate(fd)?, Readiness::Write, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{Asked, asked, monitor};
    use std::{
        io::{Read, Write},
        os::{
            fd::{AsRawFd, OwnedFd},
            unix::net::UnixStream,
        },
    };

    #[test]
    fn a_watched_descriptor_is_a_duplicate() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut states = States::default();
        let read = states.select_read(&ours, "ready").unwrap();
        let write = states.select_write(&ours, "room").unwrap();
        assert!(states.contains("ready") && states.contains("room"));
        assert_ne!(read, write);
        let number = ours.as_raw_fd();
        drop(ours);
        let watches = states.take_watches();
        assert_eq!(watches.len(), 2);
        assert!(states.take_watches().is_empty(), "each is handed on once");
        for (watch, id, readiness, state) in [
            (&watches[0], read, Readiness::Read, "ready"),
            (&watches[1], write, Readiness::Write, "room"),
        ] {
            assert_eq!(
                (watch.id, watch.readiness, &*watch.state),
                (id, readiness, state)
            );
            let fd = watch.descriptor.downcast_ref::<OwnedFd>().unwrap();
            assert_ne!(fd.as_raw_fd(), number);
        }
        // The caller's is closed, and the duplicate still reads what the other end writes.
        theirs.write_all(b"x").unwrap();
        let watch = watches.into_iter().next().unwrap();
        let duplicate = *watch.descriptor.downcast::<OwnedFd>().unwrap();
        let mut byte = [0];
        UnixStream::from(duplicate).read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn a_descriptor_can_be_watched_later_and_left_alone_again() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut monitor = monitor();
        let first = monitor.select_read(&ours, "ready").unwrap();
        let second = monitor.select_write(&ours, "room").unwrap();
        assert_ne!(first, second);
        monitor.select_remove(first);
        monitor.post("room");
        assert_eq!(
            asked(&mut monitor),
            [
                Asked::Watch("ready".to_owned()),
                Asked::Watch("room".to_owned()),
                Asked::Unwatch,
                Asked::State("room".to_owned()),
            ]
        );
    }
}
