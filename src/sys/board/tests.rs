//! What children note and the parent finds, in one process and between threads.

use super::*;
use crate::core::{
    board::{Description, Notes, View},
    inbox::Inbox,
    system::Pipe,
    time::Time,
    wire::{CommWords, Word},
};
use std::{array, collections::BTreeMap, thread, time::Duration};

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
        let inbox = Inbox::new(child, CommWords::CONTROL, false, on_board);
        self.inboxes.insert(child.slot(), inbox);
    }

    /// The same without a look at what the slot held before, for tests that do so very often.
    fn enter_quickly(&mut self, child: ChildId) {
        let words = self.board.view.memory.owners_words();
        let start = self.board.view.layout.offset(child.slot()).unwrap() / size_of::<AtomicU64>();
        words[start + ENTRY_AT].store(Entry::of(child.serial()).bits(), SeqCst);
        let inbox = Inbox::new(child, CommWords::CONTROL, false, true);
        self.inboxes.insert(child.slot(), inbox);
    }

    fn leave(&mut self, child: ChildId) {
        self.board.close(child.slot());
        self.inboxes.remove(&child.slot());
    }

    /// The parent reads a word for a child's state from its pipe.
    fn printed(&mut self, child: ChildId) {
        if let Some(inbox) = self.inboxes.get_mut(&child.slot()) {
            inbox.feed(Pipe::Stdout, b"\n\x13\n", |_| {});
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

    fn slot(&self, child: ChildId) -> Slot {
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

/// What children have counted of the queue stays when they end, and nonsense of one is left out.
#[test]
fn times_in_the_queue_are_those_of_all_children() {
    let mut board = Scoreboard::new(2).unwrap();
    let counts = |board: &Scoreboard| {
        let found = board.board.view.queue_times().distributions();
        found.iter().map(|times| times.count()).collect::<Vec<_>>()
    };
    for serial in 1..=3 {
        board.enter(child(1, serial));
        let slot = board.slot(child(1, serial));
        slot.count_queued(0, Duration::from_millis(8));
        slot.count_queued(1, Duration::from_secs(3));
        assert_eq!(counts(&board), [u64::from(serial); 2], "while it lives");
        board.board.close(1);
        slot.count_queued(0, Duration::ZERO);
        assert_eq!(counts(&board), [u64::from(serial); 2], "after its end");
    }
    board.enter(child(1, 4));
    let slot = board.slot(child(1, 4));
    for word in &slot.words().unwrap()[QUEUE_TIMES_AT..ROW_AT] {
        word.store(u64::MAX, Relaxed);
    }
    assert_eq!(counts(&board), [3, 3]);
    board.board.close(1);
    assert_eq!(counts(&board), [3, 3]);
}

/// What a child notes of a connection is seen, and nothing of it is left for the child's successor.
#[test]
fn a_slot_tells_of_the_connection_in_hand() {
    let mut board = Scoreboard::new(3).unwrap();
    board.enter(child(1, 5));
    let slot = board.slot(child(1, 5));
    let peer = "192.0.2.1:4711".parse().unwrap();
    slot.begin(at(3), Some(peer));
    slot.note_queued(Duration::from_millis(40));
    slot.extend(at(60));
    slot.note_text("GET /");
    slot.note_due();
    let notes = board.board.view.notes(1, at(5));
    assert!(notes.entry.is_of(5));
    assert_eq!((notes.requests, notes.due), (1, true));
    assert_eq!(
        (notes.since, notes.extended_until),
        (Some(at(3)), Some(at(60)))
    );
    assert_eq!(notes.queued, Some(Duration::from_millis(40)));
    let description = board.board.view.description(1).unwrap();
    assert_eq!(
        (description.peer, &*description.text),
        (Some(peer), "GET /")
    );

    slot.note_busy_since(|| panic!("it is noted already"));
    slot.end();
    assert_eq!(board.board.view.notes(1, at(5)).since, None);
    slot.note_busy_since(|| at(5));
    assert_eq!(board.board.view.notes(1, at(5)).since, Some(at(5)));
    slot.begin(at(6), None);
    let notes = board.board.view.notes(1, at(7));
    assert_eq!((notes.requests, notes.due), (2, true));
    assert_eq!(
        (notes.since, notes.extended_until, notes.queued),
        (Some(at(6)), None, None)
    );
    assert_eq!(
        board.board.view.description(1),
        Some(Description::default())
    );

    board.enter(child(1, 6));
    slot.begin(at(8), Some(peer));
    slot.note_due();
    let notes = board.board.view.notes(1, at(9));
    assert_eq!((notes.requests, notes.since, notes.due), (0, None, false));
    let neighbours = [0, 2, 3].map(|slot| board.board.view.notes(slot, at(9)));
    assert_eq!(neighbours, [Notes::default(); 3]);
}

/// What a child has counted stays when the next child gets the slot, and is counted once.
#[test]
fn what_a_child_has_counted_outlives_it() {
    let mut board = Scoreboard::new(2).unwrap();
    let counted = |board: &Scoreboard| {
        let numbers = board.board.view.numbers();
        numbers.words().collect::<Vec<_>>()
    };
    let last = ROW_AT + NUMBERS - 1;
    cells::declare(|schema| schema.counter("anything")).unwrap();
    board.enter(child(0, 1));
    board.enter(child(1, 2));
    for (slot, at, word) in [
        (0, ROW_AT, 5),
        (0, OTHERS_AT, 7),
        (1, ROW_AT, 11),
        (1, last, 1.5_f64.to_bits()),
    ] {
        let slot = board.slot(child(slot, slot + 1));
        slot.words().unwrap()[at].store(word, Relaxed);
    }
    let before = counted(&board);
    assert_eq!((before[0], before[NUMBERS - 1]), (23, 1.5_f64.to_bits()));
    board.leave(child(0, 1));
    assert_eq!(counted(&board), before);
    board.enter(child(0, 3));
    assert_eq!(counted(&board), before);
    // The end of the last child may not have been noted.
    board.enter(child(1, 4));
    assert_eq!(counted(&board), before);
}

/// What a child has scribbled over its numbers is in no sum, before its end and after it.
#[test]
fn a_scribbled_row_is_in_no_sum() {
    let mut board = Scoreboard::new(2).unwrap();
    let words = |board: &Scoreboard| board.board.view.numbers().words().collect::<Vec<_>>();
    cells::declare(|schema| schema.counter("anything")).unwrap();
    board.enter(child(0, 1));
    board.enter(child(1, 2));
    let honest = board.slot(child(1, 2));
    honest.words().unwrap()[ROW_AT].store(3, Relaxed);
    let before = words(&board);
    let scribbler = board.slot(child(0, 1));
    for word in &scribbler.words().unwrap()[ROW_AT..] {
        word.store(0x4141_4141_4141_4141, Relaxed);
    }
    assert_eq!(words(&board), before, "while it lives");
    board.leave(child(0, 1));
    assert_eq!(words(&board), before, "after its end");
    honest.words().unwrap()[ROW_AT].store(4, Relaxed);
    assert_eq!(words(&board)[0], before[0] + 1);
}

/// A child that was killed while it changed its description leaves none.
#[test]
fn a_description_is_whole_or_none() {
    let mut board = Scoreboard::new(1).unwrap();
    board.enter(child(0, 1));
    let slot = board.slot(child(0, 1));
    let mut seen = Some(Description::default());
    slot.describe(slot.words().unwrap(), || {
        seen = board.board.view.description(0)
    });
    assert_eq!(seen, None);
    slot.note_text("after that");
    assert_eq!(board.board.view.description(0).unwrap().text, "after that");
}

/// Whoever looks while the texts change sees one of them, and no mixture.
#[test]
fn no_description_is_a_mixture() {
    let mut board = Scoreboard::new(1).unwrap();
    board.enter(child(0, 1));
    let slot = board.slot(child(0, 1));
    let texts = ["a".repeat(100), "b".repeat(120)];
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..20_000 {
                slot.note_text(&texts[round % 2]);
            }
        });
        while !writer.is_finished() {
            if let Some(Description { text, .. }) = board.board.view.description(0) {
                assert!(text.is_empty() || texts.contains(&text), "{text}");
            }
        }
    });
}

