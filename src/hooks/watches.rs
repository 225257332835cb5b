//! Descriptors of the subclass in the loop: duplicated here, watched by the system. Reads none of
//! them.

use crate::{
    core::{
        monitor::Monitor,
        states::{States, WatchId, WatchInterest},
        upgrade::UpgradeRequest,
    },
    sys::{fd_registry::Registered, parent_only::ParentOnly},
};
use std::{
    any::Any,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

/// A duplicate, which the core passes on. It is registered as the parent's at once, because a child
/// may be forked before it is watched.
fn duplicate(fd: impl AsFd) -> io::Result<Box<dyn Any>> {
    Ok(Box::new(Registered::duplicate(fd)?))
}

/// The methods of both types: states are registered before the start, and while the loop runs.
macro_rules! select_methods {
    ($($owner:ty),*) => {$(
        impl $owner {
            /// Registers `state` and posts it whenever `fd` can be read, for as long as it can.
            ///
            /// The descriptor is duplicated, and children close the duplicate. The caller keeps its own,
            /// and **each child that is forked meanwhile inherits it, open**, for as long as the child
            /// lives: an administrator's connection stays open in children after the parent has closed it.
            /// For a descriptor that only the parent needs, use
            /// [`select_read_owned`](Self::select_read_owned).
            ///
            /// # Errors
            ///
            /// When the descriptor cannot be duplicated.
            pub fn select_read(&mut self, fd: impl AsFd, state: &str) -> io::Result<WatchId> {
                Ok(self.select(duplicate(fd)?, WatchInterest::Read, state))
            }

            /// As [`select_read`](Self::select_read), whenever `fd` can be written.
            ///
            /// # Errors
            ///
            /// When the descriptor cannot be duplicated.
            pub fn select_write(&mut self, fd: impl AsFd, state: &str) -> io::Result<WatchId> {
                Ok(self.select(duplicate(fd)?, WatchInterest::Write, state))
            }

            /// As [`select_read`](Self::select_read), for a descriptor that children must not have.
            ///
            /// Each child closes it at its start. The returned [`ParentOnly`] is for the hook that reads
            /// from it.
            ///
            /// # Errors
            ///
            /// When the descriptor cannot be duplicated.
            pub fn select_read_owned<F: AsFd + AsRawFd + Into<OwnedFd>>(
                &mut self,
                fd: F,
                state: &str,
            ) -> io::Result<(WatchId, ParentOnly<F>)> {
                Ok((self.select_read(&fd, state)?, ParentOnly::new(fd)))
            }

            /// As [`select_read_owned`](Self::select_read_owned), whenever `fd` can be written.
            ///
            /// # Errors
            ///
            /// When the descriptor cannot be duplicated.
            pub fn select_write_owned<F: AsFd + AsRawFd + Into<OwnedFd>>(
                &mut self,
                fd: F,
                state: &str,
            ) -> io::Result<(WatchId, ParentOnly<F>)> {
                Ok((self.select_write(&fd, state)?, ParentOnly::new(fd)))
            }
        }
    )*};
}

select_methods!(States, Monitor);

impl Monitor {
    /// Begins an [`upgrade`](Self::upgrade), and tells its outcome on `connection`.
    ///
    /// The program is the one at `path`, if there is one. The connection is a stream socket.
    ///
    /// The outcome is one line, `ok` or `error: ` and the reason. It is written by the program that
    /// serves on, be it the new or the old one, without waiting for room. While another upgrade is under
    /// way, this one is refused, and this connection alone is told so. The descriptor is duplicated, and
    /// no child keeps it.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn upgrade_and_tell(
        &mut self,
        path: Option<&Path>,
        connection: impl AsFd,
    ) -> io::Result<()> {
        self.ask_for_upgrade(UpgradeRequest {
            program: path.map(Path::to_owned),
            asker: Some(duplicate(connection)?),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::queue::Task,
        core::testing::{PlainTask, asked, monitor},
        sys::fd_registry::is_registered,
    };
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
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
            (&watches[0], read, WatchInterest::Read, "ready"),
            (&watches[1], write, WatchInterest::Write, "room"),
        ] {
            assert_eq!(
                (watch.id, watch.readiness, &*watch.state),
                (id, readiness, state)
            );
            let fd = watch
                .descriptor
                .downcast_ref::<Registered<OwnedFd>>()
                .unwrap();
            assert_ne!(fd.as_raw_fd(), number);
        }
        // The caller's descriptor is closed, and the duplicate still reads what the other end
        // writes.
        theirs.write_all(b"x").unwrap();
        let watch = watches.into_iter().next().unwrap();
        let duplicate = watch.descriptor.downcast::<Registered<OwnedFd>>().unwrap();
        let duplicate = duplicate.try_clone().unwrap();
        let mut byte = [0];
        UnixStream::from(duplicate).read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }

    /// Children close the descriptor from the call on, though it is watched only after the hook has
    /// returned: in `before_fork` a fork comes first.
    #[test]
    fn o42_a_descriptor_is_the_parents_before_it_is_watched() {
        let (given, lent) = UnixStream::pair().unwrap();
        let mut monitor = monitor();
        monitor.select_read(&lent, "lent").unwrap();
        let (_, given) = monitor.select_read_owned(given, "given").unwrap();
        let given = given.get().unwrap();
        let watched: Vec<_> = std::iter::from_fn(|| monitor.queue.pop())
            .map(|task| match task {
                Task::Watch(watch) => watch.descriptor.downcast::<Registered<OwnedFd>>().unwrap(),
                task => panic!("{task:?}"),
            })
            .collect();
        assert_eq!(watched.len(), 2);
        assert!(watched.iter().all(|fd| is_registered(fd.as_raw_fd())));
        assert!(is_registered(given.as_raw_fd()));
        assert!(!is_registered(lent.as_raw_fd()));
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
                PlainTask::Watch("ready".to_owned()),
                PlainTask::Watch("room".to_owned()),
                PlainTask::Unwatch,
                PlainTask::State("room".to_owned()),
            ]
        );
    }
}
