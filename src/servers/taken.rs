//! How many connections children have taken from each queue, as parent and children see it. Counts,
//! and decides nothing.

use crate::sys::tally::Tally;
use std::{io, process, rc::Rc};

/// How many queues have a count. Nothing is known of further ones.
const QUEUES: usize = 32;
/// A child counts in one of so many groups, which mostly are in the cache of its processor alone.
const GROUPS: usize = 16;

/// Made in the parent, before the first fork.
#[derive(Debug)]
pub(super) struct TakenCounters(Tally<{ QUEUES * GROUPS }>);

impl TakenCounters {
    pub(super) fn new() -> io::Result<Self> {
        Tally::new().map(Self)
    }

    /// How many connections all children have taken from a queue; `None` for one without a count.
    ///
    /// Those are missing that others take: other programs at a socket that they share, and after an
    /// upgrade the children of the program before.
    pub(super) fn from(&self, queue: usize) -> Option<u64> {
        // A child that writes wrong numbers there makes the sum wrong, and nothing else.
        let add = |sum: u64, group| Some(sum.wrapping_add(self.0.get(place(queue, group)?)));
        (0..GROUPS).try_fold(0, add)
    }
}

/// The counter of a queue in a group.
fn place(queue: usize, group: usize) -> Option<usize> {
    (queue < QUEUES).then_some(group * QUEUES + queue)
}

/// What a child counts with.
#[derive(Debug)]
pub(super) struct Taking {
    taken: Rc<TakenCounters>,
    group: usize,
}

impl Taking {
    /// In a child.
    pub(super) fn new(taken: &Rc<TakenCounters>) -> Self {
        Self {
            taken: Rc::clone(taken),
            group: process::id() as usize % GROUPS,
        }
    }

    /// Counts a connection that was taken from a queue.
    pub(super) fn count(&self, queue: usize) {
        if let Some(at) = place(queue, self.group) {
            self.taken.0.add_one(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_a_count_of_its_own_over_all_children() {
        let taken = Rc::new(TakenCounters::new().expect("memory"));
        for group in 0..GROUPS {
            let taken = Rc::clone(&taken);
            let child = Taking { taken, group };
            (0..=QUEUES).for_each(|queue| (0..=queue).for_each(|_| child.count(queue)));
        }
        let expected = |queue| (queue < QUEUES).then_some(((queue + 1) * GROUPS) as u64);
        for queue in 0..QUEUES + 2 {
            assert_eq!(taken.from(queue), expected(queue), "{queue}");
        }
    }

    #[test]
    fn nonsense_of_a_child_is_no_panic_of_the_parent() {
        let taken = TakenCounters::new().expect("memory");
        for group in 0..GROUPS {
            let at = place(3, group).expect("a place");
            taken.0.set(at, u64::MAX);
        }
        assert_eq!(taken.from(3), Some(u64::MAX - GROUPS as u64 + 1));
    }
}
