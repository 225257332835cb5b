//! How long a child pauses when accept(2) fails for a reason that may pass. Decides; does not
//! sleep.

use std::time::Duration;

/// A pause before the next attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RetryPause {
    pub(crate) duration: Duration,
    /// Whether it is the first pause of its episode: only this one is logged.
    pub(crate) is_first: bool,
}

/// Failed calls of accept(2), one after the other.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    /// The last pause of this episode.
    pause: Option<Duration>,
    /// How many connections in a row the system has forbidden.
    forbidden: u32,
}

impl Shortage {
    const SHORTEST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);
    /// After this many forbidden connections in a row, all are taken to be forbidden.
    const ALL: u32 = 64;

    /// An attempt has succeeded.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// The process or the system has run out of descriptors or memory.
    pub(crate) fn exhausted(&mut self) -> RetryPause {
        let duration = self.pause.map_or(Self::SHORTEST, |pause| {
            pause.saturating_mul(2).min(Self::LONGEST)
        });
        let is_first = self.pause.replace(duration).is_none();
        RetryPause { duration, is_first }
    }

    /// A connection was forbidden. A few of them cause no pause, because other clients may be
    /// allowed.
    pub(crate) fn forbidden(&mut self) -> Option<RetryPause> {
        self.forbidden = self.forbidden.saturating_add(1);
        (self.forbidden >= Self::ALL).then(|| self.exhausted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_the_first_is_told() {
        let mut shortage = Shortage::default();
        for _ in 0..2 {
            let pauses: Vec<_> = (0..9).map(|_| shortage.exhausted()).collect();
            let lengths: Vec<_> = pauses.iter().map(|p| p.duration.as_millis()).collect();
            assert_eq!(lengths, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
            assert!(pauses[0].is_first && !pauses[1..].iter().any(|p| p.is_first));
            shortage.end();
        }
    }

    #[test]
    fn a_few_forbidden_connections_cost_no_pause() {
        let mut shortage = Shortage::default();
        for _ in 0..3 {
            assert!((1..64).all(|_| shortage.forbidden().is_none()));
            let pause = shortage.forbidden().expect("a pause");
            assert!(pause.is_first);
            assert!(shortage.forbidden().is_some_and(|pause| !pause.is_first));
            shortage.end();
        }
    }
}
