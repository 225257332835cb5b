//! The latencies of a load, counted in buckets.

use super::*;

/// Latencies in microseconds, counted; nothing is allocated while the load runs.
pub(super) struct Latencies {
    counts: Vec<u32>,
    pub(super) total: u64,
}

impl Latencies {
    const LONGEST: usize = 1 << 22;

    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; Self::LONGEST],
            total: 0,
        }
    }

    pub(super) fn forget(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    pub(super) fn note(&mut self, latency: Duration) {
        let micros = usize::try_from(latency.as_micros()).unwrap_or(usize::MAX);
        self.counts[micros.min(Self::LONGEST - 1)] += 1;
        self.total += 1;
    }

    pub(super) fn quantile(&self, share: f64) -> usize {
        let wanted = ((self.total as f64 * share) as u64).min(self.total.saturating_sub(1));
        let mut seen = 0;
        let reaches = |&count: &u32| {
            seen += u64::from(count);
            seen > wanted
        };
        self.counts.iter().position(reaches).unwrap_or(0)
    }
}
