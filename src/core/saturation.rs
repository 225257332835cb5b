//! Episodes in which a server is saturated: when one begins and when it is over. Compares times;
//! does not know what fills a pool and counts no clients.

use super::time::Time;
use std::time::Duration;

/// An episode in which all children are busy and no further one may be forked.
///
/// The hook [`saturated`](crate::PreForkHooks::saturated) gets it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Saturation {
    /// Since when it has lasted, by the clock of [`Monitor::now`](crate::Monitor::now).
    pub since: Time,
    /// How many clients wait to be accepted; `None` if the system does not tell.
    pub waiting: Option<u32>,
    /// For how long the first of them has waited at least; `None` if that is not known.
    pub oldest: Option<Duration>,
}

/// What a new client finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fill {
    /// A child is free.
    Room,
    /// No child is free, but there are places for more, or children that start: mostly the
    /// successors of some that had taken as many connections as they may.
    Short,
    /// All children are busy, and no further one may be forked.
    Full,
}

/// The present episode, if there is one.
///
/// Where children take milliseconds for a connection, a pool is full and not full again many times a
/// second, which is how it should be. So an episode begins when the pool has been full and no child
/// has been free for a second, and ends when it has not been full for a second. Children that are
/// recycled under load leave a pool short again and again, which helps no client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Episode {
    #[default]
    None,
    /// The pool was full then, and no child has been free since; it is no episode yet.
    Coming(Time),
    Lasting {
        since: Time,
    },
    /// The pool is no longer full since `until`; the episode may go on.
    Ending {
        since: Time,
        until: Time,
    },
}

/// What has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    Begins { since: Time },
    Ends { after: Duration },
}

impl Episode {
    /// How long a pool must be without a free child, or not full, until that counts.
    pub(crate) const COUNTS_AFTER: Duration = Duration::from_secs(1);

    /// Notes how full the pool is at `now`.
    pub(crate) fn observe(&mut self, fill: Fill, now: Time) -> Option<Change> {
        *self = match (*self, fill) {
            (Self::None, Fill::Full) => Self::Coming(now),
            (Self::Coming(_), Fill::Room) => Self::None,
            (Self::Lasting { since }, Fill::Short | Fill::Room) => {
                Self::Ending { since, until: now }
            }
            (Self::Ending { since, .. }, Fill::Full) => Self::Lasting { since },
            (same, _) => same,
        };
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        match *self {
            Self::Coming(since) => {
                *self = Self::Lasting { since };
                Some(Change::Begins { since })
            }
            _ => self.end(now),
        }
    }

    /// Ends the episode now, as in a shutdown.
    pub(crate) fn end(&mut self, now: Time) -> Option<Change> {
        let (since, until) = match std::mem::take(self) {
            Self::None | Self::Coming(_) => return None,
            Self::Lasting { since } => (since, now),
            Self::Ending { since, until } => (since, until),
        };
        let after = until.since(since);
        Some(Change::Ends { after })
    }

    /// Whether an episode may be about to begin.
    pub(crate) fn comes(self) -> bool {
        matches!(self, Self::Coming(_))
    }

    /// Whether an episode has begun and has not ended.
    pub(crate) fn lasts(self) -> bool {
        matches!(self, Self::Lasting { .. } | Self::Ending { .. })
    }

    /// Since when the episode has lasted that has begun.
    #[cfg(feature = "status")]
    pub(crate) fn since(self) -> Option<Time> {
        match self {
            Self::None | Self::Coming(_) => None,
            Self::Lasting { since } | Self::Ending { since, .. } => Some(since),
        }
    }

    /// How long the episode has lasted at `now`, if one has begun.
    pub(crate) fn lasted(self, now: Time) -> Duration {
        match self {
            Self::None | Self::Coming(_) => Duration::ZERO,
            Self::Lasting { since } => now.since(since),
            Self::Ending { since, until } => until.since(since),
        }
    }

