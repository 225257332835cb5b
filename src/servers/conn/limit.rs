//! The limits of a connection's buffers, as an error. Names the limit; enforces nothing.

use std::{fmt, io, time::Duration};

/// A limit that was exceeded.
///
/// The error that [`handler_error`](super::ConnClass::handler_error) gets contains it: use
/// `error.get_ref()` and `downcast_ref`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// A record is longer than [`input_limit`](super::Session::input_limit), in bytes.
    Input(usize),
    /// More output waits for the client than [`output_limit`](super::Session::output_limit), in
    /// bytes.
    Output(usize),
    /// The client was idle for [`idle_timeout`](super::Session::idle_timeout).
    Idle(Duration),
    /// The connection has taken the time that [`set_deadline`](super::Session::set_deadline)
    /// allows.
    Total(Duration),
}

impl Limit {
    /// Whether a slow client is enough to exceed it, so that nothing is wrong with the server.
    pub(super) fn is_caused_by_client(self) -> bool {
        matches!(self, Self::Idle(_) | Self::Total(_))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(bytes) => write!(f, "a record exceeds the input limit of {bytes} bytes"),
            Self::Output(bytes) => write!(
                f,
                "what waits for the client exceeds the output limit of {bytes} bytes"
            ),
            Self::Idle(time) => write!(f, "the client was idle for {time:?}"),
            Self::Total(time) => write!(f, "the connection has taken {time:?}"),
        }
    }
}

impl std::error::Error for Limit {}

impl From<Limit> for io::Error {
    fn from(limit: Limit) -> Self {
        let kind = match limit {
            Limit::Input(_) => io::ErrorKind::InvalidData,
            Limit::Output(_) | Limit::Idle(_) | Limit::Total(_) => io::ErrorKind::TimedOut,
        };
        Self::new(kind, limit)
    }
}
