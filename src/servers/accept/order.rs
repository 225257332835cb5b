//! Which of the idle children gets the next connection, and where a child waits for that to be so.
//! Decides; waits for nothing.

use std::time::Duration;

/// Which of the children that are idle gets the next connection. The kernel hands them out; what a
/// server chooses is where its children wait.
///
/// The stock servers choose by themselves, at the start, unless they are told: in turn where there are few children
/// (`max_clients` up to 50) that have no limit of connections (`max_requests` 0), the oldest first
/// otherwise. Children that take turns reach a limit all at the same time, and many of them find
/// nothing in the processor's caches when their turn comes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AcceptOrder {
    /// The oldest, or nearly so (one that was busy for long goes behind the others): under a light load
    /// one child does all the work, and is warm. Children wait in an epoll each; one that has found a queue,
    /// or was woken in vain, waits a moment in accept(2) first.
    OldestFirst,
    /// The one that has been idle for the longest time, while connections keep coming; in a lull the
    /// oldest. Children wait in accept(2) itself, which is the cheapest way. On Linux, on one socket
    /// that the server has opened itself; elsewhere this is as `OldestFirst`.
    InTurn,
}

impl AcceptOrder {
    /// Children who take turns are as many as this by default.
    const FEW: usize = 50;

    /// For a server that was not told.
    pub(in crate::servers) fn choose(children: Option<usize>, max_requests: u64) -> Self {
        match children {
            Some(..=Self::FEW) if max_requests == 0 => Self::InTurn,
            _ => Self::OldestFirst,
        }
    }
}

/// Where an idle child waits, if it may take turns with others.
///
/// A wait in accept(2) wakes the child after a moment in which nothing came, so only a child that has
/// had short waits makes one. Who waits in an epoll goes before all those who wait in accept.
#[derive(Debug)]
pub(super) struct Stance {
    takes_turns: bool,
    in_line: bool,
    /// Waits that were short, one after the other.
    short: u32,
}

impl Stance {
    /// How often a wait has to be short before the child gets in line: a place in it that was taken in
    /// vain costs a wake-up.
    const OFTEN: u32 = 8;

    pub(super) fn new(takes_turns: bool) -> Self {
        Self {
            takes_turns,
            in_line: false,
            short: 0,
        }
    }

    /// Whether the next wait is to be made in accept(2).
    pub(super) fn in_line(&self) -> bool {
        self.in_line
    }

    /// A wait outside of the line has ended with a connection. True if the child is to get in line.
    pub(super) fn woken(&mut self, after: Duration, short: Duration) -> bool {
        self.short = if after < short { self.short + 1 } else { 0 };
        if self.takes_turns && self.short >= Self::OFTEN {
            self.in_line = true;
            self.short = 0;
        }
        self.in_line
    }

    /// A wait in line has ended without a connection.
    pub(super) fn leave(&mut self) {
        self.in_line = false;
        self.short = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const NEARLY: Duration = Duration::from_millis(19);

    #[test]
    fn few_children_without_a_limit_take_turns() {
        use AcceptOrder::{InTurn, OldestFirst};
        assert_eq!(AcceptOrder::choose(Some(50), 0), InTurn);
        assert_eq!(AcceptOrder::choose(Some(51), 0), OldestFirst);
        assert_eq!(AcceptOrder::choose(Some(50), 25), OldestFirst);
        assert_eq!(AcceptOrder::choose(None, 0), OldestFirst, "who knows");
    }

    #[test]
    fn a_child_gets_in_line_when_its_waits_are_short_and_leaves_when_nothing_comes() {
        let mut stance = Stance::new(true);
        for _ in 0..3 {
            for _ in 1..Stance::OFTEN {
                assert!(!stance.woken(NEARLY, SHORT));
            }
            assert!(!stance.woken(SHORT, SHORT), "a long one: counted anew");
            for _ in 1..Stance::OFTEN {
                assert!(!stance.woken(Duration::ZERO, SHORT));
            }
            assert!(!stance.in_line());
            assert!(stance.woken(Duration::ZERO, SHORT));
            assert!(stance.in_line());
            stance.leave();
            assert!(!stance.in_line());
        }
    }

    #[test]
    fn who_takes_no_turns_is_never_in_line() {
        let mut stance = Stance::new(false);
        for _ in 0..100 {
            assert!(!stance.woken(Duration::ZERO, SHORT));
        }
        assert!(!stance.in_line());
    }
}
