//! What becomes of a record when the parent that has written it is gone.

mod parents;
mod siblings;

use super::*;
use crate::core::inbox::save_end;
use proptest::prelude::*;

const PID: u32 = 100;
const ID: ChildId = ChildId::new(3, 7);

fn forking() -> JournalRecord {
    JournalRecord::forking(ID, 2, false, Time::at(Duration::from_millis(5)))
}

fn lives() -> JournalRecord {
    JournalRecord {
        phase: LifePhase::Lives,
        pid: PID,
        ..forking()
    }
}

/// Serials begin again some time, and a slot in which nothing was noted is zero.
#[test]
fn the_later_of_two_notes_stays() {
    for first in [1, ID.serial(), u32::MAX / 2 + 7, u32::MAX] {
        let [earlier, later] = [first, first.wrapping_add(1)].map(|it| NotedPid::new(it, PID));
        assert_eq!(earlier.noted_over(NotedPid::default()), earlier);
        assert_eq!(later.noted_over(earlier), later);
        assert_eq!(earlier.noted_over(later), later);
        assert_eq!(later.noted_over(later), later);
    }
}

#[test]
fn what_another_child_has_noted_resolves_nothing() {
    let earlier = NotedPid::new(ID.serial() - 1, PID);
    assert_eq!(
        forking().resolve(earlier, |_| true),
        JournalRecord::default()
    );
    for nobody in [0, 1] {
        let noted = NotedPid::new(ID.serial(), nobody);
        assert_eq!(forking().resolve(noted, |_| true), JournalRecord::default());
    }
}

/// A pid is used again only after its process was reaped.
#[test]
fn of_two_children_with_one_pid_the_later_one_lives() {
    let earlier = lives();
    for later in [ID.serial() + 1, ID.serial() + 1000] {
        let later = JournalRecord {
            serial: later,
            ..earlier
        };
        assert!(earlier.is_outdated_by(&later) && !later.is_outdated_by(&earlier));
        let other = JournalRecord { pid: 101, ..later };
        assert!(!earlier.is_outdated_by(&other));
    }
    let [last, first] = [u32::MAX, 0].map(|serial| JournalRecord { serial, ..earlier });
    assert!(last.is_outdated_by(&first), "serials begin again");
    assert!(!earlier.is_outdated_by(&earlier));
}

#[test]
fn a_state_is_saved_in_the_place_that_the_last_one_is_not_in() {
    let mut at = SavedAt::read(0);
    assert_eq!((at.place, at.length), (0, 0));
    for length in [1, 7, ROOM] {
        let next = at.next(length);
        assert_ne!(next.place, at.place);
        assert_eq!(SavedAt::read(next.word()), next);
        at = next;
    }
    assert_eq!(SavedAt::read(u64::MAX).length, ROOM);
}

proptest! {
    /// Whatever the words are: no panic; and what was written is read.
    #[test]
    fn a_record_is_read_as_it_was_written(
        serial: u32, pid: u32, epoch: u32, reserved: bool, at: u64, status: Option<i32>, phase in 0..6_u64,
        told: Option<(u8, u32)>, successor: bool, said: u64, group in 0..3_u8, signal in 0..17_u8,
        noise: [u64; RECORD_WORDS],
    ) {
        let phase = match LifePhase::read(phase) {
            LifePhase::Forking if pid != 0 => LifePhase::Lives,
            phase => phase,
        };
        let usage = Usage {
            user_time: Duration::from_nanos(at),
            max_resident: at,
            ..Usage::default()
        };
        let end = Collected {
            status: status.map(WaitStatus::from_raw),
            usage: status.map(|_| usage),
            out_of_memory: false,
        };
        let told = told.map(|(reason, at)| RetirementNote {
            reason: Reason::of_code(reason),
            at: Time::at(Duration::from_micros(at.into())),
        });
        let record = JournalRecord {
            phase, serial, reserved, pid, epoch, told, successor,
            stop_by: StopBy {
                signal: Signal::of_code(signal),
                group: ToGroup::of_code(group),
            },
            forked_at: Time::at_nanoseconds(at),
            said: WordNotes::read(said),
            end: (phase == LifePhase::Ended).then_some(end),
        };
        let expected = match phase {
            LifePhase::Vacant => JournalRecord::default(),
            _ => record,
        };
        prop_assert_eq!(JournalRecord::read(&record.words()), expected);
        let _ = JournalRecord::read(&noise).resolve(NotedPid(at), |_| reserved);
    }
}

/// What an earlier program has handed on of a child is what a later parent takes over of it.
#[test]
fn a_child_of_an_earlier_program_is_the_next_parents_as_well() {
    let now = Time::at(Duration::from_secs(9));
    let inherited = |record: JournalRecord| {
        let inherited = InheritedChild {
            slot: 3,
            record,
            notes: Default::default(),
            pipes: [Some((5, 0)), None, None],
        };
        inherited.state(now)
    };
    let end = Collected {
        status: Some(WaitStatus::from_raw(9)),
        ..Collected::default()
    };
    let reserved = JournalRecord {
        reserved: true,
        ..lives()
    };
    for record in [lives(), reserved] {
        assert_eq!(JournalRecord::adopted(&inherited(record)), record);
    }
    // A parent reaps who has ended, and has the end in what it saves.
    let end_state = Some(save_end(&end));
    let ended = ChildState {
        end: end_state.clone(),
        ..inherited(lives())
    };
    assert_eq!(JournalRecord::adopted(&ended), lives().ended(end));
    let outlived = ChildState {
        outlived: end_state,
        ..inherited(lives())
    };
    assert_eq!(JournalRecord::adopted(&outlived).phase, LifePhase::Ended);
}