    /// When to observe again, though nothing has happened.
    pub(crate) fn deadline(self) -> Option<Time> {
        match self {
            Self::None | Self::Lasting { .. } => None,
            Self::Coming(since) => Some(since + Self::COUNTS_AFTER),
            Self::Ending { until, .. } => Some(until + Self::COUNTS_AFTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fill::*, *};
    use proptest::prelude::*;

    fn at(milliseconds: u64) -> Time {
        Time::at(Duration::from_millis(milliseconds))
    }

    /// The changes that follow from these observations, each with its time in milliseconds.
    fn changes(observations: &[(u64, Fill)]) -> Vec<(u64, Change)> {
        let mut episode = Episode::default();
        let observations = observations.iter();
        observations
            .filter_map(|&(time, fill)| Some((time, episode.observe(fill, at(time))?)))
            .collect()
    }

    fn full_if(is_full: bool) -> Fill {
        if is_full { Fill::Full } else { Fill::Room }
    }

    const fn ends(milliseconds: u64) -> Change {
        let after = Duration::from_millis(milliseconds);
        Change::Ends { after }
    }

    #[test]
    fn an_episode_begins_and_ends_a_second_late_and_is_told_as_it_was() {
        let found = changes(&[
            (100, Full),
            (1_099, Full),
            (1_100, Full),
            (5_000, Full),
            (5_100, Room),
            (6_099, Room),
            (6_100, Room),
            (9_000, Room),
        ]);
        let begins = Change::Begins { since: at(100) };
        assert_eq!(found, [(1_100, begins), (6_100, ends(5_000))]);
    }

    #[test]
    fn a_pool_that_is_full_at_times_has_no_episode() {
        let flutter: Vec<_> = (0..1_000).map(|n| (n * 10, full_if(n % 99 != 0))).collect();
        assert_eq!(changes(&flutter), []);
    }

    /// A pool of which a child is replaced every few milliseconds is full at most looks, or at few.
    #[test]
    fn children_that_are_replaced_put_no_episode_off() {
        for full_every in [2, 5, 150] {
            let fill = |n| if n % full_every == 0 { Full } else { Short };
            let mut observations: Vec<_> = (0..300).map(|n| (n * 10, fill(n))).collect();
            observations.extend([(3_000, Room), (4_500, Room)]);
            let changes = changes(&observations);
            let begins = Change::Begins { since: at(0) };
            assert_eq!(changes[0], (1_000, begins), "{full_every}");
            assert_eq!(changes.len(), 2, "{changes:?}");
        }
    }

    #[test]
    fn a_pool_that_grows_has_no_episode() {
        let growing: Vec<_> = (0..300).map(|n| (n * 10, Short)).collect();
        assert_eq!(changes(&growing), []);
    }

    #[test]
    fn an_episode_goes_on_through_short_pauses() {
        let mut observations = vec![(0, Full), (1_000, Full)];
        observations.extend((0..100).map(|n| (1_100 + n * 50, full_if(n % 3 == 0))));
        observations.extend([(6_100, Room), (7_100, Room)]);
        let begins = Change::Begins { since: at(0) };
        assert_eq!(
            changes(&observations),
            [(1_000, begins), (7_100, ends(6_100))]
        );
    }

    #[test]
    fn a_shutdown_ends_an_episode_at_once() {
        for (observations, ended) in [
            (&[(0, Full), (1_000, Full)][..], Some(ends(1_500))),
            (
                &[(0, Full), (1_000, Full), (1_200, Room)],
                Some(ends(1_200)),
            ),
            (&[(1_000, Full)], None),
            (&[], None),
        ] {
            let mut episode = Episode::default();
            for &(time, fill) in observations {
                episode.observe(fill, at(time));
            }
            assert_eq!(episode.end(at(1_500)), ended);
            assert_eq!(episode, Episode::None);
        }
    }

    proptest! {
        /// Whatever happens: episodes begin and end by turns, and each deadline leads to a change.
        #[test]
        fn episodes_begin_and_end_by_turns(
            steps in proptest::collection::vec((0_u64..700, prop::sample::select(&[Room, Short, Full][..])), 1..200),
        ) {
            let (mut episode, mut now, mut began) = (Episode::default(), at(0), None);
            let (mut room, mut lasted) = (at(0), Duration::ZERO);
            for (pause, fill) in steps {
                now = now + Duration::from_millis(pause);
                if fill == Room {
                    room = now;
                }
                match episode.observe(fill, now) {
                    Some(Change::Begins { since }) => {
                        prop_assert_eq!(began.replace(since), None);
                        prop_assert!(now.since(since) >= Episode::COUNTS_AFTER);
                        prop_assert!(room <= since, "a child was free");
                    }
                    Some(Change::Ends { after }) => {
                        let since = began.take();
                        prop_assert!(since.is_some_and(|since| since + after <= now));
                        prop_assert!(after >= lasted, "it had lasted for longer");
                        lasted = Duration::ZERO;
                    }
                    None => {}
                }
                prop_assert!(episode.lasted(now) >= lasted, "time is taken back");
                lasted = episode.lasted(now);
                prop_assert_eq!(episode.lasts(), began.is_some());
                prop_assert!(episode.deadline().is_none_or(|deadline| now < deadline));
            }
        }
    }
}
