//! A model of the kernel's process table, which reuses pids at once, for children or for foreign
//! processes. Knows nothing of the loop.

use super::model::{Model, ModelActivity};
use crate::core::{
    child::{ChildId, Collected, Signal, WaitStatus},
    random::Random,
    system::Reaped,
};

/// A child in the process table, by slot, for as long as the parent holds its pipes.
#[derive(Debug)]
pub(super) struct KernelEntry {
    pub(super) id: ChildId,
    pub(super) model: Model,
    /// Its status was collected: its pid may be reused.
    pub(super) reaped: bool,
}

#[derive(Debug)]
pub(super) struct Kernel {
    entries: Vec<Option<KernelEntry>>,
    /// The pid freed last is given out first.
    free_pids: Vec<u32>,
    /// Foreign processes whose pid was a child's.
    foreign: Vec<u32>,
    /// Other children of the program that have ended and were not reaped.
    others: Vec<u32>,
}

impl Kernel {
    const FIRST_PID: u32 = 100;
    const PIDS: u32 = 400;

    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free_pids: (Self::FIRST_PID..Self::FIRST_PID + Self::PIDS).collect(),
            foreign: Vec::new(),
            others: Vec::new(),
        }
    }

    /// The pid that a fork gives.
    pub(super) fn take_pid(&mut self) -> u32 {
        self.free_pids.pop().expect("fewer children than pids")
    }

    pub(super) fn enter(&mut self, id: ChildId, model: Model) {
        if self.entries.len() <= id.slot() {
            self.entries.resize_with(id.slot() + 1, || None);
        }
        let entry = KernelEntry {
            id,
            model,
            reaped: false,
        };
        let before = self.entries[id.slot()].replace(entry);
        assert!(before.is_none(), "{id} took the slot of {before:?}");
    }

    /// The parent has dropped its handle to the child.
    pub(super) fn forget(&mut self, id: ChildId) {
        let entry = self.entries.get_mut(id.slot());
        let forgotten = entry.and_then(|entry| entry.take_if(|entry| entry.id == id));
        assert!(forgotten.is_some(), "{id} was forgotten twice");
    }

    pub(super) fn slots(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn in_slot(&mut self, slot: usize) -> Option<&mut KernelEntry> {
        self.entries[slot].as_mut()
    }

    pub(super) fn entry(&self, id: ChildId) -> Option<&KernelEntry> {
        let entry = self.entries.get(id.slot())?.as_ref()?;
        (entry.id == id).then_some(entry)
    }

    pub(super) fn get(&self, id: ChildId) -> Option<&Model> {
        self.entry(id).map(|entry| &entry.model)
    }

    pub(super) fn get_mut(&mut self, id: ChildId) -> Option<&mut Model> {
        let entry = self.entries.get_mut(id.slot())?.as_mut()?;
        (entry.id == id).then_some(&mut entry.model)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KernelEntry> {
        self.entries.iter().flatten()
    }

    pub(super) fn any(&self, random: &mut Random) -> Option<ChildId> {
        let count = self.iter().count().max(1);
        let nth = random.below(count as u64) as usize;
        self.iter().nth(nth).map(|entry| entry.id)
    }

    /// Like waitpid(2) for one child.
    pub(super) fn reap(&mut self, id: ChildId) -> Reaped {
        let entry = self.entries.get_mut(id.slot()).and_then(Option::as_mut);
        let Some(entry) = entry.filter(|entry| entry.id == id && !entry.reaped) else {
            return Reaped::Ended(Collected::default());
        };
        let ModelActivity::Dead(raw) = entry.model.activity else {
            return Reaped::Not;
        };
        entry.reaped = true;
        self.free_pids.push(entry.model.pid);
        Reaped::Ended(Some(WaitStatus::from_raw(raw)).into())
    }

    /// Like waitid(2) with WNOWAIT for any child: one that has ended and was not reaped.
    pub(super) fn peek(&self) -> Option<u32> {
        let ended = |entry: &&KernelEntry| entry.model.is_dead() && !entry.reaped;
        let ours = self.iter().find(ended).map(|entry| entry.model.pid);
        self.others.last().copied().or(ours)
    }

    /// Like kill(2), after a check that the pid is a child's: the child that has the pid now gets
    /// the signal. True if that changes something.
    pub(super) fn kill(&mut self, id: ChildId, signal: Signal) -> bool {
        let Some(pid) = self.get(id).map(|model| model.pid) else {
            return false;
        };
        let entries = self.entries.iter_mut().flatten();
        let mut living = entries.filter(|entry| !entry.reaped);
        let Some(hit) = living.find(|entry| entry.model.pid == pid) else {
            return false;
        };
        assert_eq!(hit.id, id, "{signal:?} hit another process");
        match signal {
            Signal::Interrupt => hit.model.sent.interrupts += 1,
            Signal::Kill => hit.model.sent.kills += 1,
            Signal::User1 => hit.model.sent.reopenings += 1,
            _ => {}
        }
        hit.model.hear(signal)
    }

    /// A foreign process starts, with the pid that was freed last.
    pub(super) fn foreign_starts(&mut self) {
        if self.foreign.len() < 20 {
            let pid = self.take_pid();
            self.foreign.push(pid);
        }
    }

    /// A foreign process ends.
    pub(super) fn foreign_ends(&mut self) {
        self.free_pids.extend(self.foreign.pop());
    }

    /// Another child of the program ends.
    pub(super) fn other_ends(&mut self) {
        if self.others.len() < 3 {
            let pid = self.take_pid();
            self.others.push(pid);
        }
    }

    /// The program reaps its other child.
    pub(super) fn other_is_reaped(&mut self) {
        self.free_pids.extend(self.others.pop());
    }
}
