//! How long the connections of a queue have waited at least, found without accepting one. Compares
//! looks at the queue that it is told of; looks at nothing itself.

use crate::core::time::Time;
use std::{collections::VecDeque, time::Duration};

/// A look at a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct QueueLook {
    pub(crate) at: Time,
    /// How many connections had been taken from the queue, before its length was read.
    pub(crate) taken: u64,
    pub(crate) queued: u32,
}

impl QueueLook {
    /// How many had come by then, or more.
    fn come(self) -> u64 {
        self.taken.saturating_add(self.queued.into())
    }
}

/// The last looks at a queue that is first in, first out.
///
/// The kernel tells the age of a connection once it is accepted, and of none before. But if fewer
/// connections have been taken since a look than were in the queue then, the others are still
/// there: if 100 were queued 50 ms ago and 70 have been taken since, the next 30 have waited for 50
/// ms and more.
///
/// A connection that was taken and is not counted yet makes the queue seem older by the time between
/// two arrivals. Its child is about to count it.
#[derive(Debug, Default)]
pub(crate) struct QueueLog {
    looks: VecDeque<QueueLook>,
}

impl QueueLog {
    /// More looks are not kept: what is found then is a shorter time than it was.
    const MOST: usize = 256;

    /// Notes a look.
    pub(crate) fn note(&mut self, look: QueueLook) {
        self.forget_served(look.taken);
        self.forget_uncounted(look);
        let is_news = self
            .looks
            .back()
            .is_none_or(|last| last.come() < look.come());
        if is_news && self.looks.len() < Self::MOST {
            self.looks.push_back(look);
        }
    }

    /// For how long at least the next connection has waited, if so many have been taken by `now`.
    /// `None` if it may have come just now, or there is none.
    pub(crate) fn age(&mut self, taken: u64, now: Time) -> Option<Duration> {
        self.forget_served(taken);
        self.looks.front().map(|look| now.since(look.at))
    }

    /// Of those who were there at an early look, all may have been taken.
    fn forget_served(&mut self, taken: u64) {
        while self.looks.front().is_some_and(|look| look.come() <= taken) {
            self.looks.pop_front();
        }
    }

    /// Of those who were there at early looks, more are missing than have been counted: a child may
    /// have been killed before it counted. Those who are there still are as old as they were.
    fn forget_uncounted(&mut self, now: QueueLook) {
        let mut since = None;
        while let Some(last) = self.looks.back()
            && last.come() > now.come()
        {
            since = Some(last.at);
            self.looks.pop_back();
        }
        if let Some(at) = since {
            self.looks.push_back(QueueLook { at, ..now });
            self.forget_served(now.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(milliseconds: u64) -> Time {
        Time::at(Duration::from_millis(milliseconds))
    }

    fn look(at: u64, taken: u64, queued: u32) -> QueueLook {
        let at = ms(at);
        QueueLook { at, taken, queued }
    }

    #[test]
    fn who_was_there_and_was_not_taken_is_as_old_as_the_look() {
        let mut log = QueueLog::default();
        assert_eq!(log.age(0, ms(5)), None);
        log.note(look(10, 0, 3));
        log.note(look(20, 1, 4));
        let ages = [(1, 30), (2, 30), (3, 30), (4, 30), (5, 30)];
        let found = ages.map(|(taken, now)| log.age(taken, ms(now)));
        let [ten, twenty] = [10, 20].map(|age| Some(Duration::from_millis(age)));
        assert_eq!(found, [twenty, twenty, ten, ten, None]);
    }

    #[test]
    fn an_empty_queue_is_not_noted() {
        let mut log = QueueLog::default();
        log.note(look(10, 7, 0));
        assert_eq!(log.age(7, ms(500)), None);
    }

    /// Without that it would be said forever that one client waits.
    #[test]
    fn who_was_taken_by_a_child_that_has_not_counted_is_forgotten() {
        let mut log = QueueLog::default();
        log.note(look(10, 0, 5));
        log.note(look(20, 4, 0));
        assert_eq!(log.age(4, ms(500)), None);
        log.note(look(600, 4, 3));
        log.note(look(700, 4, 4));
        // Two have been taken, and one of them was counted.
        log.note(look(800, 5, 2));
        let ages = [5, 6, 7].map(|taken| log.age(taken, ms(900)));
        let age = |milliseconds| Some(Duration::from_millis(milliseconds));
        assert_eq!(ages, [age(300), age(300), None]);
    }

    #[test]
    fn a_long_log_errs_on_the_young_side() {
        let mut log = QueueLog::default();
        for at in 0..10_000 {
            log.note(look(at, 0, 1 + at as u32));
        }
        assert_eq!(log.looks.len(), QueueLog::MOST);
        assert_eq!(log.age(0, ms(10_000)), Some(Duration::from_secs(10)));
        assert_eq!(log.age(QueueLog::MOST as u64, ms(10_000)), None);
    }

    proptest! {
        /// Whatever comes and is taken when, between two looks and during a look: no client is said to
        /// have waited for longer than it has, and who has been there at a look is not said to be
        /// younger than that.
        #[test]
        fn nobody_is_said_to_be_older_than_it_is(
            steps in proptest::collection::vec((0_u64..30, 0_u32..6, 0_u32..6, any::<bool>()), 1..200),
        ) {
            let (mut log, mut queue, mut now, mut taken) = (QueueLog::default(), VecDeque::new(), 0, 0);
            let mut last_look = 0;
            for (pause, come, go, looks) in steps {
                now += pause;
                queue.extend((0..come).map(|_| now));
                let before = taken;
                let gone = queue.drain(..queue.len().min(go as usize)).count() as u64;
                taken += gone;
                if looks {
                    // Some were taken between the two readings.
                    log.note(look(now, before, queue.len() as u32));
                    last_look = now;
                }
                let said = log.age(taken, ms(now)).map(|age| age.as_millis() as u64);
                let is = queue.front().map(|came| now - came);
                prop_assert!(said.is_none() || said <= is, "{said:?} {is:?}");
                let _ = last_look;
            }
        }
    }
}
