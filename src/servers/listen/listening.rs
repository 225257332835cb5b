//! A socket that is open, of either kind: its state, its address, and its end. Accepts nothing.

use crate::{
    listeners::{Listener, ListenerStatus, tcp::Tcp, unix::Unix},
    sys::{
        fd_registry::Registered,
        handed_over::HandedOverFd,
        sockets::{self, Family},
    },
};
use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

#[derive(Debug)]
pub(super) enum ListenKind {
    Tcp(Tcp),
    Unix(Unix),
}

impl ListenKind {
    /// The kind of a socket that another process has opened.
    pub(super) fn of(socket: BorrowedFd<'_>, no_delay: bool) -> io::Result<Self> {
        if sockets::is_stream(&socket, Family::Unix) {
            let mut unix = Unix::new("");
            unix.adopt(socket)?;
            return Ok(Self::Unix(unix));
        }
        let mut tcp = Tcp {
            no_delay,
            ..Tcp::local()
        };
        tcp.adopt(socket)?;
        Ok(Self::Tcp(tcp))
    }

    /// Each variant holds one socket.
    pub(super) fn open(&mut self, backlog: i32) -> io::Result<OwnedFd> {
        let opened = match self {
            Self::Tcp(tcp) => tcp.open(backlog)?,
            Self::Unix(unix) => unix.open(backlog)?,
        };
        let nothing = || io::Error::other("no socket was opened");
        opened.into_iter().next().ok_or_else(nothing)
    }

    pub(super) fn status(&self, socket: BorrowedFd<'_>) -> ListenerStatus {
        match self {
            Self::Tcp(tcp) => ListenerStatus::of(tcp, socket),
            Self::Unix(unix) => ListenerStatus::of(unix, socket),
        }
    }
}

/// An open socket. The fields are dropped in this order: the kind first, with its socket file, so that
/// a client that finds the file can still connect.
#[derive(Debug)]
pub(in crate::servers) struct Listening {
    pub(super) kind: ListenKind,
    pub(super) fd: Registered<OwnedFd>,
    pub(in crate::servers) name: String,
    /// The original, if another process has opened it: that one has it too, and it is not ours to
    /// close for all.
    pub(super) given: Option<Registered<HandedOverFd>>,
}

impl Listening {
    pub(in crate::servers) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(in crate::servers) fn is_listening(&self) -> bool {
        sockets::is_listening(&*self.fd)
    }

    pub(in crate::servers) fn tcp_address(&self) -> Option<SocketAddr> {
        match self.kind {
            ListenKind::Tcp(_) => sockets::tcp_address(&*self.fd),
            ListenKind::Unix(_) => None,
        }
    }

    /// Refuses new clients, and keeps those that are queued.
    pub(in crate::servers) fn refuse(&mut self) {
        if self.given.is_some() {
            return;
        }
        match &mut self.kind {
            ListenKind::Tcp(tcp) => tcp.refuse(self.fd.as_fd()),
            ListenKind::Unix(unix) => unix.clean_up(),
        }
    }

    pub(in crate::servers) fn is_queued(&self) -> bool {
        // If the kernel cannot tell, no client could be served either.
        sockets::is_queued(&*self.fd).unwrap_or(false)
    }

    /// Closes it for all processes that have a copy.
    pub(in crate::servers) fn shut_down(&self) {
        if self.given.is_none() {
            sockets::shut_down(&self.fd);
        }
    }

    pub(in crate::servers) fn status(&self) -> ListenerStatus {
        self.kind.status(self.as_fd())
    }

    /// Its address: `host:port` or a path, byte for byte.
    pub(in crate::servers) fn place(&self) -> OsString {
        match &self.kind {
            ListenKind::Tcp(tcp) => tcp.name(self.as_fd()).into(),
            ListenKind::Unix(unix) => unix.path.clone().into_os_string(),
        }
    }
}
