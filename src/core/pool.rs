//! The table of children and the decisions about its size: census, plan, overdue. Decides; never
//! forks, kills, waits or reads a clock.

use crate::core::{
    child::{Child, ChildId, Flags, State},
    config::Attributes,
    time::Time,
};
use slab::Slab;
use std::time::Duration;

/// How many children are in which state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Census {
    pub(crate) starting: usize,
    pub(crate) free: usize,
    pub(crate) busy: usize,
    pub(crate) retiring: usize,
}

impl Census {
    /// Every process that lives, as `max_clients` counts them.
    pub(crate) fn live(&self) -> usize {
        self.starting + self.free + self.busy + self.retiring
    }

    /// The spare ones as the minimum counts them: a child that is still starting will be one.
    pub(crate) fn idle(&self) -> usize {
        self.starting + self.free
    }

    fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Starting => &mut self.starting,
            State::Free => &mut self.free,
            State::Busy => &mut self.busy,
            State::Retiring => &mut self.retiring,
        }
    }
}

/// What besides the census bears on a plan.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Demand {
    /// Forks decided on and not performed yet.
    pub(crate) queued: usize,
    /// Replacements due for children that died unasked, needed even when enough are free.
    pub(crate) owed: usize,
    /// The surplus that has lasted `cull_after`.
    pub(crate) surplus: usize,
}

/// What `forkoff` is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a plan does nothing until it is performed"]
pub(crate) enum Plan {
    /// This many `server_fork`s.
    Fork(usize),
    /// SIGINT to this many of the oldest free children.
    Retire(usize),
    /// Nothing.
    Steady,
}

/// The main decision. The live processes and the queued forks never pass `max_clients`.
pub(crate) fn plan(census: Census, demand: Demand, attributes: &Attributes) -> Plan {
    let total = census.idle() + census.busy + demand.queued;
    let missing = if total == 0 {
        // No less than the minimum: nothing would ask again until the first connection comes.
        attributes.start_servers.max(attributes.min_spare_servers)
    } else {
        attributes
            .min_spare_servers
            .saturating_sub(census.idle() + demand.queued)
    };
    let room = attributes
        .max_clients
        .saturating_sub(census.live() + demand.queued);
    match (missing.max(demand.owed).min(room), demand.surplus) {
        (0, 0) => Plan::Steady,
        (0, surplus) => Plan::Retire(surplus),
        (forks, _) => Plan::Fork(forks),
    }
}

/// For how long words may pile up in the pipes before they are read; `None` if they are to be read at
/// once, since the next fork may hang on them.
///
/// Reading them costs the parent a wake-up and a read for each child, so the longer the cheaper.
pub(crate) fn word_batch(census: Census, attributes: &Attributes) -> Option<Duration> {
    const SHORT: Duration = Duration::from_millis(2);
    const LONG: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(20);
    /// So many connections that are kept for long may come in the meantime before a fork is due.
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

/// How many free children are too many: above `max_spare_servers`, or above `max_clients` where that
/// was lowered while the server runs (a busy child is left to finish, and is one of these then).
pub(crate) fn surplus(census: Census, attributes: &Attributes) -> usize {
    let spare = census.free.saturating_sub(attributes.max_spare_servers);
    let serving = census.idle() + census.busy;
    let clients = serving.saturating_sub(attributes.max_clients);
    spare.max(clients.min(census.free))
}

/// The surplus of spare children over time: how much of it has lasted.
///
/// Only the part that was there all the time is culled. Under a load that comes and goes within
/// `cull_after`, the children that are spare at one moment are needed at the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surplus {
    /// Since when there has been a first one too many, a second, and so on; later ones later.
    since: Vec<Time>,
    /// How many of them, from the first, have been announced as lasting.
    announced: usize,
}

impl Surplus {
    /// Takes note that now there are `surplus` too many.
    pub(crate) fn observe(&mut self, surplus: usize, now: Time) {
        self.since.resize(surplus, now);
        self.announced = self.announced.min(surplus);
    }

    /// Takes note that as many, the longest lasting, are about to be culled.
    pub(crate) fn culled(&mut self, count: usize) {
        self.since.drain(..count.min(self.since.len()));
        self.announced = self.announced.saturating_sub(count);
    }

