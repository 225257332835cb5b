//! When a reserved child takes the next connection from a queue, to turn it away. Decides from looks
//! at the queue and from the age of what was taken; accepts and closes nothing.

use super::{
    queue_log::{QueueLog, QueueLook},
    shedding::{AgeLimits, Shedding},
};
use crate::core::time::Time;
use std::time::Duration;

/// The view that the reserved child has of one queue.
///
/// It takes a connection when that has surely waited for three quarters of what is too old. So the
/// children that serve find none that is too old, and lose no time with any.
///
/// What is sure is sure up to the moment at which the connection is taken. Others may take from the
/// queue in that moment, so the age of each connection is looked at again.
#[derive(Debug)]
pub(crate) struct Sweep {
    log: QueueLog,
    shedding: Shedding,
}

impl Sweep {
    pub(crate) fn new(limits: AgeLimits) -> Self {
        Self {
            log: QueueLog::default(),
            shedding: Shedding::new(limits),
        }
    }

    /// Notes a look at the queue.
    pub(crate) fn note(&mut self, look: QueueLook) {
        self.log.note(look);
    }

    /// Whether to take the next connection, if so many have been taken by `now`.
    pub(crate) fn takes_next(&mut self, taken: u64, now: Time) -> bool {
        let age = self.log.age(taken, now).unwrap_or_default();
        self.shedding.is_soon_too_old(age, now)
    }

    /// Whether a connection of this `age` was taken by mistake: it is to be served.
    pub(crate) fn is_young(&self, age: Duration, now: Time) -> bool {
        self.shedding.is_young(age, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const LIMITS: AgeLimits = AgeLimits {
        max: Duration::from_millis(200),
        target: Duration::from_millis(20),
    };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn look(at: u64, taken: u64, queued: u32) -> QueueLook {
        let at = Time::at(ms(at));
        QueueLook { at, taken, queued }
    }

    #[test]
    fn a_queue_that_nobody_serves_is_cut_to_its_limit() {
        let mut sweep = Sweep::new(LIMITS);
        // One comes every 10 ms. The first look finds the first.
        let mut taken_at = Vec::new();
        let mut taken = 0;
        for now in (0..500).step_by(10) {
            sweep.note(look(now, taken, (now / 10 + 1 - taken) as u32));
            while sweep.takes_next(taken, Time::at(ms(now))) {
                taken_at.push((now, taken));
                taken += 1;
            }
        }
        // It stands when all have been older than the target for 100 ms.
        assert_eq!(taken_at[0], (120, 0));
        assert!(taken_at.iter().all(|(now, came)| now - came * 10 > 30));
        assert_eq!(taken_at.last(), Some(&(490, 45)));
    }

    #[test]
    fn without_a_target_the_limit_is_that_of_all_times() {
        let limits = AgeLimits::new(ms(200), Some(Duration::ZERO));
        let mut sweep = Sweep::new(limits);
        sweep.note(look(1_000, 0, 5));
        let takes = [1_100, 1_150, 1_151].map(|now| sweep.takes_next(0, Time::at(ms(now))));
        assert_eq!(takes, [false, false, true]);
        let young = [99, 100].map(|age| sweep.is_young(ms(age), Time::at(ms(1_151))));
        assert_eq!(young, [true, false]);
    }

    proptest! {
        /// Whatever comes, and whatever the others take: the reserved child takes no client that has
        /// waited for less than three quarters of twice the target.
        #[test]
        fn nobody_is_taken_too_soon(
            steps in proptest::collection::vec((0_u64..12, 0_u32..4, 0_usize..3, any::<bool>()), 1..400),
        ) {
            let mut sweep = Sweep::new(LIMITS);
            let (mut queue, mut now, mut taken) = (VecDeque::new(), 0, 0);
            for (pause, come, go, looks) in steps {
                now += pause;
                queue.extend((0..come).map(|_| now));
                taken += queue.drain(..queue.len().min(go)).count() as u64;
                if looks {
                    sweep.note(look(now, taken, queue.len() as u32));
                }
                while sweep.takes_next(taken, Time::at(ms(now))) {
                    let came: u64 = queue.pop_front().unwrap();
                    taken += 1;
                    prop_assert!(ms(now - came) > LIMITS.target * 3 / 2, "{}", now - came);
                }
            }
        }
    }
}
