//! How many children a shortage is met with: one, and more and more while shortage follows on
//! shortage. Decides; never forks and never reads a clock.

use crate::time::Time;
use std::time::Duration;

/// A shortage that comes later than this after the last one is the first of its kind.
const CALM: Duration = Duration::from_millis(100);

/// What Apache's prefork does with its spawn rate, but by shortage instead of by the second.
///
/// A child that was forked for a burst is busy as soon as it accepts, so the pool is short again a
/// moment later. Forking only what is missing, a burst is met by as many waves as it has clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ramp {
    last: Option<(usize, Time)>,
}

impl Ramp {
    /// How many forks a shortage deserves now, at most `most`.
    pub(crate) fn forks(&self, most: usize, now: Time) -> usize {
        let forks = match self.last {
            Some((forks, at)) if now < at + CALM => forks.saturating_mul(2),
            _ => 1,
        };
        forks.min(most)
    }

    /// Takes note that a shortage is met with `forks`.
    pub(crate) fn met(&mut self, forks: usize, now: Time) {
        self.last = Some((forks, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::at(Duration::from_millis(millis))
    }

    #[test]
    fn forks_double_while_shortage_follows_on_shortage() {
        let mut ramp = Ramp::default();
        let mut met = |most, millis| {
            let forks = ramp.forks(most, at(millis));
            ramp.met(forks, at(millis));
            forks
        };
        let series: Vec<usize> = (0..6).map(|n| met(8, n * 99)).collect();
        assert_eq!(series, [1, 2, 4, 8, 8, 8]);
        assert_eq!(met(8, 495 + 100), 1, "it was calm for long enough");
        assert_eq!(met(8, 596), 2);
        assert_eq!(met(1, 597), 1, "the attribute was lowered");
        assert_eq!(met(8, 598), 2);
    }
}
