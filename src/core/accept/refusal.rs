//! Why connections are not served, and how many were not. Names and counts; decides nothing.

use std::{fmt, ops::Index};

/// Why a child has not served a connection that it has accepted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Refusal {
    /// The client had reset the connection while it was queued.
    ///
    /// The child looks only where a service may be wasted on it, and before an answer to one that
    /// is [too old](Self::TooOld).
    Gone,
    /// It was queued for too long: see
    /// [`max_queue_age`](crate::servers::StreamServer::max_queue_age).
    TooOld,
    /// Its client may not connect: see [`access`](crate::servers::StreamServer::access).
    Denied,
    /// Its client has as many connections as it may have: see
    /// [`max_per_peer`](crate::servers::StreamServer::max_per_peer).
    TooMany,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gone, Self::TooOld, Self::Denied, Self::TooMany];

    /// Whether a hook may answer the client.
    pub(crate) fn has_an_answer(self) -> bool {
        self == Self::TooOld
    }

    /// In one word, for a line: `gone`, `shed`, `denied`, `too-many`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::TooOld => "shed",
            Self::Denied => "denied",
            Self::TooMany => "too-many",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the client had gone",
            Self::TooOld => "it was queued for too long",
            Self::Denied => "the client may not connect",
            Self::TooMany => "the client has too many connections",
        })
    }
}

/// How many connections were not served, by the reason.
///
/// ```
/// # use prefork_server::servers::{Refusal, Refusals};
/// let none = Refusals::default();
/// assert_eq!(none[Refusal::TooOld], 0);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    pub(crate) fn new(counts: [u64; Refusal::ALL.len()]) -> Self {
        Self(counts)
    }

    /// Those of both.
    pub(crate) fn plus(self, others: Self) -> Self {
        Self(std::array::from_fn(|at| {
            self.0[at].saturating_add(others.0[at])
        }))
    }

    /// For all reasons.
    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons for which there are more than there were `before`, with the difference.
    pub(crate) fn since(self, before: Self) -> impl Iterator<Item = (Refusal, u64)> {
        let more = move |refusal| self[refusal].saturating_sub(before[refusal]);
        let all = Refusal::ALL.into_iter();
        all.map(move |refusal| (refusal, more(refusal)))
            .filter(|(_, more)| *more > 0)
    }
}

impl Index<Refusal> for Refusals {
    type Output = u64;

    fn index(&self, refusal: Refusal) -> &u64 {
        &self.0[refusal as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let counts = Refusals::new([1, 20, 300, 4000]);
        let found = Refusal::ALL.map(|refusal| counts[refusal]);
        assert_eq!((found, counts.all()), ([1, 20, 300, 4000], 4321));
    }

    #[test]
    fn what_is_new_is_told_by_reason() {
        let (before, now) = (Refusals::new([1, 2, 3, 4]), Refusals::new([1, 5, 2, 4]));
        let new: Vec<_> = now.since(before).collect();
        assert_eq!(new, [(Refusal::TooOld, 3)], "a number never gets smaller");
    }
}
