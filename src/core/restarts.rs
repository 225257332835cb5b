//! When a holder starts the next parent, after one that has not announced its end. Decides; starts
//! nothing and reads no clock.

use std::time::Duration;

/// A parent that lives for longer than this has not failed quickly.
const QUICK: Duration = Duration::from_millis(100);
/// So many quick ends in a row cost no delay.
const UNDELAYED: u32 = 8;
/// So many parents in a row may end before they have completed a turn.
const STARTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// What comes after the end of a parent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RestartDecision {
    /// The next parent, after this time.
    Start { after: Duration },
    /// No parent comes to work: the server ends.
    GiveUp,
}

/// The parents that have ended one after the other.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    /// How many in a row have ended before they had completed a turn.
    failed: u32,
    /// How many in a row have ended soon after that.
    quick: u32,
}

impl Restarts {
    /// A parent is gone that has lived that long; `settled` if it had completed a turn.
    ///
    /// One that dies in its start would do so forever. One that dies later is worth another, since
    /// its children serve.
    pub(crate) fn ended(&mut self, settled: bool, lived: Duration) -> RestartDecision {
        if settled {
            self.failed = 0;
            self.quick = if lived < QUICK { self.quick + 1 } else { 0 };
            let after = delay(self.quick, UNDELAYED);
            return RestartDecision::Start { after };
        }
        self.failed += 1;
        match self.failed {
            STARTS.. => RestartDecision::GiveUp,
            failed => RestartDecision::Start {
                after: delay(failed, 1),
            },
        }
    }
}

/// The delay after that many failures in a row, of which some cost none.
fn delay(failures: u32, undelayed: u32) -> Duration {
    match failures.checked_sub(undelayed + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_DELAY
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(LONGEST_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(milliseconds: u64) -> RestartDecision {
        RestartDecision::Start {
            after: Duration::from_millis(milliseconds),
        }
    }

    #[test]
    fn a_parent_that_dies_in_its_start_is_tried_five_times() {
        let mut restarts = Restarts::default();
        let ends = [(); 5].map(|()| restarts.ended(false, Duration::from_secs(9)));
        let expected = [
            start(0),
            start(100),
            start(200),
            start(400),
            RestartDecision::GiveUp,
        ];
        assert_eq!(ends, expected);
    }

    #[test]
    fn a_start_that_works_forgives_those_that_have_not() {
        let mut restarts = Restarts::default();
        for _ in 0..100 {
            for _ in 0..4 {
                assert_ne!(
                    restarts.ended(false, Duration::ZERO),
                    RestartDecision::GiveUp
                );
            }
            assert_eq!(restarts.ended(true, QUICK), start(0));
        }
    }

    /// Parents that end soon after their start are never given up, and are no fork bomb either.
    #[test]
    fn quick_ends_in_a_row_are_delayed_by_a_second_at_the_most() {
        let mut restarts = Restarts::default();
        let ends: Vec<RestartDecision> = (0..20)
            .map(|_| restarts.ended(true, Duration::from_millis(5)))
            .collect();
        assert_eq!(ends[..8], [start(0); 8]);
        assert_eq!(ends[8..12], [100, 200, 400, 800].map(start));
        assert_eq!(ends[12..], [start(1000); 8]);
        assert_eq!(restarts.ended(true, QUICK), start(0), "one has lived on");
        assert_eq!(restarts.ended(true, Duration::ZERO), start(0));
    }
}
