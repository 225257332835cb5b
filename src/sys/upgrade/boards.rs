//! The boards in a state: which are handed on, and how the next program maps them. A board that cannot
//! be mapped is left out: its children are known by their words alone.

use super::descriptors;
use crate::{
    core::{
        say::say,
        state::{BoardState, EncodedList, Snapshot},
    },
    sys::{
        board::{Board, EarlierBoard},
        cells,
        stop_board::{StopBoard, StopBoards},
    },
};
use std::{io, rc::Rc};

/// The boards on which the children of these slots note.
pub(crate) fn saved_boards(board: &Board, slots: &[usize]) -> Vec<BoardState> {
    let boards = board.in_use(slots).into_iter().enumerate();
    let saved = |(at, (fd, length, slots)): (usize, (i32, usize, Vec<usize>))| BoardState {
        fd: fd.cast_unsigned(),
        length: length as u64,
        // OK because a slot is a number of 32 bits.
        slots: EncodedList(slots.into_iter().map(|slot| slot as u32).collect()),
        metrics: EncodedList(cells::described()),
        own: EncodedList(if at == 0 {
            cells::own_words()
        } else {
            Vec::new()
        }),
    };
    boards.map(saved).collect()
}

/// Maps the boards of the programs before this one.
pub(crate) fn adopt_boards(board: &mut Board, states: &[BoardState]) {
    let mut mapped = Vec::new();
    for state in states {
        match map(state) {
            Ok(earlier) => {
                let slots = state.slots.0.iter().map(|slot| *slot as usize);
                mapped.push((earlier, slots.collect()));
            }
            Err(error) => say!(
                Warn,
                "what the children of the program before note is not read: {error}"
            ),
        }
    }
    let own = states.first().map(|state| state.own.0.as_slice());
    board.adopt(mapped, own.unwrap_or_default());
}

/// The boards by which children of the programs before this one are told to stop, by the descriptors in
/// the state.
pub(crate) fn adopt_stop_boards(state: &Snapshot) -> StopBoards {
    let board = |fd: u32| match descriptors::duplicate(fd).and_then(StopBoard::adopted) {
        Ok(board) => Some((fd, Rc::new(board))),
        Err(error) => {
            say!(Warn, "children are told to stop by signals alone: {error}");
            None
        }
    };
    state.stop_boards().into_iter().filter_map(board).collect()
}

/// By a duplicate: the program before may come back.
fn map(state: &BoardState) -> io::Result<EarlierBoard> {
    let file = descriptors::duplicate(state.fd)?;
    EarlierBoard::map(file, state.length, cells::agrees(&state.metrics.0))
}
