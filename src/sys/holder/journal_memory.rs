//! The journal in memory: shared by the holder and its parents, one of which lives at a time. Their
//! children do not have it. Decides nothing; `core/journal.rs` says what the words mean.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        child::{ChildId, Collected, Reason, Usage, WaitStatus},
        signal_policy::TABLE,
        stop::StopTerms,
        time::Time,
    };

    fn lives(serial: u32, pid: u32) -> JournalRecord {
        JournalRecord {
            phase: LifePhase::Lives,
            pid,
            ..JournalRecord::forking(ChildId::new(0, serial), 1, false, Time::START)
        }
    }

    #[test]
    fn records_are_read_as_written_and_found_by_the_pid_of_who_lives() {
        let journal = Journal::new(3).unwrap();
        assert_eq!(journal.records().count(), 0);
        journal.put(1, &lives(7, 100));
        journal.put(2, &lives(8, 101).ended(Default::default()));
        assert_eq!(journal.record(1), lives(7, 100));
        assert_eq!(journal.slot_of(100), Some(1));
        assert_eq!(journal.slot_of(101), None, "it was reaped");
        assert_eq!(journal.records().count(), 2);
    }

    /// A parent notes of a child whatever it notes while the holder reaps that child.
    #[test]
    fn what_a_parent_notes_of_a_child_that_is_being_reaped_is_kept() {
        let journal = Journal::new(2).unwrap();
        let told = RetirementNote {
            reason: Reason::Culled,
            at: Time::START,
        };
        let said = WordNotes {
            requests: 9,
            ..WordNotes::default()
        };
        let before = JournalRecord {
            successor: true,
            ..lives(7, 100)
        };
        journal.put(1, &before);
        let seen = journal.record(1);
        journal.note_retirement(1, told);
        journal.note_ending(1, &seen);
        assert_eq!(journal.record(1).phase, LifePhase::Ending);
        journal.note_words(1, said);
        journal.note_paired(1);
        let end = Collected {
            status: Some(WaitStatus::from_raw(9)),
            usage: Some(Usage::default()),
            out_of_memory: false,
        };
        journal.note_end(1, &seen.ended(end));
        let expected = JournalRecord {
            told: Some(told),
            said,
            successor: false,
            ..before.ended(end)
        };
        assert_eq!(journal.record(1), expected);
    }

    /// A parent that is killed meanwhile leaves the record of before, or none.
    #[test]
    fn a_record_ends_in_one_step() {
        let journal = Journal::new(1).unwrap();
        journal.put(0, &lives(7, 100));
        let words = || -> Vec<u64> { journal.place(0).iter().map(|it| it.load(SeqCst)).collect() };
        let before = words();
        journal.vacate(0);
        let changed = words().iter().zip(&before).filter(|(a, b)| a != b).count();
        assert_eq!((changed, journal.record(0)), (1, JournalRecord::default()));
        assert_eq!(journal.slot_of(100), None);
    }

    /// As the kernel writes it, while no process writes a phase.
    #[test]
    #[allow(unsafe_code)]
    fn a_child_whose_pid_is_written_during_its_fork_is_known_from_then_on() {
        let journal = Journal::new(2).unwrap();
        let forking = JournalRecord::forking(ChildId::new(1, 7), 3, false, Time::START);
        journal.put(1, &forking);
        assert_eq!(journal.slot_of(0), None);
        // SAFETY: the place is in the journal, which no other process has.
        unsafe { journal.pid_at(1).write_volatile(100) };
        let living = JournalRecord {
            phase: LifePhase::Lives,
            pid: 100,
            ..forking
        };
        assert_eq!(journal.record(1), living);
        assert_eq!(
            (journal.slot_of(100), journal.record(1).epoch),
            (Some(1), 3)
        );
        let said = WordNotes {
            requests: 9,
            ..WordNotes::default()
        };
        journal.note_words(1, said);
        assert_eq!(journal.record(1), JournalRecord { said, ..living });
    }

    /// A stop is acted on once, whenever the parent that has received it is killed.
    #[test]
    fn a_stop_is_noted_together_with_the_signal_that_has_asked_for_it() {
        let journal = Journal::new(1).unwrap();
        let count = |count| Arrived::from([count; TABLE.len()]);
        for turn in 1..5 {
            let before = (journal.pool().stop, journal.taken());
            let stop = StopState::Announced(StopTerms {
                is_unbounded: turn % 2 == 0,
                was_told: true,
            });
            let _ = journal.note_heard(stop, &count(turn));
            assert_eq!(
                (journal.pool().stop, journal.taken()),
                before,
                "killed in between"
            );
            let note = PoolNote {
                stop,
                ..journal.pool()
            };
            journal.note_pool(&note, &count(turn));
            assert_eq!((journal.pool().stop, journal.taken()), (stop, count(turn)));
        }
        assert_eq!(
            journal.record(0),
            JournalRecord::default(),
            "they are beside it"
        );
    }

    #[test]
    fn what_was_saved_last_is_there_and_what_is_too_long_is_refused() {
        let journal = Journal::new(1).unwrap();
        assert_eq!(journal.saved(), []);
        for length in [1, 8, 9, ROOM, 3] {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8 ^ 0x5a).collect();
            assert!(journal.save(&bytes));
            assert_eq!(journal.saved(), bytes);
        }
        assert!(!journal.save(&vec![0; ROOM + 1]));
        assert_eq!(journal.saved().len(), 3, "as before");
        assert_eq!(
            journal.record(0),
            JournalRecord::default(),
            "they are beside each other"
        );
    }
}
