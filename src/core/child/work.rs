//! What a child does now that has a time limit, by its notes in shared memory and by its words.
//! Reads no clock.

use super::{Child, ChildFlags, Reason, State};
use crate::core::{
    time::Time,
    time_limits::{InHand, Work},
};
use std::time::Duration;

impl Child {
    /// The work that has a time limit, if it does any.
    ///
    /// A child that will be killed anyway is left out: one that was told to stop, unless it may serve
    /// on, or the server shuts down.
    pub(crate) fn work(&self) -> Option<Work> {
        let serves_on = |reason: Reason| reason.is_gentle() || reason == Reason::Shutdown;
        let unbounded = self.reason().is_none_or(serves_on);
        if !unbounded
            || self
                .flags
                .intersects(ChildFlags::KILL_SENT | ChildFlags::REAPED)
        {
            None
        } else {
            self.connection().or_else(|| self.start())
        }
    }

    /// The connection in hand. Its notes count, whatever words have come: there may have been no
    /// room for a word. A child that has noted none, such as another program, is known by its words.
    fn connection(&self) -> Option<Work> {
        let by_words = self.noted_requests == 0 && self.is_serving();
        let words = InHand {
            since: self.busy_since.filter(|_| by_words),
            extended_until: None,
        };
        let known = match self.in_hand.since {
            Some(_) => self.in_hand,
            None => words,
        };
        known.since.map(|since| Work::Connection {
            since,
            extended_until: known.extended_until,
        })
    }

    fn start(&self) -> Option<Work> {
        let starts = !self.has_stated() && self.state != State::Retiring;
        starts.then_some(Work::Start {
            since: self.start_time,
        })
    }

    /// Takes over what the child has noted.
    ///
    /// A new child may have read a clock that lags by some milliseconds, so it may have begun
    /// before its fork.
    pub(crate) fn note_in_hand(&mut self, noted: InHand) {
        self.in_hand = InHand {
            since: noted.since.map(|since| since.max(self.start_time)),
            ..noted
        };
    }

    /// For how long it has had a connection in hand; `None` if it has none.
    pub(crate) fn in_hand_for(&self, now: Time) -> Option<Duration> {
        match self.connection()? {
            Work::Connection { since, .. } => Some(now.since(since)),
            Work::Start { .. } => None,
        }
    }
}
