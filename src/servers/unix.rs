//! The stock server for a UNIX socket, the original's PreFork::UNIX: its constructors and the
//! attributes that only UNIX sockets have. Accepts nothing itself: [`StreamServer`] does.

use super::{
    conn::{Conn, ConnClass},
    stream::{PerChild, StreamServer},
};
use crate::listeners::unix::Unix;
use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

/// Accepts on a UNIX socket, one connection at a time in each child.
///
/// A socket file without a listener, left by a server that was killed, is replaced; a file with one
/// is an error. The process that bound the file removes it at the end, unless another file has
/// replaced it.
///
/// On Linux a path that begins with a zero byte, `"\0name"`, is an abstract name: there is no file,
/// and every process in the network namespace may connect.
pub type UnixServer = StreamServer<Unix>;

/// A [`UnixServer`] with state per child, waiting for its handler.
///
/// See [`UnixServer::per_child`].
pub type UnixPerChild<I> = PerChild<Unix, I>;

impl StreamServer<Unix> {
    /// A server at `path` that hands each connection to `handler`, in the child.
    ///
    /// An error that the handler returns is printed to the child's stderr, unless it only says that
    /// the client has gone or was too slow. A panic ends the child.
    pub fn new(
        path: impl Into<PathBuf>,
        handler: impl FnMut(Conn<UnixStream>) -> io::Result<()> + 'static,
    ) -> Self {
        Self::on(Unix::new(path), handler)
    }

    /// A server whose handler has state of its own in each child.
    ///
    /// It is made by `init` after the fork: see
    /// [`TcpServer::per_child`](crate::TcpServer::per_child).
    pub fn per_child<T, I>(path: impl Into<PathBuf>, init: I) -> UnixPerChild<I>
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        PerChild::on(Unix::new(path), init)
    }

    /// A server at `path` that makes an object for each connection, in the child.
    ///
    /// `factory` makes it: see [`TcpServer::conn_class`](crate::TcpServer::conn_class).
    pub fn conn_class<C: ConnClass + 'static>(
        path: impl Into<PathBuf>,
        mut factory: impl FnMut() -> C + 'static,
    ) -> Self {
        Self::new(path, move |conn| conn.run_class(factory()))
    }

    /// The mode of the socket file: users who may write to it may connect.
    ///
    /// Default: 0o660. The file has this mode from the moment it exists.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.listener.mode = mode;
        self
    }

    /// The mode of the socket file.
    pub fn get_mode(&self) -> u32 {
        self.listener.mode
    }

    /// The path of the socket.
    ///
    /// With [`listen_fds`](Self::listen_fds) or [`socket`](Self::socket), once started, the path of
    /// the first socket that was taken over, if it has one.
    pub fn path(&self) -> &Path {
        &self.listener.path
    }
}
