//! What a child's end asks of the operating system: waits, the clock, the parent's life. Declares
//! the trait; `sys/child_link.rs` implements it.

use crate::core::time::Time;
use std::{io, os::fd::BorrowedFd, time::Duration};

/// The operating system, as the child's end needs it.
pub(crate) trait Link {
    fn now(&self) -> Time;
    /// Like `now`, cheaper, and up to some milliseconds late: for uses where that does not matter.
    fn now_or_so(&self) -> Time;
    /// Waits until one of `listeners` may have a connection, at most `timeout`.
    fn wait_listeners(
        &self,
        listeners: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> io::Result<Wake>;
    /// Whether the kernel may wake this child for a new connection, even while the child does not
    /// wait.
    fn may_be_woken(&self) -> bool;
    /// Takes this child out of the wake-ups for connections until it waits for them again.
    fn leave_wakeups(&self);
    /// Waits until `stream` is ready or the parent is gone, at most `timeout`. A stop does not end
    /// this wait.
    fn wait_stream(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<Wake>;
    /// Waits until `stream` is ready, the child should leave or the parent is gone, at most
    /// `timeout`. A ready stream is reported first.
    fn wait_request(
        &self,
        stream: BorrowedFd<'_>,
        interest: Interest,
        timeout: Option<Duration>,
    ) -> io::Result<Wake>;
    /// Waits until the child should leave, at most `timeout`.
    fn sleep(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn stop_requested(&self) -> bool;
    /// Whether the child, told to stop, leaves the clients that are queued to other children.
    fn leaves_queue(&self) -> bool;
    /// Has an order to reopen logs end the waits from now on.
    fn wake_to_reopen(&self);
    /// Whether the child was told to reopen its logs. True once for each order.
    fn take_reopen(&self) -> bool;
    fn orphaned(&self) -> bool;
    /// Looks whether the parent is gone, as each wait does.
    fn look_for_parent(&self);
    /// Arranges that this process is killed after the grace for orphans, and silences its outputs.
    fn become_orphan(&self);
    fn as_fd(&self) -> BorrowedFd<'_>;
}

/// What a connection waits for.
///
/// See [`Comm::wait_stream`](crate::Comm::wait_stream).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Interest {
    /// Something to read, or the end of input.
    Read,
    /// Room for something to write.
    Write,
    /// Either.
    Both,
    /// Only the time: even the end of the connection does not end the wait.
    Neither,
}

/// Why a wait has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Wake {
    /// One of the descriptors may be ready; another child may have been faster.
    Ready,
    /// Time has passed (an ACK is due). A server should still try to accept.
    Timer,
    /// The parent wants this child to leave, or is gone.
    ///
    /// See [`Comm::is_orphaned`](crate::Comm::is_orphaned).
    Stop,
}
