//! Decides what happens next on a connection: the driver reports what has arrived and what was
//! written, and asks which handler to call. Calls no handler and reads no clock.

use super::session::{PostedAction, Session};
use crate::core::{error::Operation, time::Time};
use std::io;

/// What happens next: a call of a handler.
#[derive(Debug)]
pub(super) enum ConnStep {
    Start,
    /// The record is in the buffer that was handed in.
    Input,
    /// The record to put is in the buffer that was handed in.
    Put,
    Error(Operation, io::Error),
    Flush,
    Shutdown,
    State(String),
    Stopping,
}

/// What the driver reports.
impl Session {
    /// Begins a turn: queues what has come due. `stopping` says whether the child is told to stop.
    pub(super) fn turn(&mut self, now: Time, stopping: bool) {
        self.now = self.now.max(now);
        self.shutdown_requested = stopping;
        self.times.begin(self.now);
        if let Some(limit) = self.times.exceeded(self.now) {
            self.post_event(PostedAction::Error(Operation::Read, limit.into()));
        }
        let later = std::mem::take(&mut self.later).into_iter();
        self.events.extend(later.map(PostedAction::State));
        while let Some(state) = self.alarms.take_due(self.now) {
            self.events.push_back(PostedAction::State(state));
        }
    }

    /// Bytes have arrived. They are dropped in a shutdown: reading goes on so that closing the
    /// connection does not reset it.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.times.heard();
        if self.shutdown {
            self.dropped += bytes.len() as u64;
        } else {
            self.input.receive(bytes);
        }
    }

    /// The client ends its input: a read error with number 0.
    pub(super) fn input_ended(&mut self) {
        self.read_failed(io::Error::from_raw_os_error(0));
    }

    pub(super) fn read_failed(&mut self, error: io::Error) {
        self.input.end(error);
    }

    /// So many bytes of the output have been written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.times.moved();
        if self.output.wrote(count) {
            self.post_event(PostedAction::Flush);
        }
    }

    pub(super) fn write_failed(&mut self, error: io::Error) {
        self.output.fail();
        self.post_event(PostedAction::Error(Operation::Write, error));
    }
}

/// What the driver asks.
impl Session {
    /// The next handler to call; a record or what is to be put is left in `buffer`. `None`: wait,
    /// unless the session is over.
    pub(super) fn next_step(&mut self, buffer: &mut Vec<u8>) -> Option<ConnStep> {
        self.in_state = false;
        while self.connected {
            let step = match self.events.pop_front() {
                Some(event) => self.step_of(event, buffer),
                None => self
                    .find_record(buffer)
                    .or_else(|| self.take_stopping())
                    .or_else(|| self.take_ending()),
            };
            if step.is_some() {
                return step;
            }
            if self.events.is_empty() {
                break;
            }
        }
        if self.nothing_can_happen() {
            self.connected = false;
        }
        None
    }

    fn step_of(&mut self, event: PostedAction, buffer: &mut Vec<u8>) -> Option<ConnStep> {
        Some(match event {
            PostedAction::Start => ConnStep::Start,
            PostedAction::Put(record) => {
                self.output.redeem(record.len());
                *buffer = record;
                ConnStep::Put
            }
            PostedAction::Error(operation, error) => ConnStep::Error(operation, error),
            PostedAction::Flush => ConnStep::Flush,
            PostedAction::Shutdown => ConnStep::Shutdown,
            // A shutdown that the handler of the error has posted comes first.
            PostedAction::Disconnect if self.has_posted_shutdown() => {
                self.events.push_back(PostedAction::Disconnect);
                return None;
            }
            PostedAction::Disconnect => {
                self.connected = false;
                return None;
            }
            PostedAction::State(state) => {
                self.in_state = true;
                ConnStep::State(state)
            }
        })
    }

    fn has_posted_shutdown(&self) -> bool {
        let mut events = self.events.iter();
        events.any(|event| matches!(event, PostedAction::Shutdown))
    }

    fn find_record(&mut self, buffer: &mut Vec<u8>) -> Option<ConnStep> {
        if self.shutdown {
            return None;
        }
        match self.input.take_record(&mut *self.filter, buffer) {
            Ok(true) => {
                self.times.moved();
                Some(ConnStep::Input)
            }
            Ok(false) => None,
            Err(error) => Some(ConnStep::Error(Operation::Read, error)),
        }
    }

    /// The step that tells the object of the stop: once, when all input has been delivered.
    fn take_stopping(&mut self) -> Option<ConnStep> {
        if !self.is_to_be_told() || self.times.first_is_under_way(self.now) {
            return None;
        }
        self.told_to_stop = true;
        Some(ConnStep::Stopping)
    }

    /// Whether the child stops and the object was not told.
    fn is_to_be_told(&self) -> bool {
        self.shutdown_requested && !self.told_to_stop && !self.shutdown
    }

    /// The step that tells the object why reading has ended. Not in a shutdown, where input is not
    /// awaited.
    fn take_ending(&mut self) -> Option<ConnStep> {
        let error = self.input.take_ending()?;
        if self.shutdown && is_end_of_input(&error) {
            return None;
        }
        Some(ConnStep::Error(Operation::Read, error))
    }

    /// Nothing to read, nothing to write, no state to come: no handler would ever be called again.
    fn nothing_can_happen(&self) -> bool {
        let quiet = self.events.is_empty() && self.output().is_empty();
        let waits = self.wants_read() || self.has_more() || self.alarms.next().is_some();
        self.connected && quiet && (self.shutdown || !waits)
    }

    /// Whether it is over: then `handler_stop` is due, and the end of the connection.
    pub(super) fn is_over(&self) -> bool {
        !self.connected
    }

    /// Whether the next turn has something to do at once.
    pub(super) fn has_more(&self) -> bool {
        !self.later.is_empty()
    }

    pub(super) fn wants_read(&self) -> bool {
        let useful = if self.shutdown {
            self.dropped < Self::DROPPED
        } else {
            !self.input.is_stuck()
        };
        self.input.is_open() && useful
    }

    /// Whether output is to be written while handlers are still called, since there is as much as
    /// `chunk`. Not if a shutdown is posted: the shutdown must find the output, so that the flush
    /// ends the connection whatever the size.
    pub(super) fn writes_early(&self, chunk: usize) -> bool {
        self.output().len() >= chunk && self.connected && !self.has_posted_shutdown()
    }

    /// Whether the driver is to wait for a stop of the child as well.
    pub(super) fn waits_for_stop(&self) -> bool {
        !self.shutdown_requested && !self.told_to_stop && !self.shutdown
    }

    /// Whether the time of the whole connection is over and the object was told.
    pub(super) fn is_late(&self) -> bool {
        self.times.is_late() && self.events.is_empty()
    }

    pub(super) fn output(&self) -> &[u8] {
        self.output.unwritten()
    }

    /// When the next alarm goes off, or a time ends.
    pub(super) fn next_alarm(&self) -> Option<Time> {
        let alarm = self.alarms.next();
        let times = self.times.next(self.is_to_be_told());
        alarm.into_iter().chain(times).min()
    }
}

/// Whether a read error is the end of input: it has the number 0.
pub(super) fn is_end_of_input(error: &io::Error) -> bool {
    error.raw_os_error() == Some(0)
}
