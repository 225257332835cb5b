//! What children note and the parent finds, in one process and between threads: here, when a child
//! prints a word and when it leaves it to the board.

mod clients;
mod orders;
mod slots;

use super::*;
use crate::core::{
    config::CommChannel,
    inbox::Inbox,
    system::ChildPipe,
    time::Time,
    wire::{CommWords, Word},
};
use std::{collections::BTreeMap, time::Duration};

/// A board and the inboxes of its children, in which entries are compared.
struct Scoreboard {
    board: Board,
    inboxes: BTreeMap<usize, Inbox>,
}

impl Scoreboard {
    fn new(children: usize) -> io::Result<Self> {
        Ok(Self {
            board: Board::new(children, 0)?,
            inboxes: BTreeMap::new(),
        })
    }

    fn enter(&mut self, child: ChildId) {
        // Nothing is forked here, so nothing need be lent.
        let on_board = self.board.prepare(child).is_some();
        let inbox = Inbox::new(child, CommWords::CONTROL, CommChannel::Stdout, on_board);
        self.inboxes.insert(child.slot(), inbox);
    }

    /// The same without a look at what the slot held before, for tests that do so very often.
    fn enter_quickly(&mut self, child: ChildId) {
        let words = self.board.view.memory.owners_words();
        let start = self.board.view.layout.offset(child.slot()).unwrap() / size_of::<AtomicU64>();
        words[start + ENTRY_AT].store(BoardEntry::of(child.serial()).bits(), SeqCst);
        let inbox = Inbox::new(child, CommWords::CONTROL, CommChannel::Stdout, true);
        self.inboxes.insert(child.slot(), inbox);
    }

    fn leave(&mut self, child: ChildId) {
        self.board.close(child.slot());
        self.inboxes.remove(&child.slot());
    }

    /// The parent reads a word for a child's state from its pipe.
    fn printed(&mut self, child: ChildId) {
        if let Some(inbox) = self.inboxes.get_mut(&child.slot()) {
            inbox.feed(ChildPipe::Stdout, b"\n\x13\n", |_| {});
        }
    }

    fn to_look_at(&self) -> Vec<usize> {
        let slots = self.inboxes.iter();
        slots
            .filter(|(slot, inbox)| inbox.is_to_be_compared(self.board.view().entry(**slot)))
            .map(|(slot, _)| *slot)
            .collect()
    }

    fn changes(&mut self, child: ChildId, believed: bool) -> &'static [Word] {
        let entry = self.board.view().entry(child.slot());
        match self.inboxes.get_mut(&child.slot()) {
            Some(inbox) if inbox.is_of(child) => inbox.compare(entry, believed),
            _ => &[],
        }
    }

    fn slot(&self, child: ChildId) -> BoardSlot {
        self.board.slot(child)
    }

    fn set_will_look(&self) {
        self.board.set_will_look();
    }

    fn clear_will_look(&self) {
        self.board.clear_will_look();
    }
}

fn child(slot: u32, serial: u32) -> ChildId {
    ChildId::new(slot, serial)
}

#[test]
fn a_child_prints_unless_the_parent_is_going_to_look() {
    let mut board = Scoreboard::new(2).unwrap();
    board.enter(child(1, 5));
    let slot = board.slot(child(1, 5));
    assert!(!slot.note(true));
    board.set_will_look();
    assert!(slot.note(false));
    assert!(slot.note(true));
    board.clear_will_look();
    assert!(!slot.note(false));
}

#[test]
fn what_was_noted_is_found_once() {
    let mut board = Scoreboard::new(3).unwrap();
    let [one, two] = [child(0, 1), child(2, 2)];
    for child in [one, two] {
        board.enter(child);
    }
    assert_eq!(board.to_look_at(), [0; 0]);
    assert_eq!(board.changes(one, false), []);
    board.slot(two).note(true);
    assert_eq!(board.to_look_at(), [2]);
    assert_eq!(board.changes(two, false), [Word::Busy]);
    assert_eq!(board.changes(two, true), []);
    assert_eq!(board.to_look_at(), [0; 0]);
    board.slot(two).note(false);
    board.printed(two);
    assert_eq!(
        board.changes(two, false),
        [],
        "the pipe has brought the word"
    );
    assert_eq!(
        board.changes(two, true),
        [],
        "a printed word is compared once"
    );
}

/// A copy that a child has made of itself says nothing for its successor, and does not rely on
/// WILL_LOOK.
#[test]
fn whoever_has_outlived_its_place_has_to_print() {
    let mut board = Scoreboard::new(1).unwrap();
    board.enter(child(0, 1));
    let copy = board.slot(child(0, 1));
    board.set_will_look();
    assert!(copy.note(true));
    board.leave(child(0, 1));
    assert!(!copy.note(false));
    board.enter(child(0, 2));
    assert!(!copy.note(true));
    assert_eq!(board.changes(child(0, 2), false), []);
    // A stale name does not find the successor's entry either.
    board.slot(child(0, 2)).note(true);
    assert_eq!(board.changes(child(0, 1), false), []);
    assert_eq!(board.changes(child(0, 2), false), [Word::Busy]);
}

/// WILL_LOOK of a parent that was killed does not keep children silent.
#[test]
fn now_and_then_a_child_prints_all_the_same() {
    let mut board = Scoreboard::new(1).unwrap();
    board.enter(child(0, 1));
    board.set_will_look();
    let slot = board.slot(child(0, 1));
    let printed = (0..640).filter(|word| !slot.note(word % 2 == 0)).count();
    assert_eq!(printed, 10);
}

/// Covers children beyond the board, as when `max_clients` was raised while the server runs.
#[test]
fn more_children_than_there_are_entries_print() {
    let mut board = Scoreboard::new(1).unwrap();
    board.enter(child(1, 1));
    board.set_will_look();
    assert!(!board.slot(child(1, 1)).note(true));
    assert_eq!(board.to_look_at(), [0; 0]);
    board.printed(child(1, 1));
    assert_eq!(board.changes(child(1, 1), false), []);
    board.leave(child(1, 1));
}

#[test]
fn a_board_that_cannot_be_is_an_error() {
    for children in [usize::MAX, usize::MAX / 4096, isize::MAX as usize / 4096] {
        assert!(Scoreboard::new(children).is_err());
    }
}

/// A child that writes to a wrong address neither silences other children nor changes their states.
#[test]
fn a_scribbled_board_is_no_promise_and_no_word() {
    let mut board = Scoreboard::new(1).unwrap();
    board.enter(child(0, 1));
    let slot = board.slot(child(0, 1));
    for scribble in [1, u64::MAX, WILL_LOOK >> 8, 0x4141_4141_4141_4141] {
        board.board.view.memory.owners_words()[WILL_LOOK_AT].store(scribble, SeqCst);
        assert!(!slot.note(true));
    }
    board.set_will_look();
    slot.words().unwrap()[ENTRY_AT].store(u64::MAX, SeqCst);
    assert_eq!(board.changes(child(0, 1), false), []);
    assert!(!slot.note(false), "the entry is no longer its own");
}

fn at(seconds: u64) -> Time {
    Time::at(Duration::from_secs(seconds))
}
