//! Spare children beyond the maximum, and for how long they have been too many. Culls none.

use super::Census;
use crate::core::{config::Attributes, time::Time};
use std::time::Duration;

/// How many free children are too many: above `max_spare_servers`, or above `max_clients` if that
/// was lowered while the server runs.
///
/// A busy child finishes its connection first, and may be one of these then.
pub(crate) fn surplus(census: Census, attributes: &Attributes) -> usize {
    let spare = census.free.saturating_sub(attributes.max_spare_servers);
    let clients = (census.serving() + census.reserved).saturating_sub(attributes.max_clients);
    spare.max(clients.min(census.free))
}

/// The surplus of spare children over time, and how much of it has lasted.
///
/// Only the part that has existed all the time is culled: under a load that varies within
/// `cull_after`, the children that are spare now are needed soon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surplus {
    /// The times since when there is one child too many, two too many, and so on, in ascending
    /// order.
    since: Vec<Time>,
    /// How many of them, from the first, have been announced by a `forkoff`.
    announced: usize,
}

impl Surplus {
    /// Notes that there are `surplus` children too many now.
    pub(crate) fn observe(&mut self, surplus: usize, now: Time) {
        self.since.resize(surplus, now);
        self.announced = self.announced.min(surplus);
    }

    /// Notes that the `count` that have lasted longest are about to be culled.
    pub(crate) fn culled(&mut self, count: usize) {
        self.since.drain(..count.min(self.since.len()));
        self.announced = self.announced.saturating_sub(count);
    }

    /// When the next `forkoff` for the surplus is due.
    ///
    /// Each part of the surplus is announced once: an override may have reasons not to cull, and
    /// must not be called again and again.
    pub(crate) fn next(&self, cull_after: Duration) -> Option<Time> {
        self.since
            .get(self.announced)
            .map(|&since| since + cull_after)
    }

    /// Whether such a `forkoff` is due. True once.
    pub(crate) fn take_due(&mut self, cull_after: Duration, now: Time) -> bool {
        let lasted = self.lasted(cull_after, now);
        let due = lasted > self.announced;
        self.announced = self.announced.max(lasted);
        due
    }

    /// How many have lasted for `cull_after`.
    pub(crate) fn lasted(&self, cull_after: Duration, now: Time) -> usize {
        self.since
            .partition_point(|&since| since + cull_after <= now)
    }
}