    /// The next moment that deserves a `forkoff`. Each is announced once: an override may have
    /// reasons not to cull, and must not be asked without end.
    pub(crate) fn next(&self, cull_after: Duration) -> Option<Time> {
        self.since
            .get(self.announced)
            .map(|&since| since + cull_after)
    }

    /// Whether such a moment has come.
    pub(crate) fn take_due(&mut self, cull_after: Duration, now: Time) -> bool {
        let lasted = self.lasted(cull_after, now);
        let due = lasted > self.announced;
        self.announced = self.announced.max(lasted);
        due
    }

    /// How many have lasted.
    pub(crate) fn lasted(&self, cull_after: Duration, now: Time) -> usize {
        self.since
            .partition_point(|&since| since + cull_after <= now)
    }
}

/// All children that have been forked and not been reaped.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    children: Slab<Child>,
    generation: u32,
    census: Census,
}

impl Pool {
    /// What the next child to be entered will be called.
    pub(crate) fn next_id(&self) -> ChildId {
        // OK because a slot is a live process, and no system has 2^32 of them.
        ChildId::new(
            self.children.vacant_key() as u32,
            self.generation.wrapping_add(1),
        )
    }

    /// Enters a child that was just forked.
    pub(crate) fn insert(&mut self, pid: u32, now: Time, gaps: Duration) -> ChildId {
        let id = self.next_id();
        self.generation = id.generation();
        self.children.insert(Child::new(id, pid, now, gaps));
        self.census.starting += 1;
        id
    }

    /// Takes a child out: it has been reaped.
    pub(crate) fn remove(&mut self, id: ChildId) -> Option<Child> {
        self.get(id)?;
        let child = self.children.try_remove(id.slot())?;
        *self.census.of(child.state) -= 1;
        Some(child)
    }

    pub(crate) fn get(&self, id: ChildId) -> Option<&Child> {
        self.children.get(id.slot()).filter(|child| child.id == id)
    }

    /// The child whose name has that slot.
    pub(crate) fn in_slot(&self, slot: usize) -> Option<&Child> {
        self.children.get(slot)
    }

    pub(crate) fn get_mut(&mut self, id: ChildId) -> Option<&mut Child> {
        self.children
            .get_mut(id.slot())
            .filter(|child| child.id == id)
    }

    /// The only place where a state changes, so that the census cannot drift.
    pub(crate) fn set_state(&mut self, id: ChildId, state: State) {
        let Some(child) = self
            .children
            .get_mut(id.slot())
            .filter(|child| child.id == id)
        else {
            return;
        };
        *self.census.of(child.state) -= 1;
        *self.census.of(state) += 1;
        child.state = state;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children.iter().map(|(_, child)| child)
    }

    pub(crate) fn len(&self) -> usize {
        self.children.len()
    }

    pub(crate) fn census(&self) -> Census {
        self.census
    }

    /// The `count` oldest children that are free (and not merely starting), ties broken by name.
    pub(crate) fn oldest_free(&self, count: usize) -> Vec<ChildId> {
        let mut free: Vec<_> = self
            .iter()
            .filter(|child| child.state == State::Free)
            .map(|child| (child.start_time, child.id))
            .collect();
        free.sort_unstable();
        free.into_iter().take(count).map(|(_, id)| id).collect()
    }

    /// Who has been silent for longer than `timeout`: the free and starting ones first, then the
    /// busy ones. Left out are those told to stop, whose end is in hand, and those with output
    /// unread, whose ACK may be in it.
    pub(crate) fn overdue(
        &self,
        timeout: Duration,
        now: Time,
        gaps: Duration,
    ) -> (Vec<ChildId>, Vec<ChildId>) {
        self.iter()
            .filter(|child| child.state != State::Retiring)
            .filter(|child| !child.flags.contains(Flags::UNREAD))
            .filter(|child| child.silence(now, gaps) > timeout)
            .map(|child| child.id)
            .partition(|&id| self.get(id).is_some_and(|child| child.state != State::Busy))
    }
}

#[cfg(test)]
mod tests;
