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
    /// one child does all the work, and is warm. Children wait in an epoll each.
    OldestFirst,
    /// The one that has been idle for the longest time, while connections come faster than one child
    /// serves them; else the oldest. Children wait in accept(2) itself then, which is the cheapest way.
    /// On Linux, on one socket that the server has opened itself; elsewhere this is as `OldestFirst`.
    InTurn,
}

impl AcceptOrder {
    /// Children who take turns are as many as this by default.
    const FEW: usize = 50;

    /// For a server that was not told.
    pub(super) fn choose(children: Option<usize>, max_requests: u64) -> Self {
        match children {
            Some(..=Self::FEW) if max_requests == 0 => Self::InTurn,
            _ => Self::OldestFirst,
        }
    }
}

/// Where an idle child waits, if it may take turns with others.
///
/// A wait in accept(2) wakes the child after a moment in which nothing came, so only a child that has had
/// short waits makes one; and only one that has found connections queued as well: for one client after
/// the other there is nothing better than the same child each time. Who waits in an epoll goes before all
/// those who wait in accept.
#[derive(Debug)]
pub(super) struct Stance {
    takes_turns: bool,
    in_line: bool,
    /// Waits in a row: outside of the line, those that were short; in it, those after none of which
    /// another connection was queued.
    waits: u32,
    /// Connections that were queued, between the waits that count.
    queued: u32,
}

impl Stance {
    /// How many waits have to be short before the child gets in line: a place in it that was taken in
    /// vain costs a wake-up.
    const SHORT: u32 = 8;
    /// And how many connections have to be found queued between them.
    const QUEUED: u32 = 2;
    /// After so many waits in line with nothing queued the child leaves it.
    const ALONE: u32 = 64;

    pub(super) fn new(takes_turns: bool) -> Self {
        Self {
            takes_turns,
            in_line: false,
            waits: 0,
            queued: 0,
        }
    }

    /// Whether the next wait is to be made in accept(2).
    pub(super) fn in_line(&self) -> bool {
        self.in_line
    }

    pub(super) fn takes_turns(&self) -> bool {
        self.takes_turns
    }

    /// A connection was there without a wait.
    pub(super) fn found_queued(&mut self) {
        self.queued += 1;
        if self.in_line {
            self.waits = 0;
        }
    }

    /// A wait outside of the line has ended with a connection. True if the child is to get in line.
    pub(super) fn woken(&mut self, after: Duration, short: Duration) -> bool {
        self.waits = if after < short { self.waits + 1 } else { 0 };
        if self.waits == 0 || self.waits >= Self::SHORT {
            self.in_line = self.takes_turns && self.waits > 0 && self.queued >= Self::QUEUED;
            (self.waits, self.queued) = (0, 0);
        }
        self.in_line
    }

    /// A wait in line has ended, with a connection or without.
    pub(super) fn waited_in_line(&mut self, connection: bool) {
        self.waits += 1;
        if !connection || self.waits >= Self::ALONE {
            *self = Self::new(self.takes_turns);
        }
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

    /// Serves so many connections that were waited for outside, each followed by so many that were queued.
    fn serve(stance: &mut Stance, waits: u32, each: Duration, queued: u32) {
        for _ in 0..waits {
            for _ in 0..queued {
                stance.found_queued();
            }
            stance.woken(each, SHORT);
        }
    }

    #[test]
    fn a_child_gets_in_line_when_its_waits_are_short_and_connections_queue() {
        let mut stance = Stance::new(true);
        serve(&mut stance, Stance::SHORT - 1, NEARLY, 1);
        assert!(!stance.in_line());
        serve(&mut stance, 1, SHORT, 1);
        assert!(!stance.in_line(), "a long one: counted anew");
        serve(&mut stance, Stance::SHORT - 1, Duration::ZERO, 1);
        assert!(!stance.in_line());
        serve(&mut stance, 1, Duration::ZERO, 0);
        assert!(stance.in_line());
    }

    #[test]
    fn a_single_client_never_has_children_get_in_line() {
        let mut stance = Stance::new(true);
        for _ in 0..100 {
            serve(&mut stance, Stance::SHORT, Duration::ZERO, 0);
            assert!(!stance.in_line());
            stance.found_queued();
        }
    }

    #[test]
    fn a_child_leaves_the_line_when_nothing_comes_or_nothing_queues() {
        let in_line = || {
            let mut stance = Stance::new(true);
            serve(&mut stance, Stance::SHORT, Duration::ZERO, 1);
            stance
        };
        let mut stance = in_line();
        stance.waited_in_line(true);
        assert!(stance.in_line());
        stance.waited_in_line(false);
        assert!(!stance.in_line());
        let mut stance = in_line();
        for _ in 0..1000 {
            for _ in 1..Stance::ALONE {
                stance.waited_in_line(true);
            }
            stance.found_queued();
        }
        assert!(stance.in_line());
        for _ in 0..Stance::ALONE {
            assert!(stance.in_line());
            stance.waited_in_line(true);
        }
        assert!(!stance.in_line());
        serve(&mut stance, Stance::SHORT, Duration::ZERO, 0);
        assert!(!stance.in_line(), "what had queued before is forgotten");
    }

    #[test]
    fn who_takes_no_turns_is_never_in_line() {
        let mut stance = Stance::new(false);
        serve(&mut stance, 100, Duration::ZERO, 1);
        assert!(!stance.in_line());
    }
}
