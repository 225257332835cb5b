//! Which of the idle children gets the next connection. Decides; waits for nothing.

/// Which of the children that are idle gets the next connection. The kernel hands them out; what a
/// server chooses is where its children wait.
///
/// The stock servers choose by themselves unless they are told: in turn where there are few children
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
    /// Children take turns by default where there are at most this many.
    const FEW: usize = 50;

    /// For a server that was not told.
    pub(crate) fn choose(max_clients: usize, max_requests: u64) -> Self {
        if max_clients <= Self::FEW && max_requests == 0 {
            Self::InTurn
        } else {
            Self::OldestFirst
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_children_without_a_limit_take_turns() {
        use AcceptOrder::{InTurn, OldestFirst};
        assert_eq!(AcceptOrder::choose(50, 0), InTurn);
        assert_eq!(AcceptOrder::choose(51, 0), OldestFirst);
        assert_eq!(AcceptOrder::choose(50, 25), OldestFirst);
        assert_eq!(AcceptOrder::choose(usize::MAX, 0), OldestFirst, "unknown");
    }
}
