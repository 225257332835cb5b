//! When a server in a shutdown refuses new clients, and when it closes its listeners. Decides from
//! observations that it is given; touches no socket and reads no clock.

use crate::core::{child::Child, time::Time};
use std::time::Duration;

/// How often the queue is checked while children may still empty it: a busy child that takes a
/// connection need not send a word.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a child that is told to leave does with the clients that are queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum QueuedClients {
    /// It serves them first: in a shutdown no child comes after it.
    Serve,
    /// It looks once, since the kernel may have woken it and no other child for a client. With more
    /// clients than children the queue is never empty, and a child that served it would stay.
    LeaveToOthers,
}

/// Whether the listeners are open, draining or closed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Drain {
    /// New clients are accepted.
    #[default]
    Serving,
    /// Children serve what is queued, until this time at the latest.
    Draining { until: Time },
    /// The listeners are closed for all processes.
    Closed,
}

/// What the decision to close depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct DrainView {
    pub(crate) now: Time,
    /// Whether a client waits to be accepted.
    pub(crate) queued: bool,
    pub(crate) takers: Takers,
}

/// The children that may take what is queued.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Takers {
    /// Children with no connection in hand. The kernel may have woken one of them for a connection.
    pub(crate) idle: usize,
    /// Children that may take a connection later, after the one in hand or after their start.
    pub(crate) later: usize,
}

impl Drain {
    /// Begins the drain. True the first time: new clients are to be refused from now on.
    #[must_use]
    pub(crate) fn begin(&mut self, now: Time, drain_timeout: Duration) -> bool {
        let begins = *self == Self::Serving;
        if begins {
            let until = now + drain_timeout;
            *self = Self::Draining { until };
        }
        begins
    }

    /// Whether the listeners are to be closed now. True once.
    #[must_use]
    pub(crate) fn closes(&mut self, seen: DrainView) -> bool {
        let Self::Draining { until } = *self else {
            return false;
        };
        let Takers { idle, later } = seen.takers;
        let nobody = idle + later == 0;
        let all_served = !seen.queued && idle == 0;
        let closes = nobody || all_served || until <= seen.now;
        if closes {
            *self = Self::Closed;
        }
        closes
    }

    /// Whether the drain has begun and the listeners are still open.
    pub(crate) fn is_under_way(self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// When to check next, if nothing happens before.
    pub(crate) fn look_at(self, now: Time) -> Option<Time> {
        match self {
            Self::Draining { until } => Some(until.min(now + LOOK_AGAIN)),
            Self::Serving | Self::Closed => None,
        }
    }
}

impl Takers {
    /// Counts `children`, which were told to stop. Programs need not say that they have started, so
    /// with `programs` a child that has said nothing counts as idle.
    pub(crate) fn of<'a>(children: impl Iterator<Item = &'a Child>, programs: bool) -> Self {
        let mut takers = Self::default();
        for child in children {
            let later = child.is_serving() || child.is_starting() && !programs;
            *(if later {
                &mut takers.later
            } else {
                &mut takers.idle
            }) += 1;
        }
        takers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Time {
        Time::START + Duration::from_millis(millis)
    }

    fn draining() -> Drain {
        let mut draining = Drain::default();
        assert!(draining.begin(at(0), DRAIN));
        draining
    }

    /// All observations with up to two children of each kind, at times around the end of the drain.
    fn outlooks() -> impl Iterator<Item = DrainView> {
        let moments = [0, 999, 1000, 5000].map(at).into_iter();
        let takers = (0..9).map(|n| Takers {
            idle: n % 3,
            later: n / 3,
        });
        moments.flat_map(move |now| {
            takers.clone().flat_map(move |takers| {
                [false, true].map(|queued| DrainView {
                    now,
                    queued,
                    takers,
                })
            })
        })
    }

    #[test]
    fn the_listeners_are_closed_when_nobody_is_queued_or_can_be_served_or_after_the_drain() {
        assert_eq!(outlooks().count(), 72);
        for seen in outlooks() {
            let mut draining = draining();
            let in_vain = seen.takers == Takers::default();
            let done = !seen.queued && seen.takers.idle == 0;
            let late = seen.now >= at(1000);
            assert_eq!(draining.closes(seen), in_vain || done || late, "{seen:?}");
            let closed = draining == Drain::Closed;
            assert_eq!(closed, in_vain || done || late, "{seen:?}");
        }
    }

    /// Begin and close each return true once, and the listeners are closed only in a shutdown.
    #[test]
    fn a_state_is_left_once() {
        for seen in outlooks() {
            assert!(!Drain::Serving.closes(seen));
            let mut draining = draining();
            assert!(!draining.begin(seen.now, DRAIN), "it begins twice");
            let first = draining.closes(seen);
            assert!(!(draining.closes(seen) && first), "it closes twice");
        }
        let mut closed = Drain::Closed;
        assert!(!closed.begin(at(0), DRAIN));
        assert_eq!(closed, Drain::Closed);
    }

    /// No event reports an empty queue, so it is checked often, and not after the close.
    #[test]
    fn a_queue_is_looked_at_until_it_is_closed() {
        assert_eq!(draining().look_at(at(5)), Some(at(15)));
        assert_eq!(draining().look_at(at(995)), Some(at(1000)));
        for draining in [Drain::Serving, Drain::Closed] {
            assert_eq!(draining.look_at(at(0)), None);
            assert!(!draining.is_under_way());
        }
    }

    #[test]
    fn without_a_drain_the_listeners_are_closed_at_once() {
        let mut draining = Drain::default();
        assert!(draining.begin(at(7), Duration::ZERO));
        let takers = Takers { idle: 1, later: 1 };
        let seen = DrainView {
            now: at(7),
            queued: true,
            takers,
        };
        assert!(draining.closes(seen));
    }
}
