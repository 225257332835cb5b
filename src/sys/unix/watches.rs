//! The descriptors that hooks have asked to watch: duplicates, each with the state that is posted when it is
//! ready. Reads none of them.

use crate::{
    core::{
        say::say,
        states::{Watch, WatchId, WatchInterest},
        system::EventSource,
    },
    sys::{fd_registry::Registered, poller::Poller},
};
use mio::Interest;
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// A duplicate of a descriptor that a hook asked to watch.
#[derive(Debug)]
struct WatchedFd {
    id: WatchId,
    fd: Registered<OwnedFd>,
    interest: Interest,
    state: String,
}

impl WatchedFd {
    fn source(&self) -> EventSource {
        EventSource::Watch(self.id.number())
    }

    fn add_to(&self, poller: &Poller) -> io::Result<()> {
        poller.add_urgent(self.fd.as_raw_fd(), self.source(), self.interest)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(in crate::sys) struct Watches(Vec<WatchedFd>);

impl Watches {
    pub(super) fn add(&mut self, watch: Watch, poller: &Poller) -> io::Result<()> {
        let Watch {
            id,
            descriptor,
            readiness,
            state,
        } = watch;
        // OK because `select_read` and its siblings have put a descriptor in.
        let Ok(fd) = descriptor.downcast::<Registered<OwnedFd>>() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let interest = match readiness {
            WatchInterest::Read => Interest::READABLE,
            WatchInterest::Write => Interest::WRITABLE,
        };
        let watch = WatchedFd {
            id,
            fd: *fd,
            interest,
            state,
        };
        watch.add_to(poller)?;
        self.0.push(watch);
        Ok(())
    }

    /// Has another poller watch all of them.
    #[cfg(all(feature = "holder", target_os = "linux"))]
    pub(in crate::sys) fn add_all_to(&self, poller: &Poller) -> io::Result<()> {
        self.0.iter().try_for_each(|watch| watch.add_to(poller))
    }

    pub(super) fn remove(&mut self, id: WatchId, poller: &Poller) {
        if let Some(at) = self.0.iter().position(|watch| watch.id == id) {
            let watch = self.0.swap_remove(at);
            if let Err(error) = poller.remove_urgent(watch.fd.as_raw_fd()) {
                log::debug!(
                    "deregistering the descriptor of state {}: {error}",
                    watch.state
                );
            }
        }
    }

    pub(super) fn remove_all(&mut self, poller: &Poller) {
        while let Some(watch) = self.0.first() {
            self.remove(watch.id, poller);
        }
    }

    /// The state of one that is ready. It is reported again while it stays so.
    pub(super) fn state(&self, number: u64, poller: &Poller) -> Option<&str> {
        let mut watches = self.0.iter();
        let watch = watches.find(|watch| watch.id.number() == number)?;
        let renewed = poller.renew_urgent(watch.fd.as_raw_fd(), watch.source(), watch.interest);
        if let Err(error) = renewed {
            say!(
                Warn,
                "watching the descriptor of state {}: {error}",
                watch.state
            );
        }
        Some(&watch.state)
    }
}