/// Another program finds by the header what it reads.
#[test]
fn the_header_says_what_it_is() {
    let board = Board::new(7, 1234).unwrap();
    let header = array::from_fn(|at| board.view.memory.words()[at].load(Relaxed));
    let layout = Layout::parse(&header, board.view.layout.length());
    assert_eq!(layout, Ok(board.view.layout));
    assert_eq!(board.view.layout.slots(), 7);
}

/// A model of the parent's loop, a step at a time, with what it knows of its one child.
struct ParentModel<'a> {
    board: &'a mut Scoreboard,
    child: ChildId,
    /// For each turn, whether it lets words pile up afterwards; after the last one it does not.
    piles: u32,
    step: ParentStep,
    /// Whether the poller has reported the pipe in this turn.
    ready: bool,
    /// The words heard in this turn.
    words: usize,
    /// Whether WILL_LOOK was set since the last look.
    to_look: bool,
    believes: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ParentStep {
    /// The parent waits for words to pile up.
    Piling,
    /// The parent asks the poller; if it has nothing to look at, it sleeps there.
    Polling,
    Reading,
    Looking,
}

/// The words in the pipe, and whether the edge-triggered poller has yet to report it.
#[derive(Default)]
struct Queued {
    words: Vec<bool>,
    edge: bool,
}

