//! Why a connection is not served. Names the reasons; decides nothing.

use std::fmt;

/// Why a child has not served a connection that it has accepted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Refusal {
    /// The client had reset the connection while it was queued.
    Gone,
    /// It was queued for too long: see
    /// [`max_queue_age`](crate::servers::StreamServer::max_queue_age).
    TooOld,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the client had gone",
            Self::TooOld => "it was queued for too long",
        })
    }
}
