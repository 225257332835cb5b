//! The journal in memory: shared by the holder and its parents, one of which lives at a time. Their
//! children do not have it. Decides nothing; `core/journal.rs` says what the words mean.

#[cfg(test)]
mod tests;

use crate::{
    core::{
        journal::{
            ASKED_AT, DEATHS_AT, END_AT, EPOCH_AT, FAILURE_AT, HEARD_AT, JournalRecord, LifePhase,
            OVER_AT, OWED_AT, PID_AT, RECORD_WORDS, RECORDS_AT, RELOAD_ASKED_AT, RENEWED_AT, ROOM,
            SAID_AT, SAVED_AT, SERIAL_AT, SETTLED_AT, STATE_AT, STOP_IN_HEARD, SUCCESSOR_AT,
            SavedAt, TOLD_AT, UPGRADE_AT, heard_at, words,
        },
        notes::{FailureNote, PoolNote, RetirementNote, WordNotes},
        signal_policy::Arrived,
        stop::StopState,
        upgrade::UpgradeNote,
    },
    sys::shared_memory::SharedMemory,
};
use nix::libc;
use std::{
    array, io,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

const WORD: usize = size_of::<u64>();

/// A place that is complete, and not valid yet.
#[must_use]
struct HeardAt(u64);

/// The memory. Used in the holder and its parents only: elsewhere it is not mapped.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    memory: SharedMemory,
    slots: usize,
}

impl Journal {
    pub(super) fn new(slots: usize) -> io::Result<Self> {
        let length = words(slots).and_then(|words| words.checked_mul(WORD));
        let length = length.ok_or(io::ErrorKind::OutOfMemory)?;
        let (memory, _) = SharedMemory::new(c"prefork-journal", length)?;
        Ok(Self { memory, slots })
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.owners_words()[at]
    }

    fn get(&self, at: usize) -> u64 {
        self.word(at).load(SeqCst)
    }

    fn set(&self, at: usize, word: u64) {
        self.word(at).store(word, SeqCst);
    }

    fn place(&self, slot: usize) -> &[AtomicU64] {
        &self.memory.owners_words()[RECORDS_AT + slot * RECORD_WORDS..][..RECORD_WORDS]
    }

    pub(super) fn record(&self, slot: usize) -> JournalRecord {
        let place = self.place(slot);
        JournalRecord::read(&array::from_fn(|at| place[at].load(SeqCst)))
    }

    /// Writes a record; its first word, which makes it valid, is written last.
    pub(super) fn put(&self, slot: usize, record: &JournalRecord) {
        let place = self.place(slot);
        let words = record.words();
        for at in (0..RECORD_WORDS).filter(|at| *at != STATE_AT) {
            place[at].store(words[at], SeqCst);
        }
        place[STATE_AT].store(words[STATE_AT], SeqCst);
    }

    /// There is no child any more. In one step: a parent may be killed before or after it.
    pub(super) fn vacate(&self, slot: usize) {
        let words = JournalRecord::default().words();
        self.place(slot)[STATE_AT].store(words[STATE_AT], SeqCst);
    }

    /// In the holder: the child is being reaped. Leaves alone what the parent may be noting of it.
    pub(super) fn note_ending(&self, slot: usize, record: &JournalRecord) {
        let ending = JournalRecord {
            phase: LifePhase::Ending,
            ..*record
        };
        self.place(slot)[STATE_AT].store(ending.words()[STATE_AT], SeqCst);
    }

    /// In the holder: the child was reaped. Leaves alone what the parent may be noting of it.
    pub(super) fn note_end(&self, slot: usize, record: &JournalRecord) {
        let (place, words) = (self.place(slot), record.words());
        for at in END_AT {
            place[at].store(words[at], SeqCst);
        }
        place[STATE_AT].store(words[STATE_AT], SeqCst);
    }

    /// Changes the epoch of a child, whose phase the holder may be changing.
    pub(super) fn note_epoch(&self, slot: usize, record: &JournalRecord, epoch: u32) {
        let words = JournalRecord { epoch, ..*record }.words();
        self.place(slot)[PID_AT].store(words[PID_AT], SeqCst);
    }

    /// What a child has said, whose phase the holder may be changing.
    pub(super) fn note_words(&self, slot: usize, said: WordNotes) {
        self.place(slot)[SAID_AT].store(said.word(), SeqCst);
    }

    /// Where the kernel writes the pid of a child: the lower half of a word.
    pub(super) fn pid_at(&self, slot: usize) -> *mut libc::pid_t {
        let word = self.place(slot)[PID_AT].as_ptr().cast::<libc::pid_t>();
        match cfg!(target_endian = "big") {
            true => word.wrapping_add(1),
            false => word,
        }
    }

    /// A successor has had its effect, whose phase the holder may be changing.
    pub(super) fn note_paired(&self, slot: usize) {
        self.place(slot)[SUCCESSOR_AT].store(0, SeqCst);
    }

    /// Why a child is told to stop, whose phase the holder may be changing.
    pub(super) fn note_retirement(&self, slot: usize, told: RetirementNote) {
        self.place(slot)[TOLD_AT].store(told.word(), SeqCst);
    }

