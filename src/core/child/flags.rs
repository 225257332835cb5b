//! What has happened to a child so far, a bit each.

use bitflags::bitflags;

bitflags! {
    /// What has happened to a child so far.
    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    pub(crate) struct ChildFlags: u32 {
        /// Its stdout has not ended.
        const STDOUT_OPEN = 1;
        /// Its stderr has not ended.
        const STDERR_OPEN = 1 << 1;
        /// It has sent an ACK.
        const ACKED = 1 << 2;
        /// It has said BUSY: its start has succeeded.
        const WAS_BUSY = 1 << 3;
        /// It has said BUSY since it was told to stop, and not NOT_BUSY after that: it has a
        /// connection in hand.
        const BUSY_SINCE_TOLD = 1 << 4;
        /// SIGINT was sent to it.
        const INT_SENT = 1 << 5;
        /// SIGKILL was sent to it.
        const KILL_SENT = 1 << 6;
        /// The last turn left output of it unread, which may contain an ACK.
        const UNREAD = 1 << 7;
        /// `handler_server_closed` has been called for it.
        const CLOSED = 1 << 8;
        /// It has said NOT_BUSY: it can take connections.
        const WAITED = 1 << 9;
        /// A hook has sent it a signal that tells it to stop, SIGABRT or SIGKILL.
        const ASKED = 1 << 10;
        /// It has ended without being told to, and processes of its group still run.
        const OUTLIVED = 1 << 11;
        /// It has said NOT_BUSY after a BUSY: it has finished a connection.
        const FINISHED_ONE = 1 << 12;
        /// It has said any word: it has started.
        const HEARD = 1 << 13;
        /// It had a connection in hand when it was told to stop, and has not said NOT_BUSY since.
        const BUSY_WHEN_TOLD = 1 << 14;
        /// It was reaped, and what it has written is still being read: nothing can be sent to it.
        const REAPED = 1 << 15;
        /// It has been ready to serve, so far as is known: it has said BUSY or NOT_BUSY, or it is a
        /// program that need not say words and has run for some time.
        const READY = 1 << 16;
        /// It is to be replaced: it has reached a limit, or was named by a hook.
        const DUE = 1 << 17;
    }
}
