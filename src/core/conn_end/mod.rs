//! What is told of a connection when it has ended, and the lines that are made of it. Reads no clock
//! and writes nothing.

mod date;
mod log_line;

use crate::core::accept::refusal::Refusal;
use std::{fmt, net::SocketAddr, time::Duration};

/// How much of the text of a handler is kept, in bytes.
const LONGEST_TEXT: usize = 512;

/// How a connection has ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler has returned without an error.
    Served,
    /// The handler has returned an error that is the client's: a reset, a timeout.
    Lost,
    /// The handler has returned another error.
    Failed,
    /// The handler has panicked, which ends the child.
    Panicked,
    /// It had no valid header of a proxy, so the handler has not seen it.
    NoHeader,
    /// The handler has not seen it, for this reason.
    Refused(Refusal),
}

/// As in a line: `served`, `lost`, `failed`, `panicked`, `no-header`, `shed`, `denied`, `gone`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Served => "served",
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::NoHeader => "no-header",
            Self::Refused(refusal) => refusal.word(),
        })
    }
}

/// A connection that has ended.
///
/// A stock server tells it, in the child that has had the connection: see
/// [`connection_ended`](crate::servers::StreamServer::connection_ended) and
/// [`access_log`](crate::servers::StreamServer::access_log).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ConnEnd {
    /// When the child has taken it: the time since 1970, in UTC.
    pub began: Duration,
    /// The client's address; `None` over a UNIX socket.
    ///
    /// Behind a proxy it is what the proxy has told.
    pub peer: Option<SocketAddr>,
    /// The user of the client's process, over a UNIX socket.
    pub user: Option<u32>,
    /// How long it was queued, as far as that is known: see
    /// [`queue_time`](crate::servers::StreamServer::queue_time).
    pub queued: Option<Duration>,
    /// How long the child has had it in hand.
    pub took: Duration,
    /// How many bytes the child has read from it; `None` if others have read as well.
    pub received: Option<u64>,
    /// How many bytes the child has written to it.
    ///
    /// `None` if others have written as well.
    pub sent: Option<u64>,
    /// How it has ended.
    pub outcome: Outcome,
    /// What the handler has said about it last: see
    /// [`Conn::describe`](crate::servers::Conn::describe).
    ///
    /// At most 512 bytes. It may have any characters; lines escape them.
    pub text: String,
    /// The process id of the child.
    pub pid: u32,
    /// How many connections the child has taken with this one.
    ///
    /// It is 0 for one that does not count.
    pub number: u64,
}

impl Default for ConnEnd {
    fn default() -> Self {
        Self {
            began: Duration::ZERO,
            peer: None,
            user: None,
            queued: None,
            took: Duration::ZERO,
            received: Some(0),
            sent: Some(0),
            outcome: Outcome::Served,
            text: String::new(),
            pid: 0,
            number: 0,
        }
    }
}

/// The part of a handler's text that is kept.
pub(crate) fn kept_text(text: &str) -> &str {
    let ends = (0..=LONGEST_TEXT.min(text.len())).rev();
    let end = ends.into_iter().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}