impl<'a> ParentModel<'a> {
    fn new(board: &'a mut Scoreboard, child: ChildId, piles: u32) -> Self {
        board.enter_quickly(child);
        board.clear_will_look();
        Self {
            board,
            child,
            piles,
            step: ParentStep::Polling,
            ready: false,
            words: 0,
            to_look: false,
            believes: false,
        }
    }

    /// False if the parent sleeps.
    fn step(&mut self, pipe: &mut Queued) -> bool {
        self.step = match self.step {
            ParentStep::Piling => {
                self.board.clear_will_look();
                ParentStep::Polling
            }
            ParentStep::Polling => {
                if !self.to_look && !pipe.edge {
                    return false;
                }
                self.ready = std::mem::take(&mut pipe.edge);
                self.words = 0;
                ParentStep::Reading
            }
            ParentStep::Reading => {
                if std::mem::take(&mut self.ready) {
                    for busy in pipe.words.drain(..) {
                        self.believes = busy;
                        self.board.printed(self.child);
                        self.words += 1;
                    }
                }
                ParentStep::Looking
            }
            ParentStep::Looking => {
                if std::mem::take(&mut self.to_look) {
                    let changes = self.board.changes(self.child, self.believes);
                    if let Some(&word) = changes.last() {
                        self.believes = word == Word::Busy;
                        self.words += changes.len();
                    }
                }
                let piles = self.piles & 1 == 1;
                self.piles >>= 1;
                if self.words == 0 || !piles {
                    ParentStep::Polling
                } else {
                    self.board.set_will_look();
                    self.to_look = true;
                    ParentStep::Piling
                }
            }
        };
        true
    }
}

/// In every order of the steps of both: once the child rests and the parent sleeps, the parent
/// knows the child's state. (It fails if printed words are not compared with the entry, if
/// WILL_LOOK is cleared after the poller was asked, or if WILL_LOOK is read before the entry is
/// written.)
#[test]
fn in_no_order_of_steps_is_a_word_lost() {
    let mut board = Scoreboard::new(1).unwrap();
    let mut silent = 0;
    for (piles, aloud) in [
        (0b1, 9),
        (0b11, 9),
        (0b101, 9),
        (0b111, 9),
        (0b111, 1),
        (0b111, 2),
    ] {
        for order in 0..1_u32 << STEPS {
            let child = child(0, order + 1);
            silent += in_this_order(ParentModel::new(&mut board, child, piles), order, aloud);
        }
    }
    assert!(silent > 0, "no word was left to the board");
}

/// The steps of both in every order. When one side has finished, the other takes its remaining
/// steps.
const STEPS: u32 = 17;

/// How many words the child did not print. Word number `aloud` is printed in any case.
fn in_this_order(mut parent: ParentModel<'_>, order: u32, aloud: u32) -> u32 {
    const WORDS: u32 = 4;
    let slot = parent.board.slot(parent.child);
    let mut pipe = Queued::default();
    let mut silent = 0;
    // Three steps a word: note it, read WILL_LOOK, print it.
    let (mut said, mut at, mut unprinted) = (0, 0, false);
    let mut child_steps = |pipe: &mut Queued| {
        let busy = said % 2 == 0;
        match at {
            0 => assert!(slot.write(busy).is_some()),
            1 => unprinted = slot.will_look() && said != aloud,
            _ if unprinted => silent += 1,
            _ => {
                pipe.words.push(busy);
                pipe.edge = true;
            }
        }
        at = (at + 1) % 3;
        said += u32::from(at == 0);
        said < WORDS
    };
    let mut goes_on = true;
    for turn in 0..STEPS {
        if order >> turn & 1 == 0 && goes_on {
            goes_on = child_steps(&mut pipe);
        } else {
            parent.step(&mut pipe);
        }
    }
    while goes_on {
        goes_on = child_steps(&mut pipe);
    }
    while parent.step(&mut pipe) {}
    assert!(
        !parent.believes,
        "after the last word, in the order {order:017b}"
    );
    silent
}

