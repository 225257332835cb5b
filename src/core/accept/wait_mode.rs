//! Where an idle child waits: in an epoll, or in accept(2) itself. Decides; waits for nothing.

use super::Wakeups;
use std::time::Duration;

/// Where an idle child makes its next wait.
///
/// A wait in accept(2) ends after a short time without a connection, so a child waits there only
/// after several short waits in its epoll. The kernel wakes children that wait in an epoll first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WaitMode {
    /// In its epoll, always.
    Epoll,
    /// In its epoll; this many waits in a row were short.
    Counting(u32),
    /// In accept(2), in turn with the others.
    Accept,
}

impl WaitMode {
    /// How many waits in a row must be short before the child waits in accept(2).
    ///
    /// A wait there that ends without a connection costs a wake-up.
    const OFTEN: u32 = 8;

    pub(super) fn new(takes_turns: bool) -> Self {
        if takes_turns {
            Self::Counting(0)
        } else {
            Self::Epoll
        }
    }

    pub(super) fn is_in_accept(self) -> bool {
        self == Self::Accept
    }

    /// Who is to be woken for the connections after one for which this child was woken: the kernel wakes
    /// a child that stays in its epoll before the children that take turns.
    pub(super) fn wakeups(self) -> Wakeups {
        if self.is_in_accept() {
            Wakeups::LeftToOthers
        } else {
            Wakeups::Wanted
        }
    }

    /// A wait in the epoll has ended with a wake-up for a connection.
    pub(super) fn woken(&mut self, after: Duration, short: Duration) {
        if let Self::Counting(count) = *self {
            *self = match count + 1 {
                _ if after >= short => Self::Counting(0),
                Self::OFTEN => Self::Accept,
                count => Self::Counting(count),
            };
        }
    }

    /// A wait in accept(2) has ended without a connection.
    pub(super) fn ended_empty(&mut self) {
        if *self != Self::Epoll {
            *self = Self::Counting(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const NEARLY: Duration = Duration::from_millis(19);

    #[test]
    fn a_child_waits_in_accept_after_short_waits_until_one_is_in_vain() {
        let mut mode = WaitMode::new(true);
        for _ in 0..3 {
            for _ in 1..WaitMode::OFTEN {
                mode.woken(NEARLY, SHORT);
                assert!(!mode.is_in_accept());
            }
            mode.woken(SHORT, SHORT);
            assert_eq!(mode, WaitMode::Counting(0), "a long one: counted from zero");
            for _ in 1..WaitMode::OFTEN {
                mode.woken(Duration::ZERO, SHORT);
                assert!(!mode.is_in_accept());
            }
            mode.woken(Duration::ZERO, SHORT);
            assert!(mode.is_in_accept());
            mode.ended_empty();
            assert!(!mode.is_in_accept());
        }
    }

    /// The wait that follows a long queue is made in accept(2) whatever the mode.
    #[test]
    fn a_wait_without_a_connection_starts_the_count_again() {
        let mut mode = WaitMode::Counting(WaitMode::OFTEN - 1);
        mode.ended_empty();
        assert_eq!(mode, WaitMode::Counting(0));
    }

    #[test]
    fn a_child_that_takes_no_turns_never_waits_in_accept() {
        let mut mode = WaitMode::new(false);
        for _ in 0..100 {
            mode.woken(Duration::ZERO, SHORT);
            mode.ended_empty();
            assert_eq!(mode, WaitMode::Epoll);
        }
    }
}
