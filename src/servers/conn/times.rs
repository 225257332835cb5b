//! How long the client of an object may be idle, and how long the connection may take in all.
//! Compares times; reads no clock and calls no handler.

use super::limit::Limit;
use crate::core::time::Time;
use std::time::Duration;

/// How long a client that has sent nothing yet has when the child is told to stop: its first
/// request may be under way.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// The times of one connection.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) idle: Option<Duration>,
    /// When the client is idle for too long; `None` also when that has been reported.
    idle_at: Option<Time>,
    /// Whether bytes have moved since the last turn began: idle time counts from the next.
    moved: bool,
    total: Option<(Time, Duration)>,
    /// Whether the total time is over and that was reported.
    late: bool,
    start: Option<Time>,
    heard: bool,
}

impl Times {
    /// Begins a turn; the first one is the start of the connection.
    pub(super) fn begin(&mut self, now: Time) {
        self.start.get_or_insert(now);
        if std::mem::take(&mut self.moved) {
            self.idle_at = self.idle.map(|idle| now + idle);
        }
    }

    pub(super) fn set_idle(&mut self, idle: Option<Duration>) {
        self.idle = idle;
        self.moved = true;
    }

    pub(super) fn set_total(&mut self, total: Option<Duration>, now: Time) {
        self.total = total.map(|total| (now + total, total));
    }

    /// Bytes have arrived.
    pub(super) fn heard(&mut self) {
        self.heard = true;
        self.moved = true;
    }

    /// Bytes have moved in either direction, or a handler works on input: during that time the
    /// client is not idle.
    pub(super) fn moved(&mut self) {
        self.moved = true;
    }

    /// The limit that is exceeded at `now` and was not reported.
    pub(super) fn exceeded(&mut self, now: Time) -> Option<Limit> {
        if let Some((_, total)) = self.total.take_if(|(at, _)| *at <= now) {
            self.late = true;
            return Some(Limit::Total(total));
        }
        self.idle_at.take_if(|at| *at <= now)?;
        self.idle.map(Limit::Idle)
    }

    pub(super) fn is_late(&self) -> bool {
        self.late
    }

    /// Whether the client is new and has sent nothing.
    pub(super) fn first_is_under_way(&self, now: Time) -> bool {
        !self.heard && now < self.new_until()
    }

    fn new_until(&self) -> Time {
        self.start.unwrap_or(Time::START) + UNDER_WAY
    }

    /// When the next limit is reached; with `stops`, the one for a new client included.
    pub(super) fn next(&self, stops: bool) -> Option<Time> {
        let new = (stops && !self.heard).then(|| self.new_until());
        let total = self.total.map(|(at, _)| at);
        let idle = if self.moved && self.idle.is_some() {
            Some(Time::START)
        } else {
            self.idle_at
        };
        [idle, total, new].into_iter().flatten().min()
    }
}
