//! Samples of the last minute, and rates over spans of it. The caller takes the samples; nothing here
//! reads a clock.

use crate::core::time::Time;
use std::{collections::VecDeque, time::Duration};

/// How often a sample is taken.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// How many are kept: those of a minute, and one at its beginning.
const KEPT: usize = 61;

/// The spans for which rates are told, in seconds.
pub(crate) const SPANS: [u64; 3] = [1, 10, 60];

/// What is sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Time,
    /// How many connections were taken since the start.
    pub(crate) connections: u64,
    /// How many children have one in hand.
    pub(crate) busy: u64,
    /// How many children there are.
    pub(crate) children: u64,
    /// How many connections with a known time in the queue there were, and the sum of these times.
    pub(crate) queued_count: u64,
    pub(crate) queued_seconds: f64,
}

/// The samples of the last minute, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    samples: VecDeque<Sample>,
}

impl History {
    /// Keeps a sample, which is not older than the last one.
    pub(crate) fn keep(&mut self, sample: Sample) {
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// When the next sample is due.
    pub(crate) fn next_at(&self) -> Time {
        let last = self.samples.back();
        last.map_or(Time::START, |last| last.at + EVERY)
    }

    /// Connections a second over the span that ends with `now`; `None` before there is any.
    ///
    /// It begins with the last sample that is old enough, or with the oldest.
    pub(crate) fn rate(&self, now: &Sample, span: Duration) -> Option<f64> {
        let begins = now.at.before(span);
        let old = self.samples.iter().rev().find(|then| then.at <= begins);
        let then = old.or(self.samples.front())?;
        per_second(then, now)
    }

    /// For each second of the past, the oldest first: what `measure` makes of its first and its last
    /// sample.
    pub(crate) fn seconds<'a, T: 'a>(
        &'a self,
        measure: impl Fn(&Sample, &Sample) -> T + 'a,
    ) -> impl Iterator<Item = T> + 'a {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        pairs.map(move |(then, now)| measure(then, now))
    }
}

/// Connections a second between two samples. A child that had lied may be gone since: then fewer
/// have been taken now than before, which counts as none.
pub(crate) fn per_second(then: &Sample, now: &Sample) -> Option<f64> {
    let took = now.at.since(then.at).as_secs_f64();
    // OK to lose digits.
    let taken = now.connections.saturating_sub(then.connections) as f64;
    (took > 0.0).then(|| taken / took)
}

/// The mean time in the queue between two samples, in seconds; `None` if nothing was queued.
pub(crate) fn mean_queued(then: &Sample, now: &Sample) -> Option<f64> {
    let count = now.queued_count.saturating_sub(then.queued_count);
    let mean = (now.queued_seconds - then.queued_seconds) / count as f64;
    (count > 0).then(|| mean.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(milliseconds: u64, connections: u64) -> Sample {
        Sample {
            at: Time::at(Duration::from_millis(milliseconds)),
            connections,
            ..Sample::default()
        }
    }

    #[test]
    fn a_rate_is_that_of_its_span() {
        let mut history = History::default();
        let now = sample(100_500, 1_000);
        assert_eq!(history.rate(&now, Duration::from_secs(1)), None);
        // A hundred a second, and none in the last ten.
        for second in 0..=100 {
            history.keep(sample(second * 1_000, second.min(90) * 100));
        }
        let now = sample(100_500, 9_000);
        let rate = |seconds| history.rate(&now, Duration::from_secs(seconds)).unwrap();
        assert_eq!(rate(1), 0.0);
        assert_eq!(rate(10), 0.0);
        assert!((rate(60) - 5_000.0 / 60.5).abs() < 1.0, "{}", rate(60));
        assert_eq!(history.seconds(per_second).count(), 60);
    }

    #[test]
    fn the_mean_is_that_of_the_connections_between_two_samples() {
        let with = |queued_count, queued_seconds| Sample {
            queued_count,
            queued_seconds,
            ..Sample::default()
        };
        assert_eq!(mean_queued(&with(2, 1.0), &with(6, 3.0)), Some(0.5));
        assert_eq!(mean_queued(&with(2, 1.0), &with(2, 1.0)), None);
        assert_eq!(mean_queued(&with(2, 9.0), &with(3, 3.0)), Some(0.0));
    }

    proptest! {
        /// Whatever is sampled: rates are finite and not negative, and memory is bounded.
        #[test]
        fn rates_are_numbers(steps in prop::collection::vec((0_u64..3_000, any::<u64>()), 0..150)) {
            let (mut history, mut at) = (History::default(), 0);
            for (pause, connections) in steps {
                at += pause;
                let now = sample(at, connections);
                for span in SPANS {
                    let rate = history.rate(&now, Duration::from_secs(span));
                    prop_assert!(rate.is_none_or(|rate| rate.is_finite() && rate >= 0.0));
                }
                history.keep(now);
                prop_assert!(history.samples.len() <= KEPT);
            }
        }
    }
}
