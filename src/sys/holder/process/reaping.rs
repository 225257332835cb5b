//! The end of processes below a holder: who has ended is reaped, and what is known of a child is noted
//! for the parent. Completes the records of a parent that is gone. Sends no signal.

use super::Holder;
use crate::{
    core::{
        child::{Collected, WaitStatus},
        journal::LifePhase,
    },
    sys::process,
};
use nix::libc;

impl Holder<'_> {
    /// Reaps all who have ended; while an upgrade is under way the parent alone.
    pub(super) fn reap_all(&mut self) {
        // Several deaths may be one signal.
        while !self.setup.handover.is_open()
            && let Some(pid) = find_dead()
        {
            self.reap(pid);
        }
        if self.setup.handover.is_open() {
            self.reap_parent();
        }
    }

    /// Reaps a process that has ended: the parent, a child that had an earlier parent, or an orphan.
    fn reap(&mut self, pid: u32) {
        if let Some(parent) = self.parent.as_mut().filter(|parent| parent.pid == pid) {
            let status = collect(pid).status.map(WaitStatus::raw);
            parent.status = Some(status.unwrap_or_default());
        } else if let Some(slot) = self.setup.journal.slot_of(pid) {
            self.reap_child(slot, pid);
        } else {
            collect(pid);
        }
    }

    fn reap_child(&self, slot: usize, pid: u32) {
        let journal = &self.setup.journal;
        let record = journal.record(slot);
        // From now on no signal is sent to its pid.
        journal.note_ending(slot, &record);
        journal.note_end(slot, &record.ended(collect(pid)));
        journal.count_death();
        self.wake();
    }

    /// Reaps the parent if it has ended. Its children, whom the kernel gives to this process then, are
    /// for the next program to reap.
    fn reap_parent(&mut self) {
        let Some(parent) = self.parent.as_mut().filter(|it| it.status.is_none()) else {
            return;
        };
        // OK to cast because fork(2) has returned the pid.
        if let Ok(Some(end)) = process::collect(parent.pid as libc::pid_t) {
            let status = end.status.map(WaitStatus::raw);
            parent.status = Some(status.unwrap_or_default());
        }
    }

    /// A process that has ended and is no child of the server is not known to the next program.
    pub(super) fn reap_strangers(&self) {
        let is_child = |pid: &u32| self.setup.journal.slot_of(*pid).is_some();
        while let Some(pid) = process::peek().filter(|pid| !is_child(pid)) {
            collect(pid);
        }
    }

    /// Brings the records of a parent that is gone to an end.
    pub(super) fn settle_records(&mut self) {
        let journal = &self.setup.journal;
        // OK to cast: a number that is no pid is no process's.
        let is_child = |pid: u32| process::is_ours(pid as libc::pid_t).unwrap_or(false);
        for slot in 0..journal.slots() {
            let record = journal.record(slot);
            let mut resolved = record.resolve((self.noted)(slot), is_child);
            // Few live, so that a large pool is not compared with itself.
            let is_outdated = || {
                let mut others = journal.records();
                others.any(|(_, other)| resolved.is_outdated_by(&other))
            };
            if resolved.lives() && is_outdated() {
                resolved = resolved.ended(Default::default());
            }
            if resolved != record {
                journal.put(slot, &resolved);
            }
            if resolved.phase == LifePhase::Vacant {
                self.kept.clear(slot);
            }
        }
    }
}

/// A process that has ended. Asked for again if that fails, since no other signal may come.
fn find_dead() -> Option<u32> {
    process::try_peek().or_else(|_| process::try_peek()).ok()?
}

/// Reaps a process that has ended.
fn collect(pid: u32) -> Collected {
    // OK to cast because the kernel has told the pid.
    let collected = process::collect(pid as libc::pid_t);
    collected.ok().flatten().unwrap_or_default()
}
