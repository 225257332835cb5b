//! The interval of ACKs as a number, for memory that parent and children share. Sends nothing.

use std::time::Duration;

/// An interval of ACKs; `None` means that the child sends no ACKs by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Interval(pub(crate) Option<Duration>);

impl Interval {
    const NONE: u64 = 1;

    /// The interval as a number. Zero means "not set", because new memory is zero.
    pub(crate) fn bits(self) -> u64 {
        let nanoseconds =
            |interval: Duration| u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        self.0.map_or(Self::NONE, |interval| {
            nanoseconds(interval).max(Self::NONE + 1)
        })
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            0 => None,
            Self::NONE => Some(Self(None)),
            nanoseconds => Some(Self(Some(Duration::from_nanos(nanoseconds)))),
        }
    }

    /// Whether a child that keeps this interval is never silent for longer than `other` allows.
    pub(crate) fn satisfies(self, other: Self) -> bool {
        match (self.0, other.0) {
            (_, None) => true,
            (Some(kept), Some(asked)) => kept <= asked,
            (None, Some(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_comes_through_and_new_memory_says_nothing() {
        assert_eq!(Interval::from_bits(0), None);
        let second = Some(Duration::from_secs(1));
        for interval in [None, Some(Duration::from_nanos(2)), second] {
            let interval = Interval(interval);
            assert_eq!(Interval::from_bits(interval.bits()), Some(interval));
        }
        assert_ne!(Interval(Some(Duration::ZERO)).bits(), Interval(None).bits());
        assert_eq!(Interval(Some(Duration::MAX)).bits(), u64::MAX);
    }

    #[test]
    fn who_acks_as_often_or_more_often_satisfies() {
        let ms = |ms| Interval(Some(Duration::from_millis(ms)));
        assert!(ms(400).satisfies(ms(400)) && ms(100).satisfies(ms(400)));
        assert!(!ms(401).satisfies(ms(400)) && !Interval(None).satisfies(ms(400)));
        assert!(ms(400).satisfies(Interval(None)) && Interval(None).satisfies(Interval(None)));
    }
}
