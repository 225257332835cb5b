//! How long connections were queued, as a histogram for each listener: the numbers of a child and of
//! all children. Counts no connection itself, and believes no number that cannot be true.

use super::metrics::Distribution;
use std::time::Duration;

/// The upper bounds of the buckets, in milliseconds. The kernel counts in ticks of up to 4 ms.
const BOUNDS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];
const BUCKETS: usize = BOUNDS.len() + 1;

/// How many listeners have a histogram of their own. The last one has those of all further ones.
pub(crate) const LISTENERS: usize = 12;
/// The numbers of a listener: the buckets, and the sum in nanoseconds.
const ROW: usize = BUCKETS + 1;
/// The numbers of all listeners.
pub(crate) const QUEUE_WORDS: usize = LISTENERS * ROW;

/// No child takes as many connections, and none was queued for longer than a day.
const MOST: u64 = 1 << 40;
const LONGEST: u64 = 24 * 60 * 60 * 1_000_000_000;

/// The two places that a connection counts at: that of its bucket, and that of the sum.
pub(crate) fn places(listener: usize, queued: Duration) -> (usize, usize) {
    let start = listener.min(LISTENERS - 1) * ROW;
    let bucket = BOUNDS.partition_point(|&bound| Duration::from_millis(bound) < queued);
    (start + bucket, start + BUCKETS)
}

/// The numbers of a child, or of several.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct QueueTimes([u64; QUEUE_WORDS]);

impl Default for QueueTimes {
    fn default() -> Self {
        Self([0; QUEUE_WORDS])
    }
}

impl QueueTimes {
    pub(crate) fn read(word: impl Fn(usize) -> u64) -> Self {
        Self(std::array::from_fn(word))
    }

    pub(crate) fn words(&self) -> [u64; QUEUE_WORDS] {
        self.0
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Adds the numbers of a child, unless its numbers are impossible.
    pub(crate) fn add(&mut self, childs: &Self) {
        if childs.is_believable() {
            for (sum, more) in self.0.iter_mut().zip(childs.0) {
                *sum = sum.saturating_add(more);
            }
        }
    }

    /// Takes what is found now in the place of what was found before: no number gets smaller.
    #[cfg(feature = "status")]
    pub(crate) fn follow(&mut self, now: &Self) {
        for (before, now) in self.0.iter_mut().zip(now.0) {
            *before = now.max(*before);
        }
    }

    fn rows(&self) -> impl Iterator<Item = (&[u64], u64)> {
        let (rows, _) = self.0.as_chunks::<ROW>();
        rows.iter().map(|row| (&row[..BUCKETS], row[BUCKETS]))
    }

    fn is_believable(&self) -> bool {
        self.rows().all(|(counts, sum)| {
            let few = counts.iter().all(|&count| count < MOST);
            let count: u64 = counts.iter().map(|&count| count.min(MOST)).sum();
            few && sum <= count.saturating_mul(LONGEST)
        })
    }

    /// The histograms of the listeners, up to the last one that has any observation.
    pub(crate) fn distributions(&self) -> Vec<Distribution> {
        let rows = self.rows().map(|(counts, sum)| Distribution {
            bounds: BOUNDS.iter().map(|&bound| bound as f64 / 1e3).collect(),
            counts: counts.to_vec(),
            sum: Duration::from_nanos(sum).as_secs_f64(),
        });
        let mut found: Vec<_> = rows.collect();
        while found.pop_if(|last| last.count() == 0).is_some() {}
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(connections: &[(usize, u64)]) -> QueueTimes {
        let mut words = [0; QUEUE_WORDS];
        for &(listener, milliseconds) in connections {
            let queued = Duration::from_millis(milliseconds);
            let (bucket, sum) = places(listener, queued);
            words[bucket] += 1;
            words[sum] += queued.as_nanos() as u64;
        }
        QueueTimes(words)
    }

    #[test]
    fn a_connection_counts_in_the_first_bucket_that_holds_it() {
        let found = of(&[(0, 0), (0, 5), (0, 6), (2, 60_000), (99, 1)]).distributions();
        assert_eq!(found.len(), LISTENERS);
        assert_eq!(found[0].counts[..3], [2, 1, 0]);
        assert_eq!((found[0].sum, found[0].count()), (0.011, 3));
        assert_eq!(found[1].count(), 0);
        assert_eq!((found[2].counts[BUCKETS - 1], found[2].sum), (1, 60.0));
        assert_eq!(found[LISTENERS - 1].count(), 1);
        assert_eq!(of(&[(1, 1)]).distributions().len(), 2);
        assert_eq!(of(&[]).distributions(), []);
    }

    #[test]
    fn nonsense_of_a_child_is_left_out() {
        let honest = of(&[(0, 4)]);
        for (at, word) in [(0, MOST), (BUCKETS, LONGEST + 1), (QUEUE_WORDS - 1, 1)] {
            let mut lying = honest.clone();
            lying.0[at] = word;
            let mut sum = honest.clone();
            sum.add(&lying);
            assert_eq!(sum, honest, "{at} {word}");
        }
        let mut sum = honest.clone();
        sum.add(&honest);
        assert_eq!(sum, of(&[(0, 4), (0, 4)]));
    }

    proptest! {
        /// Sums never go down, whatever children have written.
        #[test]
        fn sums_only_grow(seeds in prop::collection::vec(any::<u64>(), 1..6)) {
            let mut sum = QueueTimes::default();
            for seed in seeds {
                let before = sum.clone();
                sum.add(&QueueTimes::read(|at| seed.wrapping_mul(at as u64 | 1) >> (seed % 64)));
                prop_assert!(sum.0.iter().zip(before.0).all(|(now, then)| *now >= then));
            }
        }
    }
}
