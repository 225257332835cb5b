//! Listening sockets: how they are opened, named, counted, closed, and how their files are removed.
//! Serves no client.

pub(crate) mod inherited;
pub(crate) mod open;
pub(crate) mod socket_file;
pub(crate) mod tcp;
pub(crate) mod unix;

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

/// A kind of listening socket: how it is opened and named.
///
/// A [`StreamServer`](crate::servers::StreamServer) accepts on it.
///
/// [`Tcp`](crate::servers::Tcp) and [`Unix`](crate::servers::Unix) are two kinds. A program that
/// implements the trait for another kind (vsock, SOCK_SEQPACKET, an overlay network) gets the
/// accept loop of the stock servers: one connection wakes one child, no connection is left in the
/// queue, and an idle child notices a stop. The sockets outlive an upgrade of the program
/// ([`takes_over`](Self::takes_over)). [`SocketFile`](crate::servers::SocketFile) removes the file of
/// a socket that has one.
///
/// All methods run in the parent, except [`time_in_queue`](Self::time_in_queue); in a reserved child
/// [`queue_length`](Self::queue_length) runs, too.
pub trait Listener: fmt::Debug + 'static {
    /// The type of a connection in the child.
    type Stream: AsFd + AsRawFd + From<OwnedFd> + fmt::Debug + 'static;

    /// Opens the sockets: bound and listening.
    ///
    /// One object may open several. They become non-blocking and belong to the server, which closes
    /// them.
    ///
    /// # Errors
    ///
    /// Any error that keeps a socket from being opened; the sockets that are already open must be
    /// closed.
    fn open(&mut self, backlog: i32) -> io::Result<Vec<OwnedFd>>;

    /// Whether `socket`, which other code has opened, is of this kind.
    fn fits(&self, socket: BorrowedFd<'_>) -> bool;

    /// The name of an open socket, as in messages: `127.0.0.1:80`, `/run/x.sock`.
    fn name(&self, socket: BorrowedFd<'_>) -> String;

    /// How many connections wait at an open socket.
    ///
    /// Runs in the parent, whenever it tells the state of its sockets. Default: `None`, for unknown.
    fn queue_length(&self, socket: BorrowedFd<'_>) -> Option<u32> {
        let _ = socket;
        None
    }

    /// How many connections can wait at an open socket: a client more has to try again.
    ///
    /// Runs in the parent, whenever it tells the state of its sockets. Default: `None`, for unknown.
    fn queue_limit(&self, socket: BorrowedFd<'_>) -> Option<u32> {
        let _ = socket;
        None
    }

    /// How long a connection that was just accepted had been queued.
    ///
    /// Runs in a child, for each connection, before anything is sent on it; only if the server
    /// [asks for it](crate::servers::StreamServer::queue_time).
    ///
    /// Default: `None`, for unknown.
    fn time_in_queue(&self, connection: BorrowedFd<'_>) -> Option<Duration> {
        let _ = connection;
        None
    }

    /// Whether [`time_in_queue`](Self::time_in_queue) knows it at an open socket.
    ///
    /// A reserved child takes connections from such sockets only, because it looks at the age of
    /// each. Runs in the parent and in that child. Default: false.
    fn knows_time_in_queue(&self, socket: BorrowedFd<'_>) -> bool {
        let _ = socket;
        false
    }

    /// Whether a socket of the program before an upgrade is one that [`open`](Self::open) would open.
    ///
    /// Runs in the new program, for each socket that children of the old one have accepted on. If
    /// it is true of one, `open` is not called: all of which it is true are passed to
    /// [`adopt`](Self::adopt), and keep the length of their queues. Otherwise `open` binds anew, and
    /// an address that the old sockets still have in use ends the upgrade.
    ///
    /// Default: whether it [`fits`](Self::fits). A kind whose address can be another one in the new
    /// program compares that as well.
    fn takes_over(&self, socket: BorrowedFd<'_>) -> bool {
        self.fits(socket)
    }

    /// Notes a socket that is open already, in place of [`open`](Self::open).
    ///
    /// Other code has opened it, or the program before an upgrade
    /// ([`SocketFile::of`](crate::servers::SocketFile::of) tells them apart).
    ///
    /// Default: does nothing.
    ///
    /// # Errors
    ///
    /// Any error that makes the socket unusable: then the server does not start.
    fn adopt(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let _ = socket;
        Ok(())
    }

    /// Whether a connection inherits the timeouts of its listener.
    ///
    /// These are SO_RCVTIMEO and SO_SNDTIMEO; TCP connections on Linux inherit them. It saves two
    /// system calls a connection. Default: `false`.
    fn passes_timeouts_on(&self) -> bool {
        false
    }

    /// Refuses new clients at a socket that was [opened](Self::open).
    ///
    /// Queued clients stay. Called when a shutdown begins, after [`clean_up`](Self::clean_up).
    /// Default: does nothing.
    fn refuse(&mut self, socket: BorrowedFd<'_>) {
        let _ = socket;
    }

    /// Removes what [`open`](Self::open) has left in the file system.
    ///
    /// Called once: when a shutdown begins, or else right before the sockets are closed. Default:
    /// does nothing.
    fn clean_up(&mut self) {}
}

/// A socket that a server listens on, in its present state.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ListenerStatus {
    /// Its name in messages: `127.0.0.1:80`, `/run/x.sock`.
    pub name: String,
    /// How many connections wait to be accepted.
    ///
    /// `None` if the system does not tell. Linux does, for UNIX sockets through sock_diag(7), which
    /// a kernel may lack.
    pub queued: Option<u32>,
    /// How many connections can wait; `None` if the system does not tell.
    ///
    /// It may be fewer than the program has asked for, since the system has a limit of its own.
    pub limit: Option<u32>,
    /// For how long the first of them has waited, at least.
    ///
    /// It is known of the sockets of a stock server, up to 32 of them, where `queued` is known: from
    /// the looks before. A first look finds none, and a look finds no more than the time since the
    /// first one at which a client waited. Too much is told of a socket from which others take
    /// connections as well: other servers, and after an upgrade the children of the program before.
    pub oldest: Option<Duration>,
}

impl ListenerStatus {
    pub(crate) fn of<L: Listener>(kind: &L, socket: BorrowedFd<'_>) -> Self {
        Self {
            name: kind.name(socket),
            queued: kind.queue_length(socket),
            limit: kind.queue_limit(socket),
            oldest: None,
        }
    }
}
