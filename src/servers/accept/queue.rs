//! What a child has found queued, and what follows from it for its next attempt and its next wait.
//! Decides; looks at nothing.

use std::time::Duration;

/// Connections that were found queued, one after the other.
#[derive(Debug)]
pub(super) struct Queue {
    /// Whether an attempt to accept that is in vain is a wait.
    blocks: bool,
    /// How many there were, without a wait.
    in_a_row: u32,
    /// Whether there were many, and there is no other now.
    ended: bool,
    /// Whether accepting and handling the last one took so long that the attempt may have been a wait.
    slow: bool,
}

impl Queue {
    /// After so many in a row another one is likely to be there.
    const LIKELY: u32 = 8;
    /// What accept(2) does not take unless it waits.
    pub(super) const A_WAIT: Duration = Duration::from_micros(50);

    pub(super) fn new(blocks: bool) -> Self {
        Self {
            blocks,
            in_a_row: 0,
            ended: false,
            slow: false,
        }
    }

    /// Whether a look comes before the next attempt of a child that was not woken.
    pub(super) fn looks_first(&self) -> bool {
        self.in_a_row < Self::LIKELY || self.blocks && self.slow
    }

    /// The child has looked for a connection, and has found one or has not; or it was `woken` for it. True if
    /// it is to get out of the way of those that are for others.
    pub(super) fn tried(&mut self, found: bool, woken: bool) -> bool {
        self.ended = !found && self.in_a_row >= Self::LIKELY;
        self.in_a_row = match found && !woken {
            true => self.in_a_row.saturating_add(1),
            false => 0,
        };
        self.in_a_row == Self::LIKELY
    }

    /// How long it took to accept and handle a connection, if that is known.
    pub(super) fn took(&mut self, time: Option<Duration>) {
        self.slow = time.is_some_and(|time| time >= Self::A_WAIT);
    }

    /// The child has waited: what was queued before says nothing any more.
    pub(super) fn forget(&mut self) {
        self.in_a_row = 0;
        self.ended = false;
    }

    /// Whether the next wait is to be made in accept(2), since a queue has come to its end. Asked once.
    ///
    /// Who waits there is off the listener's list as soon as it is woken; in an epoll it stays there until it has
    /// run. Where hundreds have been woken and share a core, the kernel would go through all of them for each
    /// connection.
    pub(super) fn has_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended) && self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Option<Duration> = Some(Duration::from_micros(49));
    const SLOW: Option<Duration> = Some(Queue::A_WAIT);

    /// A queue of which so many have been found, and how often a look came before the attempt.
    fn found(queue: &mut Queue, count: u32, took: Option<Duration>) -> u32 {
        let mut looks = 0;
        for _ in 0..count {
            looks += u32::from(queue.looks_first());
            queue.tried(true, false);
            queue.took(took);
        }
        looks
    }

    #[test]
    fn after_eight_in_a_row_there_are_no_more_looks() {
        for blocks in [false, true] {
            let mut queue = Queue::new(blocks);
            assert_eq!(found(&mut queue, 1_000, FAST), Queue::LIKELY);
            assert_eq!(found(&mut queue, 1_000, None), 0, "no clock, no reason");
        }
    }

    #[test]
    fn a_slow_one_is_followed_by_a_look_where_it_may_have_been_a_wait() {
        let mut queue = Queue::new(true);
        found(&mut queue, 1_000, FAST);
        queue.took(SLOW);
        assert_eq!(found(&mut queue, 1_000, FAST), 1);
        assert_eq!(found(&mut Queue::new(true), 1_000, SLOW), 1_000);
        assert_eq!(found(&mut Queue::new(false), 1_000, SLOW), Queue::LIKELY);
    }

    #[test]
    fn a_child_gets_out_of_the_way_once_at_the_eighth_however_slow_it_is() {
        for took in [FAST, SLOW] {
            let mut queue = Queue::new(true);
            for number in 1..=100 {
                assert_eq!(queue.tried(true, false), number == Queue::LIKELY);
                queue.took(took);
            }
        }
    }

    #[test]
    fn a_wake_up_or_a_wait_begins_anew() {
        let mut queue = Queue::new(true);
        found(&mut queue, 100, FAST);
        queue.tried(true, true);
        assert_eq!(found(&mut queue, 100, FAST), Queue::LIKELY, "woken");
        queue.forget();
        assert_eq!(found(&mut queue, 100, FAST), Queue::LIKELY, "waited");
        queue.tried(false, false);
        assert_eq!(found(&mut queue, 100, FAST), Queue::LIKELY, "in vain");
    }

    #[test]
    fn the_end_of_a_queue_is_told_once_and_only_where_accept_waits() {
        for (blocks, count, told) in [(true, 8, true), (true, 7, false), (false, 8, false)] {
            let mut queue = Queue::new(blocks);
            found(&mut queue, count, SLOW);
            assert!(!queue.has_ended(), "not yet");
            queue.tried(false, false);
            assert_eq!(queue.has_ended(), told, "{count}, {blocks}");
            assert!(!queue.has_ended());
        }
        let mut queue = Queue::new(true);
        found(&mut queue, 8, FAST);
        queue.tried(false, false);
        queue.forget();
        assert!(!queue.has_ended(), "it has waited since");
    }
}
