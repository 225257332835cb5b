//! What a new parent takes over of one child, from its record in the journal, its notes on the board
//! and its pipes. What only the parent before knew is taken at its default.

use super::JournalRecord;
use crate::core::{
    board::SlotNotes,
    child::{ChildFlags, State},
    notes::WordNotes,
    state::{ChildState, EncodedList, PipeState, SeenState},
    system::ToGroup,
    time::Time,
};

/// A child of a parent that is gone.
#[derive(Clone, Debug)]
pub(crate) struct InheritedChild {
    pub(crate) slot: u32,
    pub(crate) record: JournalRecord,
    pub(crate) notes: SlotNotes,
    /// The descriptors of its pipes, and how much is in each.
    pub(crate) pipes: [Option<(u32, u64)>; 3],
}

impl InheritedChild {
    /// Its state for a parent that takes over now.
    pub(crate) fn state(&self, now: Time) -> ChildState {
        let JournalRecord {
            serial,
            pid,
            epoch,
            forked_at,
            stop_by,
            ..
        } = self.record;
        let said = self.said();
        ChildState {
            slot: self.slot,
            serial,
            pid,
            epoch,
            state: Some(self.believed(said)),
            flags: self.flags(said).bits(),
            start_time: forked_at,
            // Its silence counts from now on: what it has said while there was no parent is no silence.
            last_ack: now,
            busy_since: self.busy_since(said, now),
            noted_requests: self.own_notes().map_or(0, |notes| notes.requests),
            said_requests: said.requests.into(),
            pipes: EncodedList(self.pipes.map(pipe_state).to_vec()),
            seen: Some(SeenState {
                entry: self.notes.entry.bits(),
                printed: 0,
            })
            .filter(|_| self.own_notes().is_some()),
            group: ToGroup::code(stop_by.group),
            stop_signal: Some(stop_by.signal),
            ..ChildState::default()
        }
    }

    /// The notes, if they are those of this child.
    fn own_notes(&self) -> Option<&SlotNotes> {
        Some(&self.notes).filter(|notes| notes.entry.is_of(self.record.serial))
    }

    /// What it has said: by its notes, or, if it notes nothing, as the parent before has received it.
    fn said(&self) -> WordNotes {
        let notes = self
            .own_notes()
            .filter(|notes| notes.entry.has_said_a_word());
        let Some(notes) = notes else {
            return self.record.said;
        };
        let is_busy = notes.entry.is_busy();
        let mut flags =
            ChildFlags::ACKED | ChildFlags::HEARD | ChildFlags::READY | ChildFlags::WAITED;
        flags.set(ChildFlags::WAS_BUSY, notes.requests > 0);
        flags.set(
            ChildFlags::FINISHED_ONE,
            notes.requests > u64::from(is_busy),
        );
        WordNotes {
            flags,
            is_busy,
            requests: u32::try_from(notes.requests).unwrap_or(u32::MAX),
        }
    }

    fn believed(&self, said: WordNotes) -> State {
        let has_said_a_word = said.flags.contains(ChildFlags::HEARD);
        match (self.record.reserved, has_said_a_word, said.is_busy) {
            (true, ..) => State::Reserved,
            (_, false, _) => State::Starting,
            (_, _, true) => State::Busy,
            (_, _, false) => State::Free,
        }
    }

    /// Since when it has the connection in hand. Of one that has only said so, it is not known: its
    /// time begins again.
    fn busy_since(&self, said: WordNotes, now: Time) -> Option<Time> {
        let noted = self.own_notes().and_then(|notes| notes.since);
        noted.or(said.is_busy.then_some(now))
    }

    fn flags(&self, said: WordNotes) -> ChildFlags {
        let mut flags = said.flags;
        flags.set(ChildFlags::STDOUT_OPEN, self.pipes[0].is_some());
        flags.set(ChildFlags::STDERR_OPEN, self.pipes[1].is_some());
        // Nothing is sent to it. What is left of its group is told to stop.
        let is_over = self.record.end.is_some() && self.record.stop_by.group.is_none();
        flags.set(ChildFlags::REAPED, is_over);
        flags
    }
}

