//! When to look at the memory of which children: a few at a time, each as often as the others. Reads
//! no memory.

use crate::core::{child::ChildId, time::Time};
use std::time::Duration;

/// How often each child is looked at.
const ROUND: Duration = Duration::from_secs(5);
/// How many children are looked at in one turn: the kernel takes some ten microseconds for each, and
/// longer for a large process.
const AT_ONCE: usize = 4;
/// The least time between two turns that look, for very large pools.
const PAUSE: Duration = Duration::from_millis(10);

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct MemoryWatch {
    next_at: Option<Time>,
    /// The child that was looked at last.
    last: Option<ChildId>,
}

impl MemoryWatch {
    /// When the next look is due; `None` while there is no limit.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.next_at
    }

    /// Begins, or ends, the watch.
    pub(crate) fn set(&mut self, is_limited: bool, now: Time) {
        match (is_limited, self.next_at) {
            (true, None) => self.next_at = Some(now + PAUSE),
            (false, Some(_)) => self.next_at = None,
            _ => {}
        }
    }

    /// The children to look at now, of all `children`; none before it is time.
    pub(crate) fn take_due(&mut self, mut children: Vec<ChildId>, now: Time) -> Vec<ChildId> {
        if self.next_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        children.sort_unstable();
        let after = children.partition_point(|id| self.last.is_some_and(|last| *id <= last));
        children.rotate_left(after);
        let count = children.len().max(AT_ONCE);
        self.next_at = Some(now + (ROUND * AT_ONCE as u32 / count as u32).max(PAUSE));
        children.truncate(AT_ONCE);
        self.last = children.last().copied().or(self.last);
        children
    }
}
