//! Words that a child leaves to the board, in every order of its steps and the parent's: none is lost.

use super::*;

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
