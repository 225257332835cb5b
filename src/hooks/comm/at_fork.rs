//! What a child was given at its fork: attributes of the server, and whether it is kept in reserve.
//! Asks the parent for nothing.

use super::Comm;
use crate::core::replacement::{self, Spread};
use std::{cell::Cell, time::Duration};

/// The values, as they were at the fork.
pub(super) struct AtFork {
    max_clients: Cell<usize>,
    is_reserved: Cell<bool>,
    drain_timeout: Cell<Duration>,
    limit_jitter: Cell<usize>,
}

impl Default for AtFork {
    fn default() -> Self {
        Self {
            max_clients: Cell::new(usize::MAX),
            is_reserved: Cell::default(),
            drain_timeout: Cell::default(),
            limit_jitter: Cell::default(),
        }
    }
}

impl Comm {
    /// The maximum number of children that serve, as it was at the fork.
    ///
    /// It is the attribute `max_clients`, without a child that [is reserved](Self::is_reserved).
    pub fn max_clients(&self) -> usize {
        self.shared.at_fork.max_clients.get()
    }

    /// Whether this child is kept for the time when all others are busy.
    ///
    /// See the attribute `reserved_shedder`.
    ///
    /// Only if the server [can shed](crate::ChildServer::can_shed). Such a child does not serve.
    pub fn is_reserved(&self) -> bool {
        self.shared.at_fork.is_reserved.get()
    }

    pub(crate) fn set_reserved(&self, reserved: bool) {
        self.shared.at_fork.is_reserved.set(reserved);
    }

    pub(crate) fn set_max_clients(&self, children: usize) {
        self.shared.at_fork.max_clients.set(children);
    }

    /// How long the child serves queued connections after it was told to stop. It looks once in any
    /// case.
    pub(crate) fn drain_timeout(&self) -> Duration {
        if self.shared.link.leaves_queue() {
            return Duration::ZERO;
        }
        self.shared.at_fork.drain_timeout.get()
    }

    pub(crate) fn set_drain_timeout(&self, timeout: Duration) {
        self.shared.at_fork.drain_timeout.set(timeout);
    }

    /// How far below a limit of connections a child may be replaced, in per cent.
    pub(crate) fn set_limit_jitter(&self, percent: usize) {
        self.shared.at_fork.limit_jitter.set(percent);
    }

    /// The number of connections after which this child is to be replaced, if there is a limit: see
    /// the attribute `limit_jitter`.
    pub(crate) fn replaced_after(&self, limit: u64) -> Option<u64> {
        let spread = Spread {
            percent: self.shared.at_fork.limit_jitter.get(),
            seed: std::process::id(),
        };
        replacement::soft(limit, spread)
    }
}
