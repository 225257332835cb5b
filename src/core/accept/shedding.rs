//! Which connections have been queued for too long to be worth serving. Decides from ages and times
//! that it is told; reads no clock and closes nothing.

use crate::core::time::Time;
use std::time::Duration;

/// How old connections may be when a child takes them from the queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct AgeLimits {
    /// Older ones are always too old.
    pub(crate) max: Duration,
    /// While the queue stands, those older than twice this are too old as well. Zero: no such
    /// limit.
    pub(crate) target: Duration,
}

impl AgeLimits {
    /// The shortest target by default: some ticks of the kernel, in which it counts ages.
    const SHORTEST_TARGET: Duration = Duration::from_millis(20);

    /// The limits for a maximum age, with a target of a tenth unless one is set.
    pub(crate) fn new(max: Duration, target: Option<Duration>) -> Self {
        Self {
            max,
            target: target.unwrap_or_else(|| (max / 10).max(Self::SHORTEST_TARGET)),
        }
    }

    /// How often a reserved child looks at the queues. A connection that it should take may get
    /// older by this time, and is not to be too old then.
    pub(crate) fn look_every(self) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(2);
        const LONGEST: Duration = Duration::from_millis(100);
        let least = if self.target.is_zero() {
            self.max / 2
        } else {
            self.target.min(self.max / 2)
        };
        (least / 4).clamp(SHORTEST, LONGEST)
    }
}

/// The ages that a child has found at one listener, and what follows from them: a controlled delay.
///
/// A queue is good that absorbs a burst: it gets short again at once. A queue is bad that stands:
/// it only makes each client wait, and the children serve no more for it. The two are told apart by
/// the shortest age within an interval, as CoDel does (Nichols and Jacobson, 2012). While a queue
/// stands, connections are refused from twice the target on (as folly does), so clients are served
/// fast or told at once.
///
/// Each child decides alone, for an age says more than one moment: the queue is first in, first
/// out. If the connection that is taken now has age `a`, then all that were taken within the last
/// `a - target` were older than `target`. So a single old connection proves that the queue stands,
/// even to a child that takes one a minute.
#[derive(Debug)]
pub(crate) struct Shedding {
    limits: AgeLimits,
    /// Since when all ages are above the target, as far as this child knows.
    stands_since: Option<Time>,
    /// When the last age was found.
    last: Time,
}

impl Shedding {
    /// A queue stands when all ages have been above the target for this long. Bursts are shorter.
    pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

    pub(crate) fn new(limits: AgeLimits) -> Self {
        Self {
            limits,
            stands_since: None,
            last: Time::START,
        }
    }

    /// Whether a connection of this `age`, taken at `now`, is too old.
    pub(crate) fn is_too_old(&mut self, age: Duration, now: Time) -> bool {
        self.note(age, now);
        age > self.limit(now)
    }

    /// Whether a connection of at least this `age` at `now` has had three quarters of the time after
    /// which it is too old.
    pub(crate) fn is_soon_too_old(&mut self, age: Duration, now: Time) -> bool {
        self.note(age, now);
        age > self.limit(now) * 3 / 4
    }

    /// Whether a connection of this `age` has had less than half of that time.
    pub(crate) fn is_young(&self, age: Duration, now: Time) -> bool {
        age < self.limit(now) / 2
    }

    fn limit(&self, now: Time) -> Duration {
        let AgeLimits { max, target } = self.limits;
        if self.stands(now) {
            max.min(target * 2)
        } else {
            max
        }
    }

    fn stands(&self, now: Time) -> bool {
        let since = self.stands_since.filter(|_| !self.limits.target.is_zero());
        since.is_some_and(|since| now.since(since) >= Self::INTERVAL)
    }

