//! The plan: how many children to fork or to stop, from their numbers alone. Forks and stops none.

use super::Census;
use crate::core::config::Attributes;
use std::time::Duration;

/// What a plan depends on besides the census.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Demand {
    /// Forks decided on and not performed yet.
    pub(crate) queued: usize,
    /// How many of the starting children and of the forks are successors of children that are still
    /// there. They add nothing to the pool.
    pub(crate) successors: usize,
    /// Replacements for children that ended by themselves, needed even if enough children are free.
    pub(crate) owed: usize,
    /// The surplus that has lasted `cull_after`.
    pub(crate) surplus: usize,
    /// Whether a reserved child is wanted, once the pool is near its limit.
    pub(crate) reserve: bool,
}

/// What `forkoff` is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a plan does nothing until it is performed"]
pub(crate) enum ForkPlan {
    /// This many `server_fork`s.
    Fork(usize),
    /// SIGINT to this many of the oldest free children.
    Retire(usize),
    /// Nothing.
    Steady,
}

/// How many more children `max_clients` allows, besides the forks in the queue.
///
/// All children count that have not been reaped.
pub(crate) fn room(census: Census, queued: usize, attributes: &Attributes) -> usize {
    let taken = census.live() + queued;
    attributes.max_clients.saturating_sub(taken)
}

/// The main decision. The live processes and the queued forks never pass `max_clients`.
pub(crate) fn plan(census: Census, demand: Demand, attributes: &Attributes) -> ForkPlan {
    let spare = (census.idle() + demand.queued).saturating_sub(demand.successors);
    let total = spare + census.busy;
    let missing = if total == 0 {
        // Not below the minimum: no event would ask for more children until the first connection
        // comes.
        attributes.start_servers.max(attributes.min_spare_servers)
    } else {
        attributes.min_spare_servers.saturating_sub(spare)
    };
    let room = room(census, demand.queued, attributes);
    let wanted = missing.max(demand.owed).min(room);
    // One of the forks in the queue may become the reserved child: see `is_reserve_due`.
    let unreserved = demand.reserve && census.reserved == 0 && demand.queued == 0;
    let reserves = unreserved && room > 0 && is_near_limit(census.serving() + wanted, attributes);
    let reserve = usize::from(reserves);
    let forks = wanted.min(room - reserve) + reserve;
    match (forks, demand.surplus) {
        (0, 0) => ForkPlan::Steady,
        (0, surplus) => ForkPlan::Retire(surplus),
        (forks, _) => ForkPlan::Fork(forks),
    }
}

/// Whether the child that is forked next is the reserved one, if one is wanted.
///
/// It is there when three quarters of `max_clients` are, before it is needed, so it has the last
/// place.
pub(crate) fn is_reserve_due(census: Census, attributes: &Attributes) -> bool {
    census.reserved == 0 && is_near_limit(census.serving(), attributes)
}

fn is_near_limit(serving: usize, attributes: &Attributes) -> bool {
    serving + 1 >= attributes.max_clients - attributes.max_clients / 4
}

/// Whether the reserved child is of no use any more: the pool is less than half of what it may be.
pub(crate) fn is_reserve_idle(census: Census, attributes: &Attributes) -> bool {
    census.reserved > 0 && census.serving() < attributes.max_clients / 2
}

/// How long words may collect in the pipes before they are read.
///
/// `None` if they are to be read at once, because the next fork may depend on them.
///
/// Reading costs the parent a wake-up and a read for each child, so a longer time is cheaper.
pub(crate) fn word_batch(census: Census, attributes: &Attributes) -> Option<Duration> {
    const SHORT: Duration = Duration::from_millis(2);
    const LONG: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(20);
    /// This many long connections may come in the meantime before a fork is due.
    const PLENTY: usize = 8;
    if census.starting > 0 {
        return None;
    }
    let to_spare = census.idle().checked_sub(attributes.min_spare_servers)?;
    Some(if census.live() >= attributes.max_clients {
        LONGEST
    } else if to_spare >= PLENTY {
        LONG
    } else {
        SHORT
    })
}