/// A parent that has seen an extension never loses it while the connection goes on: it would end a
/// child too early. (It fails if the extension is cleared before the next connection is noted.)
#[test]
fn an_extension_holds_as_long_as_its_connection() {
    const CONNECTIONS: u64 = 200_000;
    let mut board = Scoreboard::new(1).unwrap();
    board.enter(child(0, 1));
    let slot = board.slot(child(0, 1));
    let nanosecond = |number| Time::at(Duration::from_nanos(number));
    let view = &board.board.view;
    std::thread::scope(|scope| {
        let child = scope.spawn(move || {
            for number in 1..=CONNECTIONS {
                slot.begin(nanosecond(number), None);
                slot.extend(nanosecond(CONNECTIONS + number));
            }
        });
        let mut extended = None;
        while !child.is_finished() {
            let crate::core::clocks::InHand {
                since,
                extended_until,
            } = view.notes(0, at(1)).in_hand();
            let own = since.map(|since| since + Duration::from_nanos(CONNECTIONS));
            if since.is_some() && since == extended {
                assert_eq!(extended_until, own, "{since:?}");
            }
            extended = since.filter(|_| extended_until == own);
        }
    });
}

/// A connection counts for its client from the claim to its end, whoever asks; the end of a child ends
/// it too.
#[test]
fn connections_of_a_client_are_counted_over_all_children() {
    let mut board = Board::new(3, 0).unwrap();
    let client = |number| std::num::NonZeroU64::new(number).unwrap();
    let slots: Vec<_> = (0..4)
        .map(|number| {
            let child = ChildId::new(number, 1);
            board.open(child);
            board.slot(child)
        })
        .collect();
    assert_eq!(slots[0].claim(client(7)), 1);
    assert_eq!(slots[1].claim(client(8)), 1);
    assert_eq!(slots[2].claim(client(7)), 2);
    assert_eq!(slots[2].claim(client(7)), 2, "it is still one connection");
    // There is no slot for it, so nobody sees its own.
    assert_eq!(
        (slots[3].claim(client(7)), slots[3].claim(client(9))),
        (3, 1)
    );
    slots[2].end();
    assert_eq!(slots[1].claim(client(7)), 2);
    board.close(0);
    assert_eq!(slots[1].claim(client(7)), 1);
    assert_eq!(
        slots[0].claim(client(7)),
        2,
        "a copy of a child that has ended"
    );
}

/// Two children that take a connection of the same client at the same time: at least one sees both, or
/// the client would have one more than it may.
#[test]
fn of_two_that_claim_at_once_one_sees_both() {
    const ROUNDS: usize = 20_000;
    let mut board = Board::new(2, 0).unwrap();
    let slots = [0, 1].map(|number| {
        let child = ChildId::new(number, 1);
        board.open(child);
        board.slot(child)
    });
    let client = std::num::NonZeroU64::MIN;
    // How many steps both have done: each waits for the other before a claim and after it.
    let steps = std::sync::atomic::AtomicUsize::new(0);
    let together = |step: usize| {
        steps.fetch_add(1, SeqCst);
        while steps.load(SeqCst) < 2 * step {
            thread::yield_now();
        }
    };
    let claims = |slot: &Slot| -> Vec<usize> {
        let claim = |round| {
            together(3 * round + 1);
            let found = slot.claim(client);
            together(3 * round + 2);
            slot.end();
            together(3 * round + 3);
            found
        };
        (0..ROUNDS).map(claim).collect()
    };
    let [first, second] = thread::scope(|scope| {
        let both = slots.each_ref().map(|slot| scope.spawn(|| claims(slot)));
        both.map(|it| it.join().unwrap())
    });
    let blind = first.iter().zip(&second).filter(|(a, b)| **a + **b < 3);
    assert_eq!(blind.count(), 0);
}
