//! The table of children and the decisions about its size: census, plan, overdue. Decides; never
//! forks, kills, waits or reads a clock.

use crate::core::{
    child::{Child, ChildId, State},
    config::Attributes,
    inbox::{Contact, Inbox},
    system::ChildToken,
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
    pub(crate) reserved: usize,
    pub(crate) retiring: usize,
}

impl Census {
    /// All child processes, as `max_clients` counts them.
    pub(crate) fn live(&self) -> usize {
        self.starting + self.free + self.busy + self.reserved + self.retiring
    }

    /// The spare children, as `min_spare_servers` counts them: a child that is still starting is
    /// one.
    pub(crate) fn idle(&self) -> usize {
        self.starting + self.free
    }

    /// The children that serve, or could.
    fn serving(&self) -> usize {
        self.idle() + self.busy
    }

    fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Starting => &mut self.starting,
            State::Free => &mut self.free,
            State::Busy => &mut self.busy,
            State::Reserved => &mut self.reserved,
            State::Retiring => &mut self.retiring,
        }
    }
}

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
    let room = attributes
        .max_clients
        .saturating_sub(census.live() + demand.queued);
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

/// Everything about one child under one key: the record that hooks see, and how the parent reaches
/// it.
#[derive(Debug)]
struct ChildRecord {
    child: Child,
    /// Taken out while hooks are called for what the child says.
    contact: Option<Box<Contact>>,
}

/// All children that have been forked and not been reaped.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    records: Slab<ChildRecord>,
    serial: u32,
    census: Census,
}

impl Pool {
    /// The name of the next child.
    pub(crate) fn next_id(&self) -> ChildId {
        // OK to cast because each slot is a live process, and no system has 2^32 of them.
        ChildId::new(
            self.records.vacant_key() as u32,
            self.serial.wrapping_add(1),
        )
    }

    /// Adds a child that was just forked.
    pub(crate) fn insert(
        &mut self,
        pid: u32,
        now: Time,
        gaps: Duration,
        contact: Option<Box<Contact>>,
    ) -> ChildId {
        let id = self.next_id();
        self.serial = id.serial();
        let child = Child::new(id, pid, now, gaps);
        self.records.insert(ChildRecord { child, contact });
        self.census.starting += 1;
        id
    }

    /// Removes a child that has been reaped or is given up.
    pub(crate) fn remove(&mut self, id: ChildId) -> Option<Child> {
        self.get(id)?;
        let record = self.records.try_remove(id.slot())?;
        *self.census.of(record.child.state) -= 1;
        Some(record.child)
    }

    fn record(&self, id: ChildId) -> Option<&ChildRecord> {
        let record = self.records.get(id.slot());
        record.filter(|record| record.child.id == id)
    }

    fn record_mut(&mut self, id: ChildId) -> Option<&mut ChildRecord> {
        let record = self.records.get_mut(id.slot());
        record.filter(|record| record.child.id == id)
    }

    pub(crate) fn get(&self, id: ChildId) -> Option<&Child> {
        self.record(id).map(|record| &record.child)
    }

    pub(crate) fn get_mut(&mut self, id: ChildId) -> Option<&mut Child> {
        self.record_mut(id).map(|record| &mut record.child)
    }

    /// The child that an event names.
    pub(crate) fn find(&self, token: ChildToken) -> Option<ChildId> {
        let id = self.records.get(token.slot)?.child.id;
        token.is(id).then_some(id)
    }

    /// How a child is reached.
    pub(crate) fn contact(&self, id: ChildId) -> Option<&Contact> {
        self.record(id)?.contact.as_deref()
    }

    /// How a child is reached, to change its inbox.
    pub(crate) fn contact_mut(&mut self, id: ChildId) -> Option<&mut Contact> {
        self.record_mut(id)?.contact.as_deref_mut()
    }

