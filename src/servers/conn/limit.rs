//! The limits of a connection's buffers, as an error. Names the limit; enforces nothing.

use std::{fmt, io};

/// A limit that was exceeded: what the error handed to
/// [`handler_error`](super::ConnClass::handler_error) holds, to be found by
/// `error.get_ref()` and `downcast_ref`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// A record is longer than [`input_limit`](super::Session::input_limit), so many bytes.
    Input(usize),
    /// More output waits for the client than [`output_limit`](super::Session::output_limit), so many
    /// bytes.
    Output(usize),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(bytes) => write!(f, "a record exceeds the input limit of {bytes} bytes"),
            Self::Output(bytes) => write!(
                f,
                "what waits for the client exceeds the output limit of {bytes} bytes"
            ),
        }
    }
}

impl std::error::Error for Limit {}

impl From<Limit> for io::Error {
    fn from(limit: Limit) -> Self {
        let kind = match limit {
            Limit::Input(_) => io::ErrorKind::InvalidData,
            Limit::Output(_) => io::ErrorKind::TimedOut,
        };
        Self::new(kind, limit)
    }
}
