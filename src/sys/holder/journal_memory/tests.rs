//! The journal in the memory of one process: what is noted is read.

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
