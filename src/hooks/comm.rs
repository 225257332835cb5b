//! The child's end of the wire: which words a server sends to the parent, and when. Decides which
//! words are due; its link and its channel write, wait and read the clock.

mod acks;
mod at_fork;
mod leaving;
mod notes;
mod reopening;
mod waits;

use self::{acks::Acks, at_fork::AtFork, leaving::LeaveState, reopening::Reopening};
use crate::{
    core::{
        comm::{Acker, Channel, Sink},
        endpoint_load::Rate,
        time::Time,
        wire::CommWords,
    },
    sys::link::Link,
};
use std::{
    cell::RefCell,
    fmt, io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

/// The child's end of the wire, for a server in a child.
///
/// [`ChildServer::resume_accept`](crate::ChildServer::resume_accept) gets it.
///
/// A server says `busy` when it has a connection in hand and `not_busy` when it can take one, and
/// waits with [`wait`](Self::wait), which sends the ACKs that are due and wakes only one child for
/// a connection.
pub struct Comm {
    shared: Rc<CommShared>,
}

struct CommShared<L: ?Sized = dyn Link> {
    channel: Arc<Channel>,
    coalesce: bool,
    at_fork: AtFork,
    acks: Acks,
    leaving: LeaveState,
    reopening: Reopening,
    rate: RefCell<Rate>,
    link: L,
}

impl Comm {
    pub(crate) fn new(
        link: impl Link + 'static,
        sink: impl Sink + 'static,
        words: CommWords,
        coalesce: bool,
    ) -> Self {
        Self {
            shared: Rc::new(CommShared {
                channel: Arc::new(Channel::new(sink, words)),
                coalesce,
                at_fork: AtFork::default(),
                acks: Acks::default(),
                leaving: LeaveState::default(),
                reopening: Reopening::default(),
                rate: RefCell::default(),
                link,
            }),
        }
    }

    /// Returns another handle to the same end.
    pub(crate) fn share(&self) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
        }
    }

    /// Says that the child has a connection in hand, unless that was its last word.
    ///
    /// Each call counts one connection for [`Child::requests`](crate::Child::requests).
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn busy(&self) -> io::Result<()> {
        self.busy_since(self.now(), None)
    }

    /// The same for a connection of `peer` that was taken after `waited`, when the last wait ended.
    ///
    /// A wait within accept(2) may have been longer than that, so the cheap clock is read as well.
    pub(crate) fn busy_after(
        &self,
        waited: Option<Time>,
        peer: Option<SocketAddr>,
    ) -> io::Result<()> {
        let now = self.shared.link.now_or_so();
        self.busy_since(waited.map_or(now, |waited| waited.max(now)), peer)
    }

    fn busy_since(&self, since: Time, peer: Option<SocketAddr>) -> io::Result<()> {
        self.shared.channel.sink().begin(since, peer);
        self.shared.channel.set_busy(true)
    }

    /// Notes that no connection is in hand. Sends no word: the next connection may follow at once.
    pub(crate) fn end_connection(&self) {
        self.shared.channel.sink().end();
    }

    /// Says that the child can take a connection, unless that was its last word.
    ///
    /// Like the first BUSY, the first NOT_BUSY tells the parent that the child has started.
    /// [`wait`](Self::wait) says it if nothing was said before; a server that waits by itself
    /// should say it when it is ready.
    ///
    /// A child that was told to stop sends nothing, because it will not accept again.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn not_busy(&self) -> io::Result<()> {
        self.end_connection();
        self.shutdown_requested();
        self.shared.channel.set_busy(false)
    }

    /// Whether BUSY was the last word.
    pub fn is_busy(&self) -> bool {
        self.shared.channel.busy.load(Ordering::Relaxed)
    }

    /// Whether a child under load sends no words between connections: `coalesce_words`.
    pub fn coalesces(&self) -> bool {
        self.shared.coalesce
    }

    pub(crate) fn now(&self) -> Time {
        self.shared.link.now()
    }

    /// Returns a handle that sends ACKs.
    ///
    /// It is for other threads, tasks, and libraries that own the connection.
    pub fn acker(&self) -> Acker {
        Acker {
            channel: Arc::clone(&self.shared.channel),
        }
    }
}

/// Readable when the child should leave, for other event loops.
///
/// After the first [`Comm::wait`] it is also readable when a listener is, so use only one of the
/// two.
impl AsFd for Comm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.link.as_fd()
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comm")
            .field("busy", &self.is_busy())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
