//! A child that was told to stop: why, when, and how long it has. Sends no signal.

use crate::core::time::Time;
use std::time::Duration;

/// Why a child was told to stop.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// It was one of the oldest above `max_spare_servers`.
    Culled,
    /// It sent no ACK for longer than `timeout`.
    TimedOut,
    /// It closed both its outputs and did not end.
    Closed,
    /// Reading its output failed, or the parent had no descriptors left for it.
    Faulty,
    /// A limit was reached, or a hook or the child wanted it replaced.
    ///
    /// Its successor was ready.
    Recycled,
    /// A reload has replaced it.
    Reloaded,
    /// The server is shutting down.
    Shutdown,
    /// A hook asked for it.
    Asked,
    /// A connection took longer than `busy_timeout`.
    Overtime,
    /// It had not said that it can take connections within `start_timeout`.
    StartTimeout,
}

impl Reason {
    /// Whether the child is stuck, as far as the parent can tell: its stack says where.
    pub(crate) fn is_over_time(self) -> bool {
        matches!(self, Self::TimedOut | Self::Overtime | Self::StartTimeout)
    }

    /// Whether a child may finish the connection in hand, however long that takes.
    pub(crate) fn is_gentle(self) -> bool {
        matches!(self, Self::Culled | Self::Recycled | Self::Reloaded)
    }
}

/// When and why a child was told to stop, and how long until SIGKILL, if it has a bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Retirement {
    pub(crate) reason: Reason,
    pub(crate) at: Time,
    pub(crate) kill_after: Option<Duration>,
    /// The same while the child has said no word yet.
    pub(crate) kill_in_start_after: Option<Duration>,
    /// How many forks had been done or were owed at that time.
    pub(crate) forks: u64,
}

impl Retirement {
    /// Takes over an earlier end of the time that a child in its start has, from an order before this
    /// one or after it.
    pub(crate) fn bound_start(&mut self, other: &Self) {
        if let Some(time) = other.kill_in_start_after {
            let left = (other.at + time).since(self.at);
            let bounded = self.kill_in_start_after.map_or(left, |own| own.min(left));
            self.kill_in_start_after = Some(bounded);
        }
    }

    /// Whether this retirement stays in force when `later` follows.
    ///
    /// A child that is told to stop twice must not get more time. A shutdown replaces a reason that
    /// has no time limit of its own, as does a connection that takes too long.
    pub(crate) fn overrides(&self, later: &Self) -> bool {
        let bounds = matches!(later.reason, Reason::Shutdown | Reason::Overtime);
        let bounded = !self.reason.is_gentle() || !bounds;
        bounded
            && match (self.kill_after, later.kill_after) {
                (Some(own), Some(other)) => self.at + own <= later.at + other,
                (None, Some(_)) => false,
                (_, None) => true,
            }
    }
}
