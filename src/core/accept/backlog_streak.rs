//! How many connections in a row a child has found queued, and how that changes its next attempt
//! and its next wait. Decides; reads no socket and no clock.

use super::{Attempt, Wakeups};
use std::time::Duration;

/// Connections that were found queued, one after the other, without a wait in between.
#[derive(Debug)]
pub(super) struct BacklogStreak {
    /// Whether accept(2) blocks when no connection is queued.
    blocks: bool,
    /// How many connections the streak has.
    length: u32,
    /// Whether a long streak has just ended: nothing is queued now.
    ended: bool,
    /// Whether accepting and serving the last connection took so long that accept(2) may have
    /// blocked.
    slow: bool,
}

impl BacklogStreak {
    /// After this many connections in a row, another one is likely to be queued.
    pub(super) const LIKELY: u32 = 8;
    /// accept(2) takes longer than this only if it blocks.
    pub(super) const A_WAIT: Duration = Duration::from_micros(50);

    pub(super) fn new(blocks: bool) -> Self {
        Self {
            blocks,
            length: 0,
            ended: false,
            slow: false,
        }
    }

    /// How a child that was not woken tries to accept.
    ///
    /// An accept(2) that finds nothing costs ten times as much as a poll: it makes a socket and a
    /// file before it looks at the queue.
    ///
    /// On a blocking listener, an accept(2) that finds nothing blocks behind the idle children, and
    /// the parent believes for that time that the child is busy. The child sees that by the time
    /// that passed, and polls again before its next attempt.
    pub(super) fn attempt(&self) -> Attempt {
        if self.length < Self::LIKELY || self.blocks && self.slow {
            Attempt::PollFirst
        } else {
            Attempt::Direct
        }
    }

    /// Notes that a connection was queued. Where more are likely, they are to wake other children.
    pub(super) fn found(&mut self) -> Wakeups {
        self.ended = false;
        self.length = self.length.saturating_add(1);
        if self.length == Self::LIKELY {
            Wakeups::LeftToOthers
        } else {
            Wakeups::Wanted
        }
    }

    /// Notes that none was queued.
    pub(super) fn found_nothing(&mut self) {
        self.ended = self.length >= Self::LIKELY;
        self.length = 0;
    }

    /// Notes how long accepting and serving a connection took, if that is known.
    pub(super) fn took(&mut self, time: Option<Duration>) {
        self.slow = time.is_some_and(|time| time >= Self::A_WAIT);
    }

    /// Starts again, because the child has waited or was woken.
    pub(super) fn forget(&mut self) {
        self.length = 0;
        self.ended = false;
    }

    /// Whether the child makes its next wait in accept(2), because a long streak has ended. True
    /// once.
    ///
    /// When the kernel wakes a child that waits in accept(2), it removes the child from the
    /// listener's wait queue. A child that waits in an epoll stays in that queue until it has run.
    /// Where hundreds of children have been woken and share a core, the kernel would walk through
    /// all of them for each connection.
    pub(super) fn take_end(&mut self) -> bool {
        std::mem::take(&mut self.ended) && self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Option<Duration> = Some(Duration::from_micros(49));
    const SLOW: Option<Duration> = Some(BacklogStreak::A_WAIT);

    /// Finds `count` connections queued, and returns how often the child polled before an attempt.
    fn found(streak: &mut BacklogStreak, count: u32, took: Option<Duration>) -> u32 {
        let mut looks = 0;
        for _ in 0..count {
            looks += u32::from(streak.attempt() == Attempt::PollFirst);
            let _ = streak.found();
            streak.took(took);
        }
        looks
    }

    #[test]
    fn after_eight_in_a_row_there_are_no_more_looks() {
        for blocks in [false, true] {
            let mut streak = BacklogStreak::new(blocks);
            assert_eq!(found(&mut streak, 1_000, FAST), BacklogStreak::LIKELY);
            assert_eq!(found(&mut streak, 1_000, None), 0, "no clock, no reason");
        }
    }

    #[test]
    fn a_slow_one_is_followed_by_a_look_where_it_may_have_been_a_wait() {
        let mut streak = BacklogStreak::new(true);
        found(&mut streak, 1_000, FAST);
        streak.took(SLOW);
        assert_eq!(found(&mut streak, 1_000, FAST), 1);
        assert_eq!(found(&mut BacklogStreak::new(true), 1_000, SLOW), 1_000);
        let looks = found(&mut BacklogStreak::new(false), 1_000, SLOW);
        assert_eq!(looks, BacklogStreak::LIKELY);
    }

    #[test]
    fn a_child_leaves_the_wakeups_once_at_the_eighth_however_slow_it_is() {
        for took in [FAST, SLOW] {
            let mut streak = BacklogStreak::new(true);
            for number in 1..=100 {
                let leaves = streak.found() == Wakeups::LeftToOthers;
                assert_eq!(leaves, number == BacklogStreak::LIKELY);
                streak.took(took);
            }
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
