//! What a child's end asks of the operating system: waits, the clock, the parent's life. Names them;
//! `os/child_link.rs` does them.

use crate::core::time::Time;
use std::{io, os::fd::BorrowedFd, time::Duration};

/// The operating system, as the child's end needs it.
pub(crate) trait Link {
    fn now(&self) -> Time;
    /// As `now`, cheaper, and up to some milliseconds late: for what does not wait for the moment.
    fn now_or_so(&self) -> Time;
    /// Waits until one of `listeners` may have a connection, at most `timeout`.
    fn wait_listeners(
        &self,
        listeners: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<Wake>;
    /// Whether the kernel asks for this child when a connection comes, be it that the child waits or not.
    fn is_asked(&self) -> bool;
    /// Has connections pass this child by, until it waits for them again.
    fn leave_wakeups(&self);
    /// Waits until `stream` is ready or the parent is gone, at most `timeout`. Told to stop, it goes
    /// on waiting.
    fn wait_stream(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<Wake>;
    /// Waits until `stream` is ready, until the child should leave or the parent is gone, at most `timeout`.
    /// That the stream is ready is told before the rest.
    fn wait_request(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<Wake>;
    /// Waits until the child should leave, at most `timeout`.
    fn sleep(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn stop_requested(&self) -> bool;
    fn orphaned(&self) -> bool;
    /// Has this process killed when the grace for orphans has passed, and its outputs silenced.
    fn become_orphan(&self);
    fn as_fd(&self) -> BorrowedFd<'_>;
}

/// What a connection waits for: see [`Comm::wait_stream`](crate::Comm::wait_stream).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Interest {
    /// Something to read, or the end of input.
    Read,
    /// Room for something to write.
    Write,
    /// Either.
    Both,
    /// Nothing but time: not even the end of the connection ends the wait.
    Neither,
}

/// Why a wait has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Wake {
    /// One of the descriptors may be ready; another child may have been faster.
    Ready,
    /// Time has passed (an ACK was due). A server should try to accept all the same.
    Timer,
    /// The parent wants this child to leave, or is gone: see [`Comm::is_orphaned`](crate::Comm::is_orphaned).
    Stop,
}
