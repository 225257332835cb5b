//! How fast the client must be: the time for which a child waits for it, against the bytes that move.
//! Adds and compares; reads no clock.

use std::time::Duration;

/// The least speed of a client: see [`Conn::set_min_rate`](super::Conn::set_min_rate).
///
/// ```
/// # use prefork_server::servers::conn::MinRate;
/// # use std::time::Duration;
/// // As Apache's mod_reqtimeout for the head of a request: 20 s, and a second for each 500 bytes.
/// let rate = MinRate::new(500).after(Duration::from_secs(20));
/// # let _ = rate;
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct MinRate {
    bytes_per_second: u32,
    after: Duration,
    at_most: Option<Duration>,
}

impl MinRate {
    /// So many bytes a second at the least. Zero counts as one.
    pub fn new(bytes_per_second: u32) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            after: Duration::from_secs(20),
            at_most: None,
        }
    }

    /// How long the child waits in any case, with no byte moved. Default: 20 s.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// How long the child waits at most, however many bytes move.
    ///
    /// Default: no limit.
    #[must_use]
    pub fn at_most(mut self, time: Duration) -> Self {
        self.at_most = Some(time);
        self
    }

    /// How long the child waits for a client that has moved so many bytes.
    fn allows(self, bytes: u64) -> Duration {
        let rate = u64::from(self.bytes_per_second);
        let rest = (bytes % rate) * 1_000_000_000 / rate;
        let earned = Duration::from_secs(bytes / rate) + Duration::from_nanos(rest);
        let allowed = self.after.saturating_add(earned);
        self.at_most.map_or(allowed, |most| most.min(allowed))
    }
}

/// What a client has done since its rate was set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    rate: MinRate,
    bytes: u64,
    waited: Duration,
}

impl Pace {
    pub(super) fn new(rate: MinRate) -> Self {
        Self {
            rate,
            bytes: 0,
            waited: Duration::ZERO,
        }
    }

    /// How much longer the child waits for this client; zero if it is too slow.
    pub(super) fn left(self) -> Duration {
        self.rate.allows(self.bytes).saturating_sub(self.waited)
    }

    /// The pace after an operation that took `time` and moved `bytes`.
    pub(super) fn after(self, time: Duration, bytes: usize) -> Self {
        Self {
            bytes: self.bytes.saturating_add(bytes as u64),
            waited: self.waited.saturating_add(time),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn apaches() -> MinRate {
        MinRate::new(500).after(20 * SECOND).at_most(40 * SECOND)
    }

    #[test]
    fn bytes_earn_time_up_to_the_most() {
        for (bytes, seconds) in [(0, 20.0), (250, 20.5), (5_000, 30.0), (10_000, 40.0)] {
            assert_eq!(apaches().allows(bytes).as_secs_f64(), seconds, "{bytes}");
        }
        assert_eq!(apaches().allows(u64::MAX), 40 * SECOND);
    }

    #[test]
    fn a_client_below_the_rate_has_no_time_left_in_the_end() {
        let mut pace = Pace::new(apaches());
        for second in 1..=200 {
            pace = pace.after(SECOND, 100);
            // It loses 0.8 s a second.
            assert_eq!(pace.left().is_zero(), second >= 25, "{second}");
        }
    }

    #[test]
    fn a_client_at_the_rate_may_take_for_ever() {
        let mut pace = Pace::new(MinRate::new(500).after(SECOND));
        for _ in 0..10_000 {
            pace = pace.after(SECOND, 500);
            assert_eq!(pace.left(), SECOND);
        }
    }

    /// Time in which the child does not wait for its client costs nothing.
    #[test]
    fn a_fast_client_keeps_its_time() {
        let pace = Pace::new(apaches()).after(Duration::ZERO, 0);
        assert_eq!(pace.left(), 20 * SECOND);
    }

    proptest! {
        #[test]
        fn no_numbers_overflow(
            rate: u32, after: Duration, most: Option<Duration>, steps: Vec<(Duration, usize)>,
        ) {
            let rate = MinRate { at_most: most, ..MinRate::new(rate).after(after) };
            let mut pace = Pace::new(rate);
            for (time, bytes) in steps {
                let left = pace.left();
                pace = pace.after(time, bytes);
                prop_assert!(pace.left() <= rate.allows(pace.bytes));
                prop_assert!(bytes > 0 || pace.left() <= left);
            }
        }
    }
}
