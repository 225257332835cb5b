//! What a connection runs over: a stream of TCP, of a UNIX socket, or of a listener of your own. Moves
//! no bytes.

use super::{Peer, PeerCredentials};
use crate::sys::{accept::canonical, credentials};
use std::{
    fmt, io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// The type of a connection.
///
/// [`TcpStream`], [`UnixStream`], or that of your own [`Listener`](crate::servers::Listener).
pub trait Stream: AsFd + AsRawFd + From<OwnedFd> + fmt::Debug + 'static {
    /// Makes every later operation block without limit: no O_NONBLOCK, no timeouts.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn block(&self) -> io::Result<()>;
    /// Ends one direction or both.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn end(&self, how: Shutdown) -> io::Result<()>;
    /// Describes the other end.
    ///
    /// `remote` is the client's internet address as accept(2) returned it; `None` for a socket of
    /// another kind.
    fn peer(&self, remote: Option<SocketAddr>) -> Peer;
}

macro_rules! streams {
    ($($type:ty: $peer:expr;)*) => {$(
        impl Stream for $type {
            fn block(&self) -> io::Result<()> {
                self.set_nonblocking(false)?;
                self.set_read_timeout(None)?;
                self.set_write_timeout(None)
            }
            fn end(&self, how: Shutdown) -> io::Result<()> {
                self.shutdown(how)
            }
            fn peer(&self, remote: Option<SocketAddr>) -> Peer {
                $peer(self, remote)
            }
        }
    )*};
}
streams! {
    TcpStream: tcp_peer;
    UnixStream: unix_peer;
}

fn tcp_peer(stream: &TcpStream, remote: Option<SocketAddr>) -> Peer {
    Peer::tcp(remote, stream.local_addr().ok().map(canonical))
}

fn unix_peer(stream: &UnixStream, _: Option<SocketAddr>) -> Peer {
    let address = stream.local_addr().ok();
    let path = address.and_then(|address| address.as_pathname().map(Into::into));
    let credentials = credentials::of_peer(stream).ok();
    let credentials = credentials
        .map(|(pid, uid, gid)| PeerCredentials::new((pid != 0).then_some(pid), uid, gid));
    Peer::unix(path, credentials)
}
