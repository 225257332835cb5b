//! What a new parent takes over of one child, from its record in the journal, its notes on the board
//! and its pipes. What only the parent before knew is taken at its default.

use super::Record;
use crate::core::{
    board::Notes,
    child::{Flags, State},
    inbox::save_end,
    state::{ChildState, List, PipeState, SeenState},
    system::ToGroup,
    time::Time,
};

/// A child of a parent that is gone.
#[derive(Clone, Debug)]
pub(crate) struct Heir {
    pub(crate) slot: u32,
    pub(crate) record: Record,
    pub(crate) notes: Notes,
    /// The descriptors of its pipes, and how much is in each.
    pub(crate) pipes: [Option<(u32, u64)>; 3],
    /// Which signals go to the process group that it leads, if it leads one.
    pub(crate) group: Option<ToGroup>,
    pub(crate) stop_signal: crate::core::child::Signal,
}

impl Heir {
    /// Its state for a parent that takes over now.
    pub(crate) fn state(&self, now: Time) -> ChildState {
        let Record {
            serial,
            pid,
            epoch,
            forked_at,
            ref end,
            ..
        } = self.record;
        ChildState {
            slot: self.slot,
            serial,
            pid,
            epoch,
            state: Some(self.believed()),
            flags: self.flags().bits(),
            start_time: forked_at,
            // Its silence counts from now on: what it has said to nobody is no silence.
            last_ack: now,
            busy_since: self.own_notes().and_then(|notes| notes.since),
            noted_requests: self.requests(),
            told_requests: self.requests(),
            pipes: List(self.pipes.map(pipe_state).to_vec()),
            seen: Some(SeenState {
                entry: self.notes.entry.bits(),
                printed: 0,
            })
            .filter(|_| self.own_notes().is_some()),
            group: match self.group {
                None => 0,
                Some(ToGroup::All) => 1,
                Some(ToGroup::Kill) => 2,
            },
            stop_signal: Some(self.stop_signal),
            end: end.as_ref().map(save_end),
            ..ChildState::default()
        }
    }

    /// The notes, if they are those of this child.
    fn own_notes(&self) -> Option<&Notes> {
        Some(&self.notes).filter(|notes| notes.entry.is_of(self.record.serial))
    }

    fn has_spoken(&self) -> bool {
        self.own_notes()
            .is_some_and(|notes| notes.entry.has_spoken())
    }

    fn is_busy(&self) -> bool {
        self.has_spoken() && self.notes.entry.is_busy()
    }

    fn requests(&self) -> u64 {
        self.own_notes().map_or(0, |notes| notes.requests)
    }

    fn believed(&self) -> State {
        match (self.record.reserved, self.has_spoken(), self.is_busy()) {
            (true, ..) => State::Reserved,
            (_, false, _) => State::Starting,
            (_, _, true) => State::Busy,
            (_, _, false) => State::Free,
        }
    }

    fn flags(&self) -> Flags {
        let mut flags = Flags::empty();
        flags.set(Flags::STDOUT_OPEN, self.pipes[0].is_some());
        flags.set(Flags::STDERR_OPEN, self.pipes[1].is_some());
        if self.has_spoken() {
            flags |= Flags::ACKED | Flags::HEARD | Flags::READY | Flags::WAITED;
        }
        flags.set(Flags::WAS_BUSY, self.requests() > 0);
        let finished = self.requests() > u64::from(self.is_busy());
        flags.set(Flags::FINISHED_ONE, finished);
        flags.set(Flags::REAPED, self.record.end.is_some());
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
        wire::Entry,
    };
    use std::time::Duration;

    fn heir(words: &[bool], requests: u64) -> Heir {
        let entry = words
            .iter()
            .fold(Entry::of(7), |entry, &busy| entry.after(busy));
        Heir {
            slot: 3,
            record: Record {
                phase: super::super::Phase::Lives,
                pid: 100,
                ..Record::forking(ChildId::new(3, 7), 2, false, Time::START)
            },
            notes: Notes {
                entry,
                requests,
                ..Notes::default()
            },
            pipes: [Some((5, 0)), Some((6, 0)), None],
            group: None,
            stop_signal: Signal::Interrupt,
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
            let state_of = heir(words, requests).state(now);
            assert_eq!(state_of.state, Some(state), "{words:?}");
            assert_eq!((state_of.epoch, state_of.last_ack), (2, now));
            let flags = Flags::from_bits_truncate(state_of.flags);
            assert_eq!(flags.contains(Flags::HEARD), !words.is_empty());
            assert_eq!(flags.contains(Flags::WAS_BUSY), requests > 0);
            let finished = requests > 0 && state == State::Free;
            assert_eq!(flags.contains(Flags::FINISHED_ONE), finished);
        }
    }

    /// A slot may still have the notes of an earlier child, whose notes say nothing of this one.
    #[test]
    fn the_notes_of_another_child_count_for_nothing() {
        let mut heir = heir(&[], 5);
        heir.notes.entry = Entry::of(6).after(true);
        let state = heir.state(Time::START);
        assert_eq!(state.state, Some(State::Starting));
        assert_eq!((state.noted_requests, state.seen), (0, None));
    }

    #[test]
    fn a_reserved_child_stays_reserved_and_a_dead_one_is_known_as_dead() {
        let mut reserved = heir(&[false], 0);
        reserved.record.reserved = true;
        assert_eq!(reserved.state(Time::START).state, Some(State::Reserved));
        let mut dead = heir(&[false], 0);
        dead.record = dead.record.ended(Collected::default());
        dead.pipes[0] = Some((5, 12));
        let state = dead.state(Time::START);
        assert!(state.end.is_some());
        assert_eq!(state.pipe(0).left, 12);
        assert!(Flags::from_bits_truncate(state.flags).contains(Flags::REAPED));
    }
}