    fn note(&mut self, age: Duration, now: Time) {
        let proven_for = age.saturating_sub(self.limits.target);
        self.stands_since = if proven_for.is_zero() {
            None
        } else {
            let proven_since = now.before(proven_for);
            // What was found before counts, unless the queue may have been short since.
            let before = self.stands_since;
            let before = before.filter(|_| proven_since.since(self.last) <= Self::INTERVAL);
            Some(before.map_or(proven_since, |before| before.min(proven_since)))
        };
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: Duration = Duration::from_millis(500);
    const TARGET: Duration = Duration::from_millis(20);
    const LIMITS: AgeLimits = AgeLimits {
        max: MAX,
        target: TARGET,
    };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// The verdicts on ages that are found at these times, all in milliseconds.
    fn verdicts(limits: AgeLimits, found: &[(u64, u64)]) -> Vec<bool> {
        let mut shedding = Shedding::new(limits);
        let found = found.iter();
        found
            .map(|&(at, age)| shedding.is_too_old(ms(age), Time::at(ms(at))))
            .collect()
    }

    #[test]
    fn a_burst_is_served_to_its_end() {
        // It came all at once, and the queue gets short within the interval.
        let found: Vec<_> = (0..9).map(|n| (1_000 + n * 10, n * 10)).collect();
        assert_eq!(verdicts(LIMITS, &found), [false; 9]);
    }

    #[test]
    fn a_queue_that_stands_is_cut_to_twice_the_target() {
        let found = [
            (1_000, 50),
            (1_060, 50),
            (1_120, 50),
            (1_121, 40),
            (1_122, 41),
        ];
        let expected = [false, false, true, false, true];
        assert_eq!(verdicts(LIMITS, &found), expected);
    }

    #[test]
    fn one_short_age_ends_it() {
        let found = [
            (1_000, 50),
            (1_120, 50),
            (1_130, 20),
            (1_140, 30),
            (1_160, 50),
        ];
        assert_eq!(verdicts(LIMITS, &found), [false, true, false, false, false]);
    }

    /// The queue is first in, first out: an age above the interval and the target says by itself
    /// that all were older than the target for an interval.
    #[test]
    fn one_old_connection_proves_a_queue_that_stands() {
        let least = Shedding::INTERVAL + TARGET;
        for (age, shed) in [(least, true), (least - ms(1), false)] {
            let mut shedding = Shedding::new(LIMITS);
            assert_eq!(
                shedding.is_too_old(age, Time::at(ms(9_000))),
                shed,
                "{age:?}"
            );
        }
    }

    /// What was found long ago says nothing: the queue may have been short in between.
    #[test]
    fn old_findings_do_not_count() {
        for (then, shed) in [(1_200, true), (5_000, false)] {
            let found = [(1_000, 90), (1_090, 90), (then, 90)];
            assert_eq!(verdicts(LIMITS, &found)[2], shed, "{then}");
        }
    }

    #[test]
    fn a_target_of_zero_leaves_the_plain_limit() {
        let plain = AgeLimits::new(MAX, Some(Duration::ZERO));
        let found: Vec<_> = (0..100).map(|n| (1_000 + n * 10, 500)).collect();
        assert!(verdicts(plain, &found).iter().all(|shed| !shed));
        assert_eq!(verdicts(plain, &[(1_000, 501)]), [true]);
    }

    #[test]
    fn the_target_is_a_tenth_unless_it_is_set() {
        assert_eq!(AgeLimits::new(ms(5_000), None).target, ms(500));
        assert_eq!(AgeLimits::new(ms(50), None).target, ms(20));
        assert_eq!(AgeLimits::new(ms(50), Some(ms(1))).target, ms(1));
    }

    proptest! {
        /// A queue that is first in, first out, with any gaps between clients and any pauses between
        /// accepts: none up to the target is refused, all above the maximum are, and one in between
        /// only if all that were taken within the interval before were above the target.
        #[test]
        fn nobody_is_refused_without_a_reason(
            steps in proptest::collection::vec((0_u64..80, 0_u64..80), 1..300),
        ) {
            let mut shedding = Shedding::new(LIMITS);
            let mut found: Vec<(Time, Duration)> = Vec::new();
            let (mut arrived, mut now) = (1_000, 1_000);
            for (gap, pause) in steps {
                arrived += gap;
                now = arrived.max(now + pause);
                let (age, time) = (ms(now - arrived), Time::at(ms(now)));
                let refused = shedding.is_too_old(age, time);
                found.push((time, age));
                prop_assert!(!(refused && age <= TARGET * 2), "{age:?}");
                prop_assert!(refused || age <= MAX, "{age:?}");
                if refused && age <= MAX {
                    let recent = found.iter().rev();
                    let mut recent = recent.take_while(|(at, _)| time.since(*at) < Shedding::INTERVAL);
                    prop_assert!(recent.all(|(_, age)| *age > TARGET), "{found:?}");
                }
            }
        }
    }
}
