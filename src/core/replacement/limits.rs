//! The limits of one child: connections, age, memory. A limit is spread, so that children that were
//! forked together do not reach it together. Computes; knows no child.

use crate::core::time::Time;
use std::time::Duration;

/// Spreads the limits of one child over the last part of the way to the limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Spread {
    /// The attribute `limit_jitter`, in per cent.
    pub(crate) percent: usize,
    /// Differs from child to child.
    pub(crate) seed: u32,
}

impl Spread {
    /// A number from 0 up to the spread of `limit`, the same at each call.
    fn of(self, limit: u64) -> u64 {
        let span = u128::from(limit) * self.percent.min(100) as u128 / 100;
        // The upper half of the product: a number below `span + 1`, whatever the span.
        let part = ((span + 1) * u128::from(mixed(self.seed))) >> 64;
        // OK to cast because it is not above the limit.
        part as u64
    }
}

/// Turns neighbouring seeds into numbers far apart (the finaliser of SplitMix64).
fn mixed(seed: u32) -> u64 {
    let mut bits = (u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Where a child becomes due to be replaced: at the limit or a little before it. `None` for no
/// limit.
pub(crate) fn soft(limit: u64, spread: Spread) -> Option<u64> {
    (limit > 0).then(|| (limit - spread.of(limit)).max(1))
}

/// Where a child is stopped without a successor: a tenth above the limit.
pub(crate) fn hard(limit: u64) -> u64 {
    limit.saturating_add(limit / 10)
}

/// The limits that the parent keeps for a child.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Limits {
    /// Zero for none.
    pub(crate) lifetime: Duration,
    /// In bytes; zero for none.
    pub(crate) memory: u64,
    pub(crate) percent: usize,
}

/// How a child stands to a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    Within,
    /// It is to be replaced.
    Due,
    /// It is to be stopped, successor or not.
    Over,
}

impl Limits {
    fn spread(self, seed: u32) -> Spread {
        Spread {
            percent: self.percent,
            seed,
        }
    }

    fn nanos(self) -> u64 {
        u64::try_from(self.lifetime.as_nanos()).unwrap_or(u64::MAX)
    }

    /// When a child becomes due because of its age.
    pub(crate) fn due_at(self, start: Time, seed: u32) -> Option<Time> {
        let soft = soft(self.nanos(), self.spread(seed))?;
        Some(start + Duration::from_nanos(soft))
    }

    /// When a child is stopped because of its age.
    pub(crate) fn over_at(self, start: Time) -> Option<Time> {
        (!self.lifetime.is_zero()).then(|| start + Duration::from_nanos(hard(self.nanos())))
    }

    pub(crate) fn age(self, start: Time, seed: u32, now: Time) -> Standing {
        let reached = |at: Option<Time>| at.is_some_and(|at| at <= now);
        match (
            reached(self.over_at(start)),
            reached(self.due_at(start, seed)),
        ) {
            (true, _) => Standing::Over,
            (false, true) => Standing::Due,
            (false, false) => Standing::Within,
        }
    }

    /// How a child stands that has `bytes` of private memory.
    pub(crate) fn memory(self, seed: u32, bytes: u64) -> Standing {
        match soft(self.memory, self.spread(seed)) {
            Some(_) if bytes > hard(self.memory) => Standing::Over,
            Some(soft) if bytes >= soft => Standing::Due,
            _ => Standing::Within,
        }
    }
}
