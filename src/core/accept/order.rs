//! Which idle child gets the next connection. Decides; waits for nothing.

/// Which idle child gets the next connection.
///
/// The kernel hands out connections; the order follows from where the children wait.
///
/// Unless the order is set, the stock servers choose it: `InTurn` where there are few children
/// (`max_clients` up to 50) without a limit of connections (`max_requests` 0), otherwise
/// `OldestFirst`. Children that take turns all reach a limit at the same time, and with many
/// children the processor's caches are cold when a child's turn comes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AcceptOrder {
    /// About the oldest idle child.
    ///
    /// A child that was busy for long goes behind the others.
    ///
    /// Under a light load one child does all the work, with warm caches. Each child waits in an
    /// epoll of its own. A child that has served a long queue first waits briefly in accept(2).
    OldestFirst,
    /// The child that has been idle for the longest time; in a lull the oldest child.
    ///
    /// Children wait in accept(2) itself, which is the cheapest way. This works on Linux, on one
    /// socket that the server has opened itself; elsewhere it is the same as `OldestFirst`.
    InTurn,
}

impl AcceptOrder {
    /// Children take turns by default where there are at most this many.
    const FEW: usize = 50;

    /// The order for a server for which none was set.
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
