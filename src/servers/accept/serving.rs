//! The connection in hand: refused, or served by the handler and counted. Finds none.

use super::AcceptLoop;
use crate::{
    core::{
        accept::{Observation, Wakeups, refusal::Refusal},
        conn_end::Outcome,
    },
    hooks::{comm::Comm, server::complain},
    listeners::Listener,
    servers::{
        conn::{Conn, ConnContext, Metered, Stream},
        ending::WatchedConn,
    },
    sys::{
        accept::Newcomer,
        atfork,
        blame::is_the_clients,
        hangup::{self, Hangup},
    },
};
use std::{io, rc::Rc};

impl<L: Listener<Stream: Stream>> AcceptLoop<'_, L> {
    pub(super) fn serve(&mut self, wakeups: Wakeups) -> Observation {
        let connection = self.in_hand.as_ref().map(|in_hand| &in_hand.connection);
        let peer = connection.and_then(|connection| connection.remote);
        let queued = connection.and_then(|connection| connection.queued);
        self.say(|comm| comm.busy_after(self.clock, peer));
        if let Some(queued) = queued {
            self.acceptor.comm.note_queued(queued);
        }
        self.settle(wakeups);
        // A child that has not read the clock yet is new, and its first ACK is recent.
        if self.clock.is_some() {
            self.say(|comm| comm.begin(self.clock));
        }
        if let Some(in_hand) = self.in_hand.take() {
            self.check_header(in_hand.connection);
        }
        self.acceptor.comm.end_connection();
        let took = self.lap();
        if self.acceptor.comm.is_leaving() {
            return Observation::ServedLast;
        }
        Observation::Served {
            took,
            number: *self.acceptor.requests_handled,
        }
    }

    /// Why the connection in hand is not to be served. With `look_first` also if its client has
    /// reset it while it was queued.
    pub(super) fn refusal(&self, look_first: bool) -> Option<Refusal> {
        let in_hand = self.in_hand.as_ref()?;
        self.unless_gone(in_hand.refusal, look_first)
    }

    /// A refusal of the connection in hand, or that its client has gone, who needs no answer.
    pub(super) fn unless_gone(
        &self,
        refusal: Option<Refusal>,
        look_first: bool,
    ) -> Option<Refusal> {
        let in_hand = self.in_hand.as_ref()?;
        let looks = refusal.map_or(look_first, Refusal::has_an_answer);
        let has_gone = looks && hangup::look(&in_hand.connection.stream) == Hangup::Whole;
        if has_gone {
            Some(Refusal::Gone)
        } else {
            refusal
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) -> Observation {
        log::debug!("a connection is not served: {refusal}");
        self.acceptor.admission.count(refusal);
        self.acceptor.comm.end_connection();
        if let Some(in_hand) = self.in_hand.take() {
            let queued = in_hand.connection.queued;
            self.acceptor.comm.note_refused(refusal, queued);
            let watched = self.watch(&in_hand.connection, 0);
            if refusal.has_an_answer() {
                let number = *self.acceptor.requests_handled;
                let conn = self.conn(in_hand.connection, number, &watched);
                note_end(self.acceptor.admission.shed(conn));
            }
            end(watched, Outcome::Refused(refusal));
        }
        self.lap();
        Observation::Skipped
    }

    /// Begins to look at a connection, if a hook is told of its end.
    fn watch(&self, connection: &Newcomer, number: u64) -> Option<WatchedConn> {
        let ends = self.acceptor.ends.as_ref()?;
        Some(ends.begin(connection, number))
    }

    /// Counts a connection. Near its limit the child asks to be replaced before it serves, so that
    /// the successor starts meanwhile.
    fn count_connection(&mut self) {
        *self.acceptor.requests_handled += 1;
        if self.acceptor.replaced_after == Some(*self.acceptor.requests_handled) {
            self.say(Comm::ask_for_replacement);
        }
    }

    /// Hands a connection to the handler, unless its header is refused; then it does not count.
    fn check_header(&mut self, connection: Newcomer) {
        let number = *self.acceptor.requests_handled + 1;
        let mut watched = self.watch(&connection, number);
        let mut conn = self.conn(connection, number, &watched);
        let check = self.acceptor.header_check.as_mut();
        let admits = check.is_none_or(|admits| admits(&mut conn));
        if let Some(watched) = &mut watched {
            watched.note_client(&conn);
        }
        if !admits {
            return end(watched, Outcome::NoHeader);
        }
        self.count_connection();
        let outcome = self.handle(conn);
        end(watched, outcome);
    }

    fn handle(&mut self, conn: Conn<L::Stream>) -> Outcome {
        let served = (self.acceptor.handler)(conn);
        // The child may wait next, for long.
        atfork::connection_is_over();
        note_end(served)
    }

    fn conn(
        &self,
        connection: Newcomer,
        number: u64,
        watched: &Option<WatchedConn>,
    ) -> Conn<L::Stream> {
        let meter: Metered = watched.as_ref().map(WatchedConn::meter);
        let acceptor = &self.acceptor;
        let place = ConnContext {
            comm: acceptor.comm.share(),
            listeners: Rc::clone(&acceptor.listeners),
            number,
            first_wait: acceptor.first_wait,
            meter,
        };
        Conn::new(connection, place)
    }
}

/// What the code for a connection has returned.
fn note_end(result: io::Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Served,
        // The client caused it: not worth a line on stderr.
        Err(error) if is_the_clients(&error) => {
            log::debug!("connection ended: {error}");
            Outcome::Lost
        }
        Err(error) => {
            complain!("connection failed: {error}");
            Outcome::Failed
        }
    }
}

/// Tells those who are to be told.
fn end(watched: Option<WatchedConn>, outcome: Outcome) {
    if let Some(watched) = watched {
        watched.end(outcome);
    }
}
