//! The table of children, a record for each, and the decisions about its size in the files below:
//! census, plan, surplus. Decides; never forks, kills, waits or reads a clock.

mod census;
mod plan;
mod surplus;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    census::Census,
    plan::{Demand, ForkPlan, is_reserve_due, is_reserve_idle, plan, room, word_batch},
    surplus::{Surplus, surplus},
};

use crate::core::{
    child::{Child, ChildId, State},
    inbox::{Contact, Inbox},
    system::ChildToken,
    time::Time,
};
use slab::Slab;
use std::time::Duration;

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
