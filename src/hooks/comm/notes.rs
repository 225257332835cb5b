//! What a child notes in shared memory of the connection in hand, and what it reads there of its
//! siblings. Sends no word.

use super::Comm;
use crate::core::{accept::refusal::Refusal, endpoint_load::EndpointLoad};
use std::{num::NonZeroU64, time::Duration};

impl Comm {
    /// Tells tracers of a connection that is not served.
    pub(crate) fn note_refused(&self, refusal: Refusal, queued: Option<Duration>) {
        let queued = queued.unwrap_or_default();
        self.shared.channel.sink().refused(refusal as u32, queued);
    }

    /// Notes that the connection in hand is one of this client, and returns how many it has, in all
    /// children. [`end_connection`](Self::end_connection) ends that.
    pub(crate) fn claim(&self, client: NonZeroU64) -> usize {
        self.shared.channel.sink().claim(client)
    }

    /// Notes how long the connection in hand was queued.
    pub(crate) fn note_queued(&self, queued: Duration) {
        self.shared.channel.sink().note_queued(queued);
    }

    /// Counts how long a connection was queued at the listener of that number, whether it is served or
    /// not.
    pub(crate) fn count_queued(&self, listener: usize, queued: Duration) {
        self.shared.channel.sink().count_queued(listener, queued);
    }

    /// Asks the parent for more time for the connection in hand: `time` from now.
    ///
    /// It is for work that may take longer than `busy_timeout`. The connection then has until that
    /// time or until the end of `busy_timeout`, whichever is later; a further call replaces this one. No
    /// word is sent: the time is noted in shared memory. Without effect in a program that
    /// [`ExecServer`](crate::ExecServer) runs, and in a child beyond the `max_clients` of the start.
    pub fn extend(&self, time: Duration) {
        self.shared.channel.sink().extend(time);
    }

    /// Says what the child does with the connection in hand.
    ///
    /// The parent, the status page and other readers of the board can read it.
    ///
    /// The first 128 bytes are kept, until the next connection. It costs no system call and a few
    /// nanoseconds.
    ///
    /// ```
    /// # fn with(comm: &prefork_server::Comm) {
    /// comm.describe("GET /reports/42");
    /// # }
    /// ```
    pub fn describe(&self, text: &str) {
        self.shared.channel.sink().note_text(text);
    }

    /// How many children have a connection in hand now, including this one.
    ///
    /// Together with [`max_clients`](Self::max_clients) it tells how full the pool is, for a child
    /// that then answers "full" or does less work.
    ///
    /// It is read from the children's notes in shared memory, without asking the parent. A child
    /// that was killed counts until the parent has reaped it, some milliseconds later. Programs
    /// that [`ExecServer`](crate::ExecServer) runs are not counted, and neither are children beyond
    /// the `max_clients` of the start.
    pub fn busy_servers(&self) -> usize {
        self.shared.channel.sink().busy_servers()
    }

    /// How loaded the server is, for a balancer: see [`EndpointLoad`].
    ///
    /// It is read from the children's notes in shared memory. The rate is that of the last second or
    /// more, known from the second call on that comes a second after the first, in each child.
    pub fn endpoint_load(&self) -> EndpointLoad {
        let shared = &self.shared;
        let counts = || shared.channel.sink().counts();
        let rate = shared.rate.borrow_mut().at(self.now(), counts);
        EndpointLoad::new(self.busy_servers(), self.max_clients(), rate)
    }
}
