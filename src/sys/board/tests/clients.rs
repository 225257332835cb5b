//! How many connections a client has at all children.

use super::*;
use std::thread;

/// A connection counts for its client from the claim to its end, no matter who asks; the end of a
/// child ends it too.
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
    // There is no slot for it, so no other child sees its own.
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
    let claims = |slot: &BoardSlot| -> Vec<usize> {
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
