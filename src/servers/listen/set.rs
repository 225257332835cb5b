//! Several listeners of both kinds as one: TCP and UNIX sockets of one server, and a connection of
//! either. Opens and names them; serves no client.

use super::{Listen, ListenKind, is_stream};
use crate::{
    listeners::Listener,
    servers::conn::{Peer, Stream},
    sys::{
        sockets::{self, Family},
        tcp_info,
    },
};
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

/// The listeners of one server.
#[derive(Debug, Default)]
pub(in crate::servers) struct ListenSet {
    pub(in crate::servers) listen: Vec<Listen>,
    kinds: Vec<ListenKind>,
}

impl ListenSet {
    fn kind_of(&self, socket: BorrowedFd<'_>) -> Option<&ListenKind> {
        self.kinds.iter().find(|kind| match kind {
            ListenKind::Tcp(tcp) => tcp.fits(socket),
            ListenKind::Unix(unix) => unix.fits(socket),
        })
    }
}

impl Listener for ListenSet {
    type Stream = AnyStream;

    fn open(&mut self, backlog: i32) -> io::Result<Vec<OwnedFd>> {
        self.kinds = self.listen.iter().filter_map(Listen::kind).collect();
        let opened = self.kinds.iter_mut().map(|kind| kind.open(backlog));
        opened.collect()
    }

    fn fits(&self, socket: BorrowedFd<'_>) -> bool {
        is_stream(socket)
    }

    /// `open` looks for them, address by address: some may be new.
    fn takes_over(&self, _: BorrowedFd<'_>) -> bool {
        false
    }

    fn adopt(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut wanted = self
            .listen
            .iter()
            .filter(|listen| listen.wanted().is_some());
        let no_delay = wanted.all(|listen| listen.no_delay);
        self.kinds.push(ListenKind::of(socket, no_delay)?);
        Ok(())
    }

    fn name(&self, socket: BorrowedFd<'_>) -> String {
        match self.kind_of(socket) {
            Some(ListenKind::Tcp(tcp)) => tcp.name(socket),
            Some(ListenKind::Unix(unix)) => unix.name(socket),
            None => String::new(),
        }
    }

    fn queue_length(&self, socket: BorrowedFd<'_>) -> Option<u32> {
        match self.kind_of(socket)? {
            ListenKind::Tcp(tcp) => tcp.queue_length(socket),
            ListenKind::Unix(unix) => unix.queue_length(socket),
        }
    }

    fn queue_limit(&self, socket: BorrowedFd<'_>) -> Option<u32> {
        match self.kind_of(socket)? {
            ListenKind::Tcp(tcp) => tcp.queue_limit(socket),
            ListenKind::Unix(unix) => unix.queue_limit(socket),
        }
    }

    /// The kernel tells it of TCP alone.
    fn time_in_queue(&self, connection: BorrowedFd<'_>) -> Option<Duration> {
        tcp_info::time_in_queue(&connection)
    }

    fn knows_time_in_queue(&self, socket: BorrowedFd<'_>) -> bool {
        match self.kind_of(socket) {
            Some(ListenKind::Tcp(tcp)) => tcp.knows_time_in_queue(socket),
            Some(ListenKind::Unix(_)) | None => false,
        }
    }

    fn refuse(&mut self, socket: BorrowedFd<'_>) {
        // What is refused depends on the socket alone, so any listener of its kind can do it.
        for kind in &mut self.kinds {
            if let ListenKind::Tcp(tcp) = kind
                && tcp.fits(socket)
            {
                return tcp.refuse(socket);
            }
        }
    }

    fn clean_up(&mut self) {
        for kind in &mut self.kinds {
            if let ListenKind::Unix(unix) = kind {
                unix.clean_up();
            }
        }
    }
}

/// A connection to a listener of either kind.
#[derive(Debug)]
pub(in crate::servers) enum AnyStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls a method of the stream, whichever it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            AnyStream::Tcp($inner) => $call,
            AnyStream::Unix($inner) => $call,
        }
    };
}

impl From<OwnedFd> for AnyStream {
    fn from(socket: OwnedFd) -> Self {
        match sockets::is_stream(&socket, Family::Unix) {
            true => Self::Unix(socket.into()),
            false => Self::Tcp(socket.into()),
        }
    }
}

impl AsFd for AnyStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, inner => inner.as_fd())
    }
}

impl AsRawFd for AnyStream {
    fn as_raw_fd(&self) -> RawFd {
        either!(self, inner => inner.as_raw_fd())
    }
}

impl Stream for AnyStream {
    fn block(&self) -> io::Result<()> {
        either!(self, inner => Stream::block(inner))
    }

    fn end(&self, how: Shutdown) -> io::Result<()> {
        either!(self, inner => inner.end(how))
    }

    fn peer(&self, remote: Option<SocketAddr>) -> Peer {
        either!(self, inner => inner.peer(remote))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners::ListenerStatus;

    #[test]
    fn sockets_of_both_kinds_are_opened_named_and_cleaned_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sock");
        let mut set = ListenSet {
            listen: vec![Listen::tcp("127.0.0.1:0"), Listen::unix(&path)],
            ..ListenSet::default()
        };
        let opened = set.open(8).expect("two sockets");
        let names: Vec<_> = opened
            .iter()
            .map(|socket| set.name(socket.as_fd()))
            .collect();
        assert!(names[0].starts_with("127.0.0.1:"), "{names:?}");
        assert_eq!(names[1], path.display().to_string());
        assert!(opened.iter().all(|socket| set.fits(socket.as_fd())));
        for socket in opened.iter().map(AsFd::as_fd) {
            let kind = set.kind_of(socket).expect("its kind");
            assert_eq!(ListenerStatus::of(&set, socket), kind.status(socket));
        }
        let client = UnixStream::connect(&path).expect("a connection");
        let stream = AnyStream::from(OwnedFd::from(client));
        assert!(matches!(stream, AnyStream::Unix(_)));
        set.clean_up();
        assert!(!path.exists());
    }

    #[test]
    fn what_was_opened_before_a_failure_is_closed_and_cleaned_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sock");
        let mut set = ListenSet {
            listen: vec![Listen::unix(&path), Listen::unix("/no/such/folder/y.sock")],
            ..ListenSet::default()
        };
        set.open(8).expect_err("a refusal");
        set.clean_up();
        assert!(!path.exists());
    }
}
