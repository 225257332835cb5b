//! What a handler asks of its connection: records to be sent, states, alarms, the end. Has no effect
//! before the handler has returned.

use super::{PostedAction, Session, outgoing::Unsent};
use crate::{
    core::{alarms::AlarmId, error::Operation, time::Time},
    servers::conn::limit::Limit,
};
use std::{io, time::Duration};

/// What a handler can ask for.
impl Session {
    /// Sends a record.
    ///
    /// The filter encodes it now; it is written when the handler has returned. The original's
    /// `$self->get_wheel->put(...)`.
    ///
    /// If it exceeds the output limit, or the filter refuses it, no part of it is sent and
    /// [`handler_error`](super::super::ConnClass::handler_error) is called. After a disconnect or a
    /// write error it is dropped.
    pub fn put(&mut self, record: impl AsRef<[u8]>) {
        if !self.takes_output() {
            return;
        }
        match self.output.put(&mut *self.filter, record.as_ref()) {
            Ok(()) => {}
            Err(Unsent::Refused(error)) => self
                .events
                .push_back(PostedAction::Error(Operation::Write, error)),
            Err(Unsent::TooMuch) => self.overflow(),
        }
    }

    /// Posts a record to [`handler_put`](super::super::ConnClass::handler_put), whose default sends it.
    ///
    /// The original's `$self->yield(put => ...)`.
    pub fn post_put(&mut self, record: impl Into<Vec<u8>>) {
        let record = record.into();
        if !self.takes_output() {
            return;
        }
        if !self.output.promise(record.len()) {
            return self.overflow();
        }
        self.events.push_back(PostedAction::Put(record));
    }

    /// Posts a shutdown: [`handler_shutdown`](super::super::ConnClass::handler_shutdown).
    ///
    /// Its default disconnects at once after an error or when nothing is left to write, otherwise
    /// when everything has been written.
    pub fn shutdown(&mut self) {
        self.post_event(PostedAction::Shutdown);
    }

    /// Ends the connection, and drops what was not written.
    ///
    /// Only `handler_stop` is still called.
    pub fn disconnect(&mut self) {
        self.connected = false;
    }

    /// Posts a state: [`handler_state`](super::super::ConnClass::handler_state) is called with it
    /// before more input is delivered.
    pub fn post(&mut self, state: &str) {
        if self.in_state {
            self.later.push(state.to_owned());
        } else {
            self.post_event(PostedAction::State(state.to_owned()));
        }
    }

    /// Posts `state` when `after` has passed.
    ///
    /// It is the way to disconnect a client that says nothing.
    pub fn delay_set(&mut self, state: &str, after: Duration) -> AlarmId {
        self.alarms.set(self.now + after, state)
    }

    /// Removes an alarm. False if it has gone off or was removed before.
    pub fn alarm_remove(&mut self, id: AlarmId) -> bool {
        self.alarms.remove(id)
    }

    /// Removes all alarms.
    pub fn alarm_remove_all(&mut self) {
        self.alarms.clear();
    }

    /// The moment at which this turn began.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Tells the parent now that the child is alive, during long legitimate work.
    ///
    /// A handler that takes longer than `timeout` without this call counts as stuck, and its child
    /// is told to stop.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached.
    pub fn ack(&self) -> io::Result<()> {
        (self.say_ack)()
    }

    /// Asks for more time for this connection, `time` from now.
    ///
    /// It matters where there is a `busy_timeout`: see [`Comm::extend`](crate::Comm::extend).
    pub fn extend(&self, time: Duration) {
        (self.extend)(time);
    }

    /// Makes the child leave when this connection ends, and be replaced.
    ///
    /// For an object that has lost a resource that it needs, such as its connection to a database.
    /// See [`Comm::leave_after_this`](crate::Comm::leave_after_this).
    pub fn leave_after_this(&mut self) {
        self.leaves = true;
    }

    fn takes_output(&self) -> bool {
        self.connected && self.output.is_open
    }

    /// Ends the connection of a client that does not keep up: nothing more is put, and the handler
    /// is told first.
    fn overflow(&mut self) {
        self.output.is_open = false;
        let error = Limit::Output(self.output.limit).into();
        self.post_event(PostedAction::Error(Operation::Write, error));
        self.post_event(PostedAction::Disconnect);
    }

    pub(in crate::servers::conn) fn post_event(&mut self, event: PostedAction) {
        if self.connected {
            self.events.push_back(event);
        }
    }
}
