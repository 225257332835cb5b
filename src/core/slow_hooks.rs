//! Hooks that take long, and the parent does nothing else meanwhile: which to speak of, and how often.
//! Is told the times; reads no clock and calls no hook.

use crate::core::time::Time;
use std::time::Duration;

/// From when on a hook is slow: a client who waits for a newcomer notices. Not less, since on a machine
/// with too much to do any hook may have to wait for a while.
pub(crate) const SLOW: Duration = Duration::from_millis(250);
/// How often that is said at the most: what is slow once is often slow again.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// When it was said last, and what has gone unsaid since.
#[derive(Debug, Default)]
pub(crate) struct SlowHooks {
    said: Option<Time>,
    unsaid: u64,
}

impl SlowHooks {
    /// Takes note of a slow hook. If it is to be said now: how many were left unsaid before it.
    pub(crate) fn note(&mut self, now: Time) -> Option<u64> {
        if self.said.is_some_and(|said| now.since(said) < SAY_EVERY) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hook that is slow at each call fills no log: one warning in ten seconds, with the number of
    /// those that went without.
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