    /// Takes the contact out while its words and lines are passed to hooks, which borrow the pool.
    pub(crate) fn take_contact(&mut self, id: ChildId) -> Option<Box<Contact>> {
        self.record_mut(id)?.contact.take()
    }

    pub(crate) fn give_back(&mut self, id: ChildId, contact: Box<Contact>) {
        if let Some(record) = self.record_mut(id) {
            record.contact = Some(contact);
        }
    }

    /// All children with their inboxes.
    pub(crate) fn inboxes(&self) -> impl Iterator<Item = (ChildId, &Inbox)> + '_ {
        let records = self.records.iter().map(|(_, record)| record);
        records.filter_map(|record| Some((record.child.id, &record.contact.as_deref()?.inbox)))
    }

    /// The child that is reserved, if there is one that was not told to stop.
    pub(crate) fn reserved(&self) -> Option<&Child> {
        let any = self.census.reserved > 0;
        let children = any.then(|| self.iter());
        let mut children = children.into_iter().flatten();
        children.find(|child| child.state == State::Reserved)
    }

    /// Changes a child's state. No other code does, so the census stays correct.
    pub(crate) fn set_state(&mut self, id: ChildId, state: State) {
        if let Some(child) = self.get_mut(id) {
            let before = std::mem::replace(&mut child.state, state);
            *self.census.of(before) -= 1;
            *self.census.of(state) += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Child> + '_ {
        self.records.iter().map(|(_, record)| &record.child)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn census(&self) -> Census {
        self.census
    }

    /// The `count` oldest free children, of the same age in the order of their names. Starting
    /// children do not count.
    pub(crate) fn oldest_free(&self, count: usize) -> Vec<ChildId> {
        let mut free: Vec<_> = self
            .iter()
            .filter(|child| child.state == State::Free)
            .map(|child| (child.start_time, child.id))
            .collect();
        free.sort_unstable();
        free.into_iter().take(count).map(|(_, id)| id).collect()
    }

    /// The children that have been silent for longer than `timeout`: free and starting ones, and
    /// busy ones.
    ///
    /// Without children that were told to stop, and without children with unread output, which may
    /// contain an ACK.
    pub(crate) fn overdue(
        &self,
        timeout: Duration,
        now: Time,
        gaps: Duration,
    ) -> (Vec<ChildId>, Vec<ChildId>) {
        self.iter()
            .filter(|child| child.state != State::Retiring)
            .filter(|child| child.is_overdue(child.silence_limit(timeout), now, gaps))
            .map(|child| child.id)
            .partition(|&id| self.get(id).is_some_and(|child| child.state != State::Busy))
    }
}

/// Children that an earlier program of this process has forked.
impl Pool {
    /// Puts them into an empty table, under the names that they have. `serial` is that of the last fork.
    pub(crate) fn adopt(&mut self, children: Vec<(Child, Box<Contact>)>, serial: u32) {
        let records = children.into_iter().map(|(child, contact)| {
            let contact = Some(contact);
            (child.id.slot(), ChildRecord { child, contact })
        });
        self.records = records.collect();
        self.serial = serial;
        self.census = Census::default();
        for (_, record) in &self.records {
            *self.census.of(record.child.state) += 1;
        }
    }

    /// All children with how they are reached, to be handed on.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = (&Child, &Contact)> + '_ {
        let records = self.records.iter().map(|(_, record)| record);
        records.filter_map(|record| Some((&record.child, record.contact.as_deref()?)))
    }

    /// Empties the table. The processes and their pipes are another process's, and stay what they are.
    #[cfg(feature = "holder")]
    pub(crate) fn disown(&mut self) {
        for (_, record) in &mut self.records {
            if let Some(contact) = &mut record.contact {
                contact.process.disown();
            }
        }
        self.records.clear();
        self.census = Census::default();
    }

    /// The serial of the child that was forked last.
    pub(crate) fn last_serial(&self) -> u32 {
        self.serial
    }
}

#[cfg(test)]
mod tests;
