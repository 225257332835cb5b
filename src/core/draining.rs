//! When a server in a shutdown refuses new clients, when it forks a last child for those that are
//! queued, and when it closes its listeners. Decides from observations that it is given; touches no
//! socket and reads no clock.

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

/// Until when a child that was told to leave takes the clients that are queued.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ChildDrain {
    until: Option<Time>,
}

impl ChildDrain {
    /// Whether the child still takes queued clients, for `time` from the first call at which that is not
    /// zero. It is zero for a child that leaves them to others.
    ///
    /// That order may change: a shutdown may begin while the child that is replaced has not left.
    pub(crate) fn lasts(&mut self, time: Duration, now: Time) -> bool {
        !time.is_zero() && now < *self.until.get_or_insert_with(|| now + time)
    }
}

/// Whether the listeners are open, draining or closed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Drain {
    /// New clients are accepted.
    #[default]
    Serving,
    /// Children serve what is queued, until this time at the latest.
    Draining {
        until: Time,
        /// Whether a last child may still be forked for them: one is, if none is left.
        may_fork: bool,
    },
    /// The listeners are closed for all processes.
    Closed,
}

/// What a turn does in a drain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a step does nothing until it is performed"]
pub(crate) enum DrainStep {
    /// Nothing: children serve, or it is not a drain.
    Wait,
    /// Forks a last child, which serves what is queued.
    ForkLast,
    /// Closes the listeners.
    Close,
}

/// What a step depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct DrainView {
    pub(crate) now: Time,
    /// Whether a client waits to be accepted.
    pub(crate) queued: bool,
    pub(crate) takers: Takers,
    /// Whether one more child may be forked in the shutdown.
    pub(crate) may_fork: bool,
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
            *self = Self::Draining {
                until,
                may_fork: true,
            };
        }
        begins
    }

    /// What is to be done now. The listeners are closed once, and at most one child is forked.
    ///
    /// No child may be left although clients are queued: the last one has gone before its successor was
    /// forked, in a replacement without room, at a limit or in a crash. A second child is not forked:
    /// what has ended the first may end each.
    pub(crate) fn step(&mut self, seen: DrainView) -> DrainStep {
        let Self::Draining { until, may_fork } = *self else {
            return DrainStep::Wait;
        };
        let Takers { idle, later } = seen.takers;
        let nobody = idle + later == 0;
        let in_vain = nobody && !(may_fork && seen.may_fork);
        let all_served = !seen.queued && idle == 0;
        if in_vain || all_served || until <= seen.now {
            *self = Self::Closed;
            return DrainStep::Close;
        }
        if !nobody {
            return DrainStep::Wait;
        }
        let may_fork = false;
        *self = Self::Draining { until, may_fork };
        DrainStep::ForkLast
    }

    pub(crate) fn is_over(self) -> bool {
        self == Self::Closed
    }

    /// Whether the drain has begun and the listeners are still open.
    pub(crate) fn is_under_way(self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    /// When to check next, if nothing happens before.
    pub(crate) fn look_at(self, now: Time) -> Option<Time> {
        match self {
            Self::Draining { until, .. } => Some(until.min(now + LOOK_AGAIN)),
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
    /// In half of them a last child may be forked.
    fn outlooks() -> impl Iterator<Item = DrainView> {
        let moments = [0, 999, 1000, 5000].map(at).into_iter();
        let takers = (0..9).map(|n| Takers {
            idle: n % 3,
            later: n / 3,
        });
        moments.flat_map(move |now| {
            takers.clone().flat_map(move |takers| {
                let both = [false, true];
                let kinds = both.map(|queued| both.map(|may_fork| (queued, may_fork)));
                kinds
                    .into_iter()
                    .flatten()
                    .map(move |(queued, may_fork)| DrainView {
                        now,
                        queued,
                        takers,
                        may_fork,
                    })
            })
        })
    }

    #[test]
    fn the_listeners_are_closed_when_nobody_is_queued_or_can_be_served_or_after_the_drain() {
        assert_eq!(outlooks().count(), 144);
        for seen in outlooks() {
            let mut draining = draining();
            let in_vain = seen.takers == Takers::default() && !seen.may_fork;
            let done = !seen.queued && seen.takers.idle == 0;
            let late = seen.now >= at(1000);
            let closes = draining.step(seen) == DrainStep::Close;
            assert_eq!(closes, in_vain || done || late, "{seen:?}");
            assert_eq!(draining == Drain::Closed, closes, "{seen:?}");
        }
    }

    /// A last child is forked if that is the only way to serve who is queued; and no second one, be it
    /// that the first has ended or could not be forked.
    #[test]
    fn one_child_is_forked_if_none_is_left_for_those_who_are_queued() {
        for seen in outlooks() {
            let mut draining = draining();
            let nobody = seen.takers == Takers::default();
            let forks = seen.queued && nobody && seen.may_fork && seen.now < at(1000);
            let step = draining.step(seen);
            assert_eq!(step == DrainStep::ForkLast, forks, "{seen:?}");
            let serves = DrainView {
                takers: Takers { idle: 0, later: 1 },
                ..seen
            };
            if forks {
                assert_eq!(draining.clone().step(seen), DrainStep::Close, "{seen:?}");
                assert_eq!(draining.step(serves), DrainStep::Wait, "{seen:?}");
                assert_eq!(draining.step(seen), DrainStep::Close, "{seen:?}");
            }
        }
    }

    #[test]
    fn a_last_child_is_forked_when_the_others_have_gone() {
        let mut draining = draining();
        let mut seen = DrainView {
            now: at(5),
            queued: true,
            takers: Takers { idle: 1, later: 0 },
            may_fork: true,
        };
        assert_eq!(draining.step(seen), DrainStep::Wait);
        seen.takers.idle = 0;
        assert_eq!(draining.step(seen), DrainStep::ForkLast);
    }

    /// A child that leaves the queue to others takes nothing, until it is told to serve it.
    #[test]
    fn a_child_that_is_told_twice_serves_for_the_time_from_the_second_order() {
        let mut drain = ChildDrain::default();
        assert!(!drain.lasts(Duration::ZERO, at(0)));
        assert!(!drain.lasts(Duration::ZERO, at(5000)));
        let told_at = [6000, 6999, 7000, 9000].map(|now| drain.lasts(DRAIN, at(now)));
        assert_eq!(told_at, [true, true, false, false]);
    }

    /// Begin returns true once and the listeners are closed once, and only in a shutdown.
    #[test]
    fn a_state_is_left_once() {
        for seen in outlooks() {
            assert_eq!(Drain::Serving.step(seen), DrainStep::Wait);
            let mut draining = draining();
            assert!(!draining.begin(seen.now, DRAIN), "it begins twice");
            let closes = [(); 4].map(|()| draining.step(seen) == DrainStep::Close);
            let closes = closes.into_iter().filter(|closes| *closes).count();
            assert!(closes <= 1, "it closes twice");
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
            may_fork: true,
        };
        assert_eq!(draining.step(seen), DrainStep::Close);
    }
}
