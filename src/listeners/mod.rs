//! What is listened on: sockets, where they come from, what they are called, how many wait there, who
//! closes them and removes their files. Serves nobody.

pub(crate) mod inherited;
pub(crate) mod open;
mod socket_file;
pub(crate) mod tcp;
pub(crate) mod unix;

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// A kind of listening socket, for a [`StreamServer`](crate::servers::StreamServer): how one is opened
/// and what it is called.
///
/// [`Tcp`](crate::servers::Tcp) and [`Unix`](crate::servers::Unix) are two. A program that implements it for
/// another (vsock, SOCK_SEQPACKET, an overlay network) has the accept loop of the stock servers: one
/// connection wakes one child, none is left behind, and a stop is heard.
///
/// All methods run in the parent.
pub trait Listener: fmt::Debug + 'static {
    /// What a connection becomes in the child.
    type Stream: AsFd + AsRawFd + From<OwnedFd> + fmt::Debug + 'static;

    /// Opens the sockets: bound and listening. One object may stand for several. They become
    /// non-blocking and belong to the server, which closes them.
    ///
    /// # Errors
    ///
    /// Whatever keeps one of them from being opened; those that are open already are to be closed.
    fn open(&mut self, backlog: i32) -> io::Result<Vec<OwnedFd>>;

    /// Whether `socket`, which somebody else has opened, is one of this kind.
    fn fits(&self, socket: BorrowedFd<'_>) -> bool;

    /// What people call an open socket: `127.0.0.1:80`, `/run/x.sock`.
    fn name(&self, socket: BorrowedFd<'_>) -> String;

    /// How many connections wait at an open socket, if that can be known. Default: it cannot.
    fn queue_length(&self, socket: BorrowedFd<'_>) -> Option<u32> {
        let _ = socket;
        None
    }

    /// Takes note of a socket that somebody else has opened, in place of [`open`](Self::open).
    /// Default: does nothing.
    ///
    /// # Errors
    ///
    /// Whatever makes the socket unusable: the server does not start then.
    fn adopt(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let _ = socket;
        Ok(())
    }

    /// Whether a connection starts with the timeouts (SO_RCVTIMEO, SO_SNDTIMEO) of its listener, as
    /// those of TCP do on Linux. Saves two system calls a connection. Default: it does not.
    fn passes_timeouts_on(&self) -> bool {
        false
    }

    /// Removes what [`open`](Self::open) has left in the file system. Called right before the sockets
    /// are closed. Default: there is nothing.
    fn clean_up(&mut self) {}
}

/// A socket that a server listens on, as it is now.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ListenerStatus {
    /// What people call it: `127.0.0.1:80`, `/run/x.sock`.
    pub name: String,
    /// How many connections wait to be accepted. `None` where the system does not tell: it does for
    /// TCP on Linux, not for UNIX sockets.
    pub queued: Option<u32>,
}

impl ListenerStatus {
    pub(crate) fn of<L: Listener>(kind: &L, socket: BorrowedFd<'_>) -> Self {
        Self {
            name: kind.name(socket),
            queued: kind.queue_length(socket),
        }
    }
}