    /// The slot of the living child with this pid.
    pub(super) fn slot_of(&self, pid: u32) -> Option<usize> {
        // OK to cut: the pid is in the lower half.
        let has_pid = |slot: &usize| self.place(*slot)[PID_AT].load(SeqCst) as u32 == pid;
        let mut slots = (0..self.slots).filter(has_pid);
        slots.find(|slot| self.record(*slot).lives())
    }

    /// The slots that have a record, with it.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, JournalRecord)> + '_ {
        let all = (0..self.slots).map(|slot| (slot, self.record(slot)));
        all.filter(|(_, record)| record.phase != LifePhase::Vacant)
    }

    pub(super) fn deaths(&self) -> u64 {
        self.get(DEATHS_AT)
    }

    pub(super) fn count_death(&self) {
        self.word(DEATHS_AT).fetch_add(1, SeqCst);
    }

    /// In the holder: a signal of the table has come that often.
    pub(super) fn ask(&self, index: usize, count: u64) {
        self.word(ASKED_AT + index).fetch_add(count, SeqCst);
    }

    /// How often each signal of the table has come to the holder.
    pub(super) fn asked(&self) -> Arrived {
        array::from_fn(|index| self.get(ASKED_AT + index))
    }

    pub(super) fn taken(&self) -> Arrived {
        let at = heard_at(self.get(HEARD_AT));
        array::from_fn(|index| self.get(at + index))
    }

    /// Notes which signals were acted on and how far the stop is, in the place that is not valid.
    fn note_heard(&self, stop: StopState, taken: &Arrived) -> HeardAt {
        let place = self.get(HEARD_AT) ^ 1;
        let at = heard_at(place);
        for (at, count) in (at..).zip(taken) {
            self.set(at, *count);
        }
        self.set(at + STOP_IN_HEARD, stop.word());
        HeardAt(place)
    }

    /// At the end of a turn: what the pool is like, and which signals were acted on.
    pub(super) fn note_pool(&self, note: &PoolNote, taken: &Arrived) {
        self.set(EPOCH_AT, note.epoch.into());
        self.set(SERIAL_AT, note.serial.into());
        self.set(OWED_AT, note.owed);
        self.set(RENEWED_AT, note.renewed.into());
        self.set(RELOAD_ASKED_AT, note.reload_asked.into());
        self.set(FAILURE_AT, FailureNote::word(note.failure));
        self.set(UPGRADE_AT, note.upgrade.word());
        let HeardAt(place) = self.note_heard(note.stop, taken);
        self.set(HEARD_AT, place);
        self.set(SETTLED_AT, std::process::id().into());
    }

    /// In the turn in which a reload begins. The epoch comes last: it has the next parent go on with the
    /// reload, for which that has to read the settings.
    pub(super) fn note_reload(&self, epoch: u32) {
        self.set(RENEWED_AT, 1);
        self.set(EPOCH_AT, epoch.into());
    }

    /// Which signals were acted on.
    pub(super) fn note_taken(&self, taken: &Arrived) {
        let HeardAt(place) = self.note_heard(self.pool().stop, taken);
        self.set(HEARD_AT, place);
    }

    pub(super) fn pool(&self) -> PoolNote {
        PoolNote {
            // OK to cut: that is how they were written.
            epoch: self.get(EPOCH_AT) as u32,
            serial: self.get(SERIAL_AT) as u32,
            owed: self.get(OWED_AT),
            stop: StopState::read(self.get(heard_at(self.get(HEARD_AT)) + STOP_IN_HEARD)),
            failure: FailureNote::read(self.get(FAILURE_AT)),
            renewed: self.get(RENEWED_AT) != 0,
            reload_asked: self.get(RELOAD_ASKED_AT) != 0,
            upgrade: UpgradeNote::read(self.get(UPGRADE_AT)),
        }
    }

    /// Notes a serial before its fork.
    pub(super) fn note_serial(&self, serial: u32) {
        self.set(SERIAL_AT, serial.into());
    }

    /// The server has ended.
    pub(super) fn end(&self) {
        self.set(OVER_AT, 1);
    }

    pub(super) fn is_over(&self) -> bool {
        self.get(OVER_AT) != 0
    }

    /// Whether this parent has completed a turn.
    pub(super) fn is_settled(&self, parent: u32) -> bool {
        self.get(SETTLED_AT) == u64::from(parent)
    }

    fn saved_place(&self, place: usize) -> &[AtomicU64] {
        let start = RECORDS_AT + self.slots * RECORD_WORDS + place * (ROOM / WORD);
        &self.memory.owners_words()[start..][..ROOM / WORD]
    }

    /// Keeps these bytes for the next parent. False if there is no room for them.
    pub(super) fn save(&self, bytes: &[u8]) -> bool {
        if bytes.len() > ROOM {
            return false;
        }
        let at = SavedAt::read(self.get(SAVED_AT)).next(bytes.len());
        for (place, part) in self.saved_place(at.place).iter().zip(bytes.chunks(WORD)) {
            let mut word = [0; WORD];
            word[..part.len()].copy_from_slice(part);
            place.store(u64::from_le_bytes(word), SeqCst);
        }
        self.set(SAVED_AT, at.word());
        true
    }

    pub(super) fn saved(&self) -> Vec<u8> {
        let at = SavedAt::read(self.get(SAVED_AT));
        let words = self.saved_place(at.place).iter();
        let bytes = words.flat_map(|word| word.load(SeqCst).to_le_bytes());
        bytes.take(at.length).collect()
    }
}
