//! When to warn of hooks that take long, while the parent does nothing else. Gets the times as
//! arguments; reads no clock and calls no hook.

use crate::core::time::Time;
use std::time::Duration;

/// From this time on a hook counts as slow: a client that waits for a new child notices. It is not
/// less, because on an overloaded machine any hook may be delayed.
pub(crate) const SLOW: Duration = Duration::from_millis(250);
/// The minimum time between two warnings: a hook that is slow once is often slow again.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// When the last warning was, and how many were left out since.
#[derive(Debug, Default)]
pub(crate) struct SlowHooks {
    last_logged: Option<Time>,
    left_out: u64,
}

impl SlowHooks {
    /// Notes a slow hook. If a warning is due now, returns how many were left out before it.
    pub(crate) fn note(&mut self, now: Time) -> Option<u64> {
        if self
            .last_logged
            .is_some_and(|last_logged| now.since(last_logged) < SAY_EVERY)
        {
            self.left_out += 1;
            return None;
        }
        self.last_logged = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hook that is slow at each call does not fill the log: there is one warning in ten seconds,
    /// with the number of slow calls since the last warning.
    #[test]
    fn c15_slow_hooks_are_said_now_and_then_with_the_number_of_the_others() {
        let mut slow = SlowHooks::default();
        let mut at = |ms| slow.note(Time::at(Duration::from_millis(ms)));
        assert_eq!(at(5), Some(0));
        assert_eq!([at(200), at(9_000), at(10_004)], [None; 3]);
        assert_eq!(at(10_005), Some(3));
        assert_eq!(at(10_006), None);
        assert_eq!(at(3_000_000), Some(1));
    }
}
