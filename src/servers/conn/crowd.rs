//! Clients that have less time while others wait for a child. Looks now and then whether they do;
//! ends no connection.

use super::{Conn, Stream};
use crate::{core::time::Time, sys::sockets};
use std::time::Duration;

/// How often, at most, a connection looks whether the server is crowded.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl<S: Stream> Conn<S> {
    /// Whether all children are busy and other clients wait for one of them.
    ///
    /// A handler may then end a connection that is kept open for a further request, or do less
    /// work. It costs one system call for each listening socket. Never true while there are fewer
    /// children than [`max_clients`](Self::max_clients).
    pub fn is_crowded(&self) -> bool {
        self.busy_servers() >= self.max_clients() && self.others_wait()
    }

    fn others_wait(&self) -> bool {
        let listeners = self.listeners.borrow();
        let mut listeners = listeners.iter();
        // OK to ignore errors: a socket whose state cannot be read has no client to serve.
        listeners.any(|listener| sockets::is_queued(&**listener).unwrap_or(false))
    }

    /// Limits the connection to `time` from now, but only while the server is crowded.
    ///
    /// Otherwise as [`set_deadline`](Self::set_deadline) does; see
    /// [`is_crowded`](Self::is_crowded).
    ///
    /// For the wait for a request. Many clients that send a byte now and then hold all children for
    /// as long as the usual deadline allows; with this they hold them for a moment. A client that
    /// was queued had the time to send its request there, so take
    /// [`queued_for`](Self::queued_for) off the time. Set it to `None` when the request has come.
    /// Default: `None`, no limit.
    ///
    /// The child looks when the time has come, and then every 50 ms while it waits. It does not
    /// apply to the stream that [`into_parts`](Self::into_parts) returns, nor to objects of a
    /// [`ConnClass`](super::ConnClass).
    pub fn set_deadline_when_crowded(&self, time: Option<Duration>) {
        self.bounds.look_at.set(self.comm.deadline(time));
    }

    /// When to look again whether others wait. `Err` if this client has to go: it has had its time,
    /// and others wait.
    pub(super) fn look_around(&self) -> Result<Option<Time>, Crowded> {
        let Some(at) = self.bounds.look_at.get() else {
            return Ok(None);
        };
        let now = self.comm.now();
        if now < at {
            return Ok(Some(at));
        }
        if self.is_crowded() {
            return Err(Crowded);
        }
        let next = Some(now + LOOK_EVERY);
        self.bounds.look_at.set(next);
        Ok(next)
    }
}

/// Others wait for the child.
#[derive(Debug)]
pub(super) struct Crowded;
