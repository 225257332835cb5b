//! The stock server over any kind of listener: its attributes and its handler; `serving` makes a
//! `ChildServer` of it. Opens no socket (`listeners` does) and accepts no connection (`accept` does).

mod factory;
mod per_child;
mod serving;
mod timing;

pub use self::per_child::PerChild;

use self::{factory::HandlerFactory, timing::Timing};
#[cfg(feature = "proxy-protocol")]
use super::proxy::{self, HeaderRefusals, ProxyProtocol};
use super::{
    accept::Handler,
    admission::AdmissionRules,
    conn::{Conn, Stream},
    ending::EndRules,
    queues::Queues,
    reloading::Reloading,
};
use crate::{
    core::accept::order::AcceptOrder,
    listeners::{
        Listener,
        inherited::WantedSockets,
        open::{OpenSockets, SocketOrigin},
    },
};
use std::{fmt, io, os::fd::OwnedFd, time::Duration};

/// Accepts on a [`Listener`], one connection at a time in each child.
///
/// [`TcpServer`](crate::TcpServer) and [`UnixServer`](crate::UnixServer) are aliases for the two
/// listeners of the crate; for your own listener see [`on`](Self::on).
pub struct StreamServer<L: Listener> {
    pub(super) listener: L,
    sockets: OpenSockets,
    factory: HandlerFactory<L::Stream>,
    max_requests: u64,
    requests_handled: u64,
    backlog: i32,
    /// The accept order, if it was set.
    order: Option<AcceptOrder>,
    send_ack: Option<Duration>,
    timing: Timing,
    #[cfg(feature = "proxy-protocol")]
    proxies: proxy::ProxyPolicy,
    pub(super) admission: AdmissionRules<L::Stream>,
    pub(super) ends: EndRules,
    pub(super) reloading: Reloading<L>,
    queues: Queues,
}

impl<L: Listener<Stream: Stream>> StreamServer<L> {
    const MAX_REQUESTS: u64 = 25;
    const BACKLOG: i32 = 1024;

    /// A server that hands each connection on `listener` to `handler`, in the child.
    ///
    /// An error that the handler returns is printed to the child's stderr, unless it only says that
    /// the client has gone or was too slow. A panic ends the child.
    pub fn on(
        listener: L,
        handler: impl FnMut(Conn<L::Stream>) -> io::Result<()> + 'static,
    ) -> Self {
        Self::made_by(listener, move || {
            let handler: Handler<L::Stream> = Box::new(handler);
            Ok(handler)
        })
    }

    fn made_by(
        listener: L,
        factory: impl FnOnce() -> io::Result<Handler<L::Stream>> + 'static,
    ) -> Self {
        Self {
            listener,
            sockets: OpenSockets::new(),
            factory: HandlerFactory::new(factory),
            max_requests: Self::MAX_REQUESTS,
            requests_handled: 0,
            backlog: Self::BACKLOG,
            order: None,
            send_ack: None,
            timing: Timing::default(),
            #[cfg(feature = "proxy-protocol")]
            proxies: proxy::ProxyPolicy::default(),
            admission: AdmissionRules::default(),
            ends: EndRules::default(),
            reloading: Reloading::default(),
            queues: Queues::new(),
        }
    }

    /// How many connections a child takes before it is replaced.
    ///
    /// Default: 25; 0 means no limit.
    ///
    /// A child asks for its replacement at the limit, or up to `limit_jitter` before it, and serves
    /// on until its successor is ready; a tenth above the limit it leaves in any case. With a limit
    /// below 20 it leaves at the limit, since a tenth of it leaves a successor no time.
    #[must_use]
    pub fn max_requests(mut self, connections: u64) -> Self {
        self.max_requests = connections;
        self
    }

    /// Like [`max_requests`](Self::max_requests), for a running server.
    ///
    /// Reached through [`PreFork::server_mut`](crate::PreFork::server_mut); applies to children
    /// that are forked from then on.
    pub fn set_max_requests(&mut self, connections: u64) {
        self.max_requests = connections;
    }

    /// How many connections a child takes; 0 means no limit.
    pub fn get_max_requests(&self) -> u64 {
        self.max_requests
    }

    /// How many connections may wait to be accepted. Default: 1024.
    ///
    /// The kernel lowers it to the system's limit (`net.core.somaxconn`), with a warning; less than
    /// 0 counts as 0.
    #[must_use]
    pub fn backlog(mut self, connections: i32) -> Self {
        self.backlog = connections;
        self
    }

    /// The backlog that was asked for.
    pub fn get_backlog(&self) -> i32 {
        self.backlog
    }

    /// Which idle child gets the next connection. Default: see [`AcceptOrder`].
    #[must_use]
    pub fn accept_order(mut self, order: AcceptOrder) -> Self {
        self.order = Some(order);
        self
    }

