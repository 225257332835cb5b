//! How many connections in a row a child has found queued, and how that changes its next attempt
//! and its next wait. Decides; reads no socket and no clock.

use super::{Attempt, LastConnection, Wakeups};
use std::time::Duration;

/// Connections that were found queued, one after the other, without a wait in between.
#[derive(Debug)]
pub(super) struct BacklogStreak {
    /// Whether accept(2) blocks when no connection is queued.
    blocks: bool,
    streak: Streak,
}

/// How long a streak is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Streak {
    /// This many connections so far.
    Length(u32),
    /// A long one has just ended: nothing is queued now.
    LongEnded,
}

impl Streak {
    const NONE: Self = Self::Length(0);

    fn length(self) -> u32 {
        match self {
            Self::Length(length) => length,
            Self::LongEnded => 0,
        }
    }

    fn is_long(self) -> bool {
        self.length() >= BacklogStreak::LIKELY
    }
}

impl BacklogStreak {
    /// After this many connections in a row, another one is likely to be queued.
    pub(super) const LIKELY: u32 = 8;
    /// accept(2) takes longer than this only if it blocks.
    pub(super) const A_WAIT: Duration = Duration::from_micros(50);

    pub(super) fn new(blocks: bool) -> Self {
        Self {
            blocks,
            streak: Streak::NONE,
        }
    }

    /// How a child that was not woken tries to accept after its `last` connection.
    ///
    /// An accept(2) that finds nothing costs ten times as much as a poll: it makes a socket and a
    /// file before it looks at the queue.
    ///
    /// On a blocking listener, an accept(2) that finds nothing blocks behind the idle children, and
    /// the parent believes for that time that the child is busy. The child sees that by the time
    /// that passed, and polls again before its next attempt.
    pub(super) fn attempt(&self, last: LastConnection) -> Attempt {
        if !self.streak.is_long() || self.blocks && last.may_have_waited() {
            Attempt::PollFirst
        } else {
            Attempt::Direct
        }
    }

    /// Notes that a connection was queued. Where more are likely, they are to wake other children.
    pub(super) fn found(&mut self) -> Wakeups {
        let length = self.streak.length().saturating_add(1);
        self.streak = Streak::Length(length);
        if length == Self::LIKELY {
            Wakeups::LeftToOthers
        } else {
            Wakeups::Wanted
        }
    }

    /// Notes that none was queued.
    pub(super) fn found_nothing(&mut self) {
        self.streak = match self.streak.is_long() {
            true => Streak::LongEnded,
            false => Streak::NONE,
        };
    }

    /// Starts again, because the child has waited or was woken.
    pub(super) fn forget(&mut self) {
        self.streak = Streak::NONE;
    }

    /// Whether the child makes its next wait in accept(2), because a long streak has ended. True
    /// once.
    ///
    /// When the kernel wakes a child that waits in accept(2), it removes the child from the
    /// listener's wait queue. A child that waits in an epoll stays in that queue until it has run.
    /// Where hundreds of children have been woken and share a core, the kernel would walk through
    /// all of them for each connection.
    pub(super) fn take_end(&mut self) -> bool {
        let ended = self.streak == Streak::LongEnded;
        if ended {
            self.streak = Streak::NONE;
        }
        ended && self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: LastConnection = LastConnection(Duration::from_micros(49));
    const SLOW: LastConnection = LastConnection(BacklogStreak::A_WAIT);
    const UNKNOWN: LastConnection = LastConnection(Duration::ZERO);

    /// Finds `count` connections queued, each after one like `last`, and returns how often the child
    /// polled before an attempt.
    fn found(streak: &mut BacklogStreak, count: u32, last: LastConnection) -> u32 {
        let mut looks = 0;
        for _ in 0..count {
            looks += u32::from(streak.attempt(last) == Attempt::PollFirst);
            let _ = streak.found();
        }
        looks
    }

    #[test]
    fn after_eight_in_a_row_there_are_no_more_looks() {
        for blocks in [false, true] {
            let mut streak = BacklogStreak::new(blocks);
            assert_eq!(found(&mut streak, 1_000, FAST), BacklogStreak::LIKELY);
            assert_eq!(found(&mut streak, 1_000, UNKNOWN), 0, "no clock, no reason");
        }
    }

    #[test]
    fn a_slow_one_is_followed_by_a_look_where_it_may_have_been_a_wait() {
        let mut streak = BacklogStreak::new(true);
        found(&mut streak, 1_000, FAST);
        assert_eq!(found(&mut streak, 1, SLOW), 1);
        assert_eq!(found(&mut streak, 1_000, FAST), 0);
        assert_eq!(found(&mut BacklogStreak::new(true), 1_000, SLOW), 1_000);
        let looks = found(&mut BacklogStreak::new(false), 1_000, SLOW);
        assert_eq!(looks, BacklogStreak::LIKELY);
    }

    #[test]
    fn a_child_leaves_the_wakeups_once_at_the_eighth() {
        let mut streak = BacklogStreak::new(true);
        for number in 1..=100 {
            let leaves = streak.found() == Wakeups::LeftToOthers;
            assert_eq!(leaves, number == BacklogStreak::LIKELY);
        }
    }

    #[test]
    fn a_wake_up_or_a_wait_starts_a_new_streak() {
        let mut streak = BacklogStreak::new(true);
        found(&mut streak, 100, FAST);
        streak.forget();
        let likely = BacklogStreak::LIKELY;
        assert_eq!(found(&mut streak, 100, FAST), likely, "woken, or waited");
        streak.found_nothing();
        assert_eq!(found(&mut streak, 100, FAST), likely, "in vain");
    }

    #[test]
    fn the_end_of_a_streak_is_told_once_and_only_where_accept_waits() {
        for (blocks, count, told) in [(true, 8, true), (true, 7, false), (false, 8, false)] {
            let mut streak = BacklogStreak::new(blocks);
            found(&mut streak, count, SLOW);
            assert!(!streak.take_end(), "not yet");
            streak.found_nothing();
            assert_eq!(streak.take_end(), told, "{count}, {blocks}");
            assert!(!streak.take_end());
        }
        let mut streak = BacklogStreak::new(true);
        found(&mut streak, 8, FAST);
        streak.found_nothing();
        streak.forget();
        assert!(!streak.take_end(), "it has waited since");
    }
}
