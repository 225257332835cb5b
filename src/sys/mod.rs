//! The operating system, as the loop and the servers need it: small wrappers, one duty a file. Only
//! files in here hold `unsafe`, and none of them decides anything about children.

pub(crate) mod atfork;
pub(crate) mod child_link;
pub(crate) mod clock;
pub(crate) mod credentials;
pub(crate) mod exec;
mod fd_ranges;
pub(crate) mod fd_registry;
mod fd_table;
pub(crate) mod fork;
pub(crate) mod handed_over;
pub(crate) mod limits;
pub(crate) mod link;
mod lot;
mod null;
pub(crate) mod output;
pub(crate) mod pidfd;
pub(crate) mod pipes;
pub(crate) mod poller;
pub(crate) mod scoreboard;
pub(crate) mod shell;
pub(crate) mod signals;
pub(crate) mod sockets;
mod stdio;
pub(crate) mod stop_board;
pub(crate) mod waiter;
pub(crate) mod wires;

use std::time::Duration;

/// A timeout in whole milliseconds as poll(2) and epoll_wait(2) take it, rounded up: rounded down,
/// a wait of less than a millisecond would become a busy loop.
pub(crate) fn milliseconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}
