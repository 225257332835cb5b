//! A model of the kernel's table of processes: pids, used again at once, by children or by strangers.
//! Knows no core.

use super::{
    model::{Doing, Model},
    random::Random,
};
use crate::core::{
    child::{ChildId, Signal},
    wire::{CommWords, Framer},
};

/// A child as the kernel and the parent's descriptors have it, by slot.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: ChildId,
    pub(super) model: Model,
    pub(super) stdout: Framer,
    pub(super) stderr: Framer,
}

#[derive(Debug)]
pub(super) struct Kernel {
    processes: Vec<Option<Process>>,
    live: usize,
    /// The pid freed last is given out first.
    free_pids: Vec<u32>,
    /// Processes that are not ours and have a pid that was a child's.
    strangers: Vec<u32>,
}

impl Kernel {
    const FIRST_PID: u32 = 100;
    const PIDS: u32 = 100;

    pub(super) fn new() -> Self {
        Self {
            processes: Vec::new(),
            live: 0,
            free_pids: (Self::FIRST_PID..Self::FIRST_PID + Self::PIDS).collect(),
            strangers: Vec::new(),
        }
    }

    /// The pid that a fork gives.
    pub(super) fn take_pid(&mut self) -> u32 {
        self.free_pids.pop().expect("fewer children than pids")
    }

    pub(super) fn enter(&mut self, id: ChildId, pid: u32, capacity: usize) {
        if self.processes.len() <= id.slot() {
            self.processes.resize_with(id.slot() + 1, || None);
        }
        let process = Process {
            id,
            model: Model::new(pid, capacity),
            stdout: Framer::new(Some(CommWords::CONTROL)),
            stderr: Framer::new(None),
        };
        let before = self.processes[id.slot()].replace(process);
        assert!(before.is_none(), "{id} took the slot of {before:?}");
        self.live += 1;
    }

    /// How many were forked and not reaped.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn slots(&self) -> usize {
        self.processes.len()
    }

    pub(super) fn in_slot(&mut self, slot: usize) -> Option<&mut Process> {
        self.processes[slot].as_mut()
    }

    pub(super) fn get(&self, id: ChildId) -> Option<&Model> {
        let process = self.processes.get(id.slot())?.as_ref()?;
        (process.id == id).then_some(&process.model)
    }

    pub(super) fn get_mut(&mut self, id: ChildId) -> Option<&mut Model> {
        let process = self.processes.get_mut(id.slot())?.as_mut()?;
        (process.id == id).then_some(&mut process.model)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().flatten()
    }

    pub(super) fn any(&self, random: &mut Random) -> Option<ChildId> {
        let nth = random.below(self.live.max(1) as u64) as usize;
        self.iter().nth(nth).map(|process| process.id)
    }

    /// As waitpid(2) has it: the process is gone, and its pid is anybody's.
    pub(super) fn reap(&mut self, id: ChildId) -> Option<Process> {
        let slot = self.processes.get_mut(id.slot())?;
        let process = slot.take_if(|process| process.id == id)?;
        assert!(matches!(process.model.doing, Doing::Dead(_)));
        self.live -= 1;
        self.free_pids.push(process.model.pid);
        Some(process)
    }

    /// As kill(2) has it: whoever has that pid gets the signal. True if that changes something.
    pub(super) fn kill(&mut self, pid: u32, signal: Signal) -> (ChildId, bool) {
        assert!(!self.strangers.contains(&pid), "{signal:?} hit a stranger");
        let process = self.processes.iter_mut().flatten();
        let found = process
            .into_iter()
            .find(|process| process.model.pid == pid)
            .unwrap_or_else(|| panic!("{signal:?} for {pid}, which nobody has"));
        match signal {
            Signal::Interrupt => found.model.sent.interrupts += 1,
            Signal::Kill => found.model.sent.kills += 1,
            _ => {}
        }
        (found.id, found.model.hear(signal))
    }

    /// Another program starts, with the pid that was freed last.
    pub(super) fn stranger_comes(&mut self) {
        if self.strangers.len() < 20 {
            let pid = self.take_pid();
            self.strangers.push(pid);
        }
    }

    pub(super) fn stranger_goes(&mut self) {
        self.free_pids.extend(self.strangers.pop());
    }
}
