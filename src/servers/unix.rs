//! The stock server for a UNIX socket, the original's PreFork::UNIX: a path, a mode, a handler.

use super::{
    accept::{Handler, order::AcceptOrder},
    conn::{Conn, ConnClass},
    service::{Service, common_attributes, common_server},
};
use crate::{
    hooks::{comm::Comm, server::ChildServer},
    listeners::inherited::{self, Wanted},
    sys::{
        fd_registry::Ours,
        handed_over::{self, Family, Given},
        signals::stranger,
        sockets::{self, FileId},
    },
};
use std::{
    io,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

/// Accepts on a UNIX socket, one connection at a time in each child.
///
/// A socket file that nobody listens at, left by a server that was killed, is replaced; a live one
/// is an error. The file is removed at the end, by the process that bound it and only if it is
/// still the one that was bound.
#[derive(Debug)]
pub struct UnixServer {
    service: Service<UnixStream>,
    path: PathBuf,
    mode: u32,
    listeners: Vec<Ours<UnixListener>>,
    handed_over: Option<Wanted>,
    given: Vec<Ours<Given>>,
    bound: Option<Bound>,
}

/// The file that was bound, and by which process.
#[derive(Clone, Copy, Debug)]
struct Bound {
    file: FileId,
    by: u32,
}

impl UnixServer {
    /// A server at `path` that hands each connection to `handler`, in the child.
    ///
    /// An error that the handler returns is printed to the child's stderr, unless it only says that
    /// the client has gone or was too slow. A panic ends the child.
    pub fn new(
        path: impl Into<PathBuf>,
        handler: impl FnMut(Conn<UnixStream>) -> io::Result<()> + 'static,
    ) -> Self {
        Self::of(
            path.into(),
            Service::new(move || {
                let handler: Handler<UnixStream> = Box::new(handler);
                Ok(handler)
            }),
        )
    }

    /// A server whose handler has state of its own in each child, made by `init` after the fork:
    /// see [`TcpServer::per_child`](crate::TcpServer::per_child).
    pub fn per_child<T, I>(path: impl Into<PathBuf>, init: I) -> UnixPerChild<I>
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        UnixPerChild {
            path: path.into(),
            init,
        }
    }

    /// A server at `path` that has `factory` make an object for each connection, in the child, and
    /// runs it: see [`TcpServer::conn_class`](crate::TcpServer::conn_class).
    pub fn conn_class<C: ConnClass + 'static>(
        path: impl Into<PathBuf>,
        mut factory: impl FnMut() -> C + 'static,
    ) -> Self {
        Self::new(path, move |conn| conn.run_class(factory()))
    }

    fn of(path: PathBuf, service: Service<UnixStream>) -> Self {
        Self {
            service,
            path,
            mode: 0o660,
            listeners: Vec::new(),
            handed_over: None,
            given: Vec::new(),
            bound: None,
        }
    }

    /// The mode of the socket file: who may connect is who may write to it. Default: 0o660. Nobody
    /// but the owner can connect before it is set.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    common_attributes!(UnixStream);

    /// Where it listens. With [`listen_fds`](Self::listen_fds), once started, the path of the first
    /// socket that was taken over, if it has one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a socket that was taken over is its maker's: it is never removed.
    fn take_over(&mut self, wanted: &Wanted) -> io::Result<()> {
        for taken in inherited::take(wanted, Family::Unix)? {
            let listener = UnixListener::from(taken.socket);
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            if self.listeners.is_empty()
                && let Some(path) = address.as_pathname()
            {
                self.path = path.to_owned();
            }
            self.listeners.push(Ours::servers(listener));
            self.given.push(taken.given);
        }
        Ok(())
    }

    fn remove_file(&mut self) {
        if let Some(bound) = self
            .bound
            .take()
            .filter(|bound| stranger::is_home_of(bound.by))
        {
            sockets::remove_socket_file(&self.path, bound.file);
        }
    }
}

impl ChildServer for UnixServer {
    fn start(&mut self) -> io::Result<()> {
        if let Some(wanted) = self.handed_over.clone() {
            return self.take_over(&wanted);
        }
        let (listener, file) = sockets::listen_unix(&self.path, self.mode, self.service.backlog)?;
        self.listeners = vec![Ours::servers(listener)];
        self.service.let_them_block(&self.listeners);
        self.bound = Some(Bound {
            file,
            by: std::process::id(),
        });
        Ok(())
    }

    fn stop(&mut self) {
        // The file first: whoever finds it can still connect then.
        self.remove_file();
        self.listeners.clear();
        self.given.clear();
    }

    common_server!();
}

/// A server that is dropped without having been stopped leaves no file behind either.
impl Drop for UnixServer {
    fn drop(&mut self) {
        self.remove_file();
    }
}

/// A [`UnixServer`] with state per child, waiting for its handler: see [`UnixServer::per_child`].
#[derive(Debug)]
#[must_use = "it needs a handler: call `serve`"]
pub struct UnixPerChild<I> {
    path: PathBuf,
    init: I,
}

impl<I> UnixPerChild<I> {
    /// The server that hands each connection to `handler`, together with the child's state.
    pub fn serve<T: 'static>(
        self,
        mut handler: impl FnMut(&mut T, Conn<UnixStream>) -> io::Result<()> + 'static,
    ) -> UnixServer
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        let Self { path, init } = self;
        UnixServer::of(
            path,
            Service::new(move || {
                let mut state = init()?;
                let handler: Handler<UnixStream> = Box::new(move |conn| handler(&mut state, conn));
                Ok(handler)
            }),
        )
    }

    /// The server that has `factory` make an object for each connection, from the child's state: see
    /// [`TcpServer::conn_class`](crate::TcpServer::conn_class).
    pub fn conn_class<T: 'static, C: ConnClass>(
        self,
        mut factory: impl FnMut(&mut T) -> C + 'static,
    ) -> UnixServer
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        self.serve(move |state, conn| conn.run_class(factory(state)))
    }
}