    /// Which of the idle children gets the next connection, if that was set.
    pub fn get_accept_order(&self) -> Option<AcceptOrder> {
        self.order
    }

    /// Requires a PROXY protocol header of each connection.
    ///
    /// Only the proxies that are trusted may send one.
    ///
    /// The handler then finds the client's address in place of the proxy's. Default: off, no header
    /// is read. See [`servers::proxy`](crate::servers::proxy).
    #[cfg(feature = "proxy-protocol")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    #[must_use]
    pub fn proxy_protocol(mut self, proxies: ProxyProtocol) -> Self {
        self.proxies.protocol = Some(proxies);
        self
    }

    /// Which proxies are trusted, if headers are required.
    #[cfg(feature = "proxy-protocol")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn get_proxy_protocol(&self) -> Option<&ProxyProtocol> {
        self.proxies.protocol.as_ref()
    }

    /// How many connections all children have refused for the lack of a valid header.
    ///
    /// All zero before the server has started. Parent and children see the same numbers.
    #[cfg(feature = "proxy-protocol")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn header_refusals(&self) -> HeaderRefusals {
        self.proxies.refusals()
    }

    /// Calls `hook` with each connection that a child has accepted, before serving it.
    ///
    /// The original's `handler_connection`. The child has already said BUSY and counted the
    /// connection. The second argument is SUPER: it serves the connection to its end. A hook that
    /// does not call it refuses the connection. Several hooks wrap one another, the last one
    /// outermost.
    ///
    /// ```
    /// # use prefork_server::TcpServer;
    /// let server = TcpServer::new(|conn| Ok(())).handler_connection(|conn, serve| {
    ///     if !conn.peer_addr()?.ip().is_loopback() {
    ///         return Ok(()); // dropped, which closes it
    ///     }
    ///     serve(conn)
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// What the hook returns is treated as an error of the handler.
    #[must_use]
    pub fn handler_connection<F>(mut self, hook: F) -> Self
    where
        F: FnMut(
                Conn<L::Stream>,
                &mut dyn FnMut(Conn<L::Stream>) -> io::Result<()>,
            ) -> io::Result<()>
            + 'static,
    {
        self.factory.wrap(hook);
        self
    }

    /// Takes over listening sockets that the service manager has opened.
    ///
    /// It opens none then.
    ///
    /// systemd opens them for a service with a `.socket` unit. The server takes the descriptors of
    /// LISTEN_FDS that are listening sockets of its kind, and leaves the others alone: they may be
    /// for another server or another part of the program. The start fails if LISTEN_PID is not this
    /// process, if no socket fits, or if the variables are invalid: with
    /// [`ListenFdsError`](crate::servers::ListenFdsError) as the reason. See
    /// [`has_listen_fds`](crate::servers::has_listen_fds) for a server that opens its own socket in
    /// that case.
    ///
    /// The sockets become non-blocking, for all processes that share them, and close-on-exec. They
    /// stay open in the parent until it exits, for a second start. Children keep only the sockets
    /// of their server, and LISTEN_FDS is removed from their environment (where `/proc` shows that
    /// they have one thread), so that programs that they run do not use it.
    #[must_use]
    pub fn listen_fds(mut self) -> Self {
        self.take_over(WantedSockets::All);
        self
    }

    pub(super) fn take_over(&mut self, wanted: WantedSockets) {
        self.sockets.origin = SocketOrigin::Inherited(wanted);
    }

    /// Like [`listen_fds`](Self::listen_fds), but only sockets with this name.
    ///
    /// LISTEN_FDNAMES has the names: a socket unit's `FileDescriptorName`. Each of these must be a
    /// listening socket of this server's kind.
    #[must_use]
    pub fn listen_fds_named(mut self, name: impl Into<String>) -> Self {
        self.take_over(WantedSockets::Named(name.into()));
        self
    }

    /// Accepts on a socket that the program has opened, instead of opening one.
    ///
    /// It must listen, or the start fails; it becomes non-blocking. Call it once for each socket.
    /// The file of a UNIX socket stays the program's to remove.
    ///
    /// ```no_run
    /// use prefork_server::TcpServer;
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:7777")?;
    /// let server = TcpServer::new(|conn| Ok(())).socket(listener);
    /// # let _ = server;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn socket(mut self, listening: impl Into<OwnedFd>) -> Self {
        match &mut self.sockets.origin {
            SocketOrigin::Program(sockets) => sockets.push(listening.into()),
            other => *other = SocketOrigin::Program(vec![listening.into()]),
        }
        self
    }

    /// How many connections this process has taken: in the parent, none.
    pub fn requests_handled(&self) -> u64 {
        self.requests_handled
    }

    /// The sockets that the started server listens on.
    pub(super) fn open_sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.sockets.iter()
    }
}

impl<L: Listener> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("listener", &self.listener)
            .field("sockets", &self.sockets)
            .field("max_requests", &self.max_requests)
            .field("admission", &self.admission)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}
