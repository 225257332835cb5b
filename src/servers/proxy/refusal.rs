//! Why a connection was closed before its handler ran, and how often. Counts; closes nothing.

use crate::{core::proxy::Malformed, sys::tally::Tally};
use std::fmt;

/// Why a connection was closed for the lack of a PROXY protocol header.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HeaderRefusal {
    /// It came from an address that is neither trusted nor direct. Not a byte was read.
    Untrusted,
    /// What it began with is no valid header.
    ///
    /// Garbage, a wrong checksum, or too long a one.
    Malformed,
    /// The header was not complete within the time limit.
    Late,
    /// It ended before the header did.
    ///
    /// A balancer that only looks whether the port is open does that.
    Ended,
}

impl HeaderRefusal {
    /// All reasons, in the order of their counters.
    const ALL: [Self; 4] = [Self::Untrusted, Self::Malformed, Self::Late, Self::Ended];
}

impl fmt::Display for HeaderRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untrusted => "it comes from an address that is not trusted",
            Self::Malformed => "its PROXY protocol header is malformed",
            Self::Late => "its PROXY protocol header did not come in time",
            Self::Ended => "it ended before its PROXY protocol header",
        })
    }
}

impl From<Malformed> for HeaderRefusal {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// How many connections all children of a server have refused, by the reason.
///
/// See [`header_refusals`](crate::servers::StreamServer::header_refusals).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HeaderRefusals([u64; HeaderRefusal::ALL.len()]);

impl HeaderRefusals {
    /// How many were refused for `reason`.
    pub fn count(&self, reason: HeaderRefusal) -> u64 {
        self.0[reason as usize]
    }

    /// How many were refused in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for HeaderRefusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = HeaderRefusal::ALL.map(|reason| format!("{} {reason:?}", self.count(reason)));
        write!(f, "refused: {}", counts.join(", "))
    }
}

/// The counters, which children and parent share.
pub(in crate::servers) type HeaderRefusalCounters = Tally<{ HeaderRefusal::ALL.len() }>;

impl HeaderRefusalCounters {
    pub(in crate::servers) fn count(&self, reason: HeaderRefusal) {
        self.add_one(reason as usize);
    }
}

impl From<&HeaderRefusalCounters> for HeaderRefusals {
    fn from(counts: &HeaderRefusalCounters) -> Self {
        Self(counts.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let counts = HeaderRefusalCounters::new().unwrap();
        for (times, reason) in HeaderRefusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, times);
            (0..=times).for_each(|_| counts.count(reason));
        }
        let refusals = HeaderRefusals::from(&counts);
        let text = "refused: 1 Untrusted, 2 Malformed, 3 Late, 4 Ended";
        assert_eq!(refusals.to_string(), text);
        assert_eq!(refusals.total(), 10);
    }
}
