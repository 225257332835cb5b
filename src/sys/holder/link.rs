//! A parent's side of its holder: what it tells that process, and what that tells it, by the channel
//! and by the journal. Decides nothing.

#![allow(unsafe_code)]

use super::{
    deaths::Deaths,
    handover::Handover,
    journal_memory::Journal,
    kept::KeptPipes,
    messages::{self, Message},
    process::ParentStart,
};
use crate::{
    core::{
        child::{ChildId, Signal},
        notes::{PoolNote, RetirementNote, WordNotes},
        signal_policy::{self, Arrived, TABLE},
        system::PoolJournal,
    },
    sys::fd_registry::Registered,
};
use nix::libc;
use std::os::fd::OwnedFd;

/// A parent's side.
#[derive(Debug)]
pub(crate) struct HolderLink {
    pub(super) journal: Journal,
    pub(super) handover: Handover,
    pub(super) channel: Registered<OwnedFd>,
    /// Which signals come by the journal.
    counted: [bool; TABLE.len()],
    /// How many signals this parent knows of.
    pub(super) asked: Arrived,
    pub(super) deaths: Deaths,
    pub(super) kept: KeptPipes,
}

impl HolderLink {
    pub(super) fn new(
        journal: Journal,
        handover: Handover,
        counted: [bool; TABLE.len()],
        born: ParentStart,
    ) -> Self {
        Self {
            asked: journal.taken(),
            deaths: born.deaths,
            journal,
            handover,
            channel: Registered::parents(born.channel),
            counted,
            kept: born.kept,
        }
    }

    pub(super) fn say(&self, message: Message) {
        // OK to ignore: a pipe that is kept for too long is replaced by that of the next child in its
        // slot, and a holder that does not answer is gone or stopped.
        if let Err(error) = messages::send(&self.channel, message, &[]) {
            log::debug!("{message:?} to the holder: {error}");
        }
    }

    /// What has arrived: signals as the holder has received them, and the deaths of children that it has
    /// reaped. Those that were sent to this process itself are left out, since a sender that signals all
    /// processes of a group has signalled the holder as well.
    ///
    /// `woken` says that the holder may have said something.
    pub(super) fn arrived(&mut self, own: Arrived, woken: bool) -> Arrived {
        if woken {
            self.look_for_the_holder();
        }
        let asked = self.journal.asked();
        let before = std::mem::replace(&mut self.asked, asked);
        let mut arrived = own;
        for index in (0..TABLE.len()).filter(|index| self.counted[*index]) {
            arrived[index] = asked[index].wrapping_sub(before[index]);
        }
        if let Some(child) = signal_policy::index(Signal::Child) {
            arrived[child] = own[child] + u64::from(self.deaths.are_new(&self.journal));
        }
        arrived
    }

    /// The pid of a child that the holder has reaped, each once.
    pub(super) fn learn_of_a_death(&mut self) -> Option<u32> {
        self.deaths.learn(&self.journal)
    }

    /// The journal, if it has a record of this child.
    fn journal_of(&self, child: ChildId) -> Option<&Journal> {
        let journal = &self.journal;
        let has_slot = child.slot() < journal.slots();
        (has_slot && journal.record(child.slot()).serial == child.serial()).then_some(journal)
    }

    /// This process does not outlive its holder, even where the kernel does not see to that.
    fn look_for_the_holder(&self) {
        if !messages::drain(&self.channel) {
            end_by_kill();
        }
    }
}

impl PoolJournal for HolderLink {
    fn note_pool(&self, note: &PoolNote) {
        self.journal.note_pool(note, &self.asked);
    }

    fn note_reload(&self, epoch: u32) {
        self.journal.note_reload(epoch);
    }

    fn note_epoch(&self, child: ChildId, epoch: u32) {
        if let Some(journal) = self.journal_of(child) {
            let record = journal.record(child.slot());
            if record.lives() {
                journal.note_epoch(child.slot(), &record, epoch);
            }
        }
    }

    fn note_words(&self, child: ChildId, said: WordNotes) {
        if let Some(journal) = self.journal_of(child) {
            journal.note_words(child.slot(), said);
        }
    }

    fn note_paired(&self, child: ChildId) {
        if let Some(journal) = self.journal_of(child) {
            journal.note_paired(child.slot());
        }
    }

    fn note_retirement(&self, child: ChildId, told: RetirementNote) {
        if let Some(journal) = self.journal_of(child) {
            journal.note_retirement(child.slot(), told);
        }
    }

    fn save_state(&self, bytes: &[u8]) -> bool {
        self.journal.save(bytes)
    }
}

fn end_by_kill() {
    // SAFETY: two integers; it ends this process.
    unsafe { libc::raise(libc::SIGKILL) };
}
