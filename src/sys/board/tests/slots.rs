//! What a slot holds: of the connection in hand, of the time in the queue, of the program's metrics.

use super::*;
use crate::core::board::{Description, SlotNotes, View};
use std::{array, thread};

/// What children have counted of the queue stays when they end, and impossible numbers of one are
/// left out.
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
    assert_eq!(neighbours, [SlotNotes::default(); 3]);
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

/// A reader that looks while the texts change sees one of them, and no mixture.
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
    let layout = BoardLayout::parse(&header, board.view.layout.length());
    assert_eq!(layout, Ok(board.view.layout));
    assert_eq!(board.view.layout.slots(), 7);
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
            let crate::core::time_limits::InHand {
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