fn pipe_state(pipe: Option<(u32, u64)>) -> PipeState {
    PipeState {
        fd: pipe.map(|(fd, _)| fd),
        left: pipe.map_or(0, |(_, left)| left),
        ..PipeState::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        child::{ChildId, Collected, Signal},
        journal::StopBy,
        wire::BoardEntry,
    };
    use std::time::Duration;

    fn inherited(words: &[bool], requests: u64) -> InheritedChild {
        let entry = words
            .iter()
            .fold(BoardEntry::of(7), |entry, &busy| entry.after(busy));
        InheritedChild {
            slot: 3,
            record: JournalRecord {
                phase: super::super::LifePhase::Lives,
                pid: 100,
                ..JournalRecord::forking(ChildId::new(3, 7), 2, false, Time::START)
            },
            notes: SlotNotes {
                entry,
                requests,
                ..SlotNotes::default()
            },
            pipes: [Some((5, 0)), Some((6, 0)), None],
        }
    }

    #[test]
    fn the_board_says_what_a_child_is_doing() {
        let now = Time::at(Duration::from_secs(9));
        for (words, requests, state) in [
            (&[][..], 0, State::Starting),
            (&[false], 0, State::Free),
            (&[false, true], 1, State::Busy),
            (&[false, true, false], 1, State::Free),
        ] {
            let state_of = inherited(words, requests).state(now);
            assert_eq!(state_of.state, Some(state), "{words:?}");
            assert_eq!((state_of.epoch, state_of.last_ack), (2, now));
            let flags = ChildFlags::from_bits_truncate(state_of.flags);
            assert_eq!(flags.contains(ChildFlags::HEARD), !words.is_empty());
            assert_eq!(flags.contains(ChildFlags::WAS_BUSY), requests > 0);
            let finished = requests > 0 && state == State::Free;
            assert_eq!(flags.contains(ChildFlags::FINISHED_ONE), finished);
        }
    }

    /// A slot may still have the notes of an earlier child, whose notes say nothing of this one.
    #[test]
    fn the_notes_of_another_child_count_for_nothing() {
        let mut inherited = inherited(&[], 5);
        inherited.notes.entry = BoardEntry::of(6).after(true);
        let state = inherited.state(Time::START);
        assert_eq!(state.state, Some(State::Starting));
        assert_eq!((state.noted_requests, state.seen), (0, None));
    }

    /// A program notes nothing: what it has said was received by the parent before.
    #[test]
    fn who_notes_nothing_is_as_the_parent_before_has_heard_it() {
        let now = Time::at(Duration::from_secs(9));
        let heard = ChildFlags::ACKED | ChildFlags::HEARD | ChildFlags::WAITED;
        for (flags, is_busy, state) in [
            (ChildFlags::empty(), false, State::Starting),
            (heard, false, State::Free),
            (heard | ChildFlags::WAS_BUSY, true, State::Busy),
        ] {
            let mut program = inherited(&[], 0);
            program.record.said = WordNotes {
                flags,
                is_busy,
                requests: 5,
            };
            program.record.stop_by = StopBy {
                signal: Signal::Terminate,
                group: Some(ToGroup::All),
            };
            let told = program.state(now);
            assert_eq!(told.state, Some(state));
            assert_eq!(told.busy_since, is_busy.then_some(now));
            assert_eq!((told.noted_requests, told.said_requests), (0, 5));
            assert!(ChildFlags::from_bits_truncate(told.flags).contains(flags));
            assert_eq!((told.group, told.stop_signal), (1, Some(Signal::Terminate)));
        }
    }

    #[test]
    fn a_reserved_child_stays_reserved() {
        let mut reserved = inherited(&[false], 0);
        reserved.record.reserved = true;
        assert_eq!(reserved.state(Time::START).state, Some(State::Reserved));
    }

    /// The journal says so, and the parent that takes it over reaps it like any other: its group
    /// may live on.
    #[test]
    fn a_dead_one_is_taken_over_as_if_it_lived() {
        let mut dead = inherited(&[false], 0);
        dead.record = dead.record.ended(Collected::default());
        dead.pipes[0] = Some((5, 12));
        let state = dead.state(Time::START);
        assert_eq!(state.end, None);
        assert_eq!(state.pipe(0).left, 12);
        let is_over = |inherited: &InheritedChild| {
            let flags = inherited.state(Time::START).flags;
            ChildFlags::from_bits_truncate(flags).contains(ChildFlags::REAPED)
        };
        assert!(is_over(&dead));
        dead.record.stop_by.group = Some(ToGroup::All);
        assert!(!is_over(&dead));
    }
}
