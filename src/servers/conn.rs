//! One connection in a child: reading and writing that keep sending ACKs while the client is slow.
//! The files below add objects that are called when input arrives, and filters that split it into
//! records: the original's POE::Class::Conn. Talks to one client; never accepts.
//!
//! A [`ConnClass`] is made for each connection by the factory given to
//! [`TcpServer::conn_class`](crate::TcpServer::conn_class). Its methods are lent a [`Session`]: the
//! buffers, the [`Filter`] and the attributes that a class of the original inherits.

mod bounds;
mod class;
mod crowd;
pub mod defaults;
mod driver;
mod filter;
mod limit;
mod meter;
mod pace;
mod peer;
#[cfg(feature = "proxy-protocol")]
mod proxied;
mod pump;
#[cfg(any(test, fuzzing))]
pub(crate) mod segmentation;
mod session;
mod stream;
mod times;
mod waiting;

#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod session_tests;

use self::bounds::Bounds;
pub(super) use self::meter::{Meter, Metered};
pub use self::{
    class::ConnClass,
    filter::{BlockFilter, Filter, Input, LineEnd, LineFilter, Record, StreamFilter},
    limit::Limit,
    pace::MinRate,
    peer::{Peer, PeerCredentials},
    session::Session,
    stream::Stream,
};
use super::accept::SharedListeners;

#[cfg(feature = "proxy-protocol")]
use super::proxy::Proxied;
use crate::{
    core::{comm::Acker, endpoint_load::EndpointLoad, time::Time},
    hooks::comm::Comm,
    sys::accept::{Newcomer, canonical},
};
use std::{
    fmt, io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// A connection, handed to the handler of a stock server. Dropping it closes it.
///
/// It reads and writes like a blocking stream (also through `&Conn`, so a `BufReader` over `&conn`
/// leaves `&conn` for writing). While it waits for the client, however slow, the child goes on
/// sending ACKs: only a child that is stuck in code is timed out. Neither `WouldBlock` nor
/// `Interrupted` is ever returned.
pub struct Conn<S> {
    stream: S,
    /// The client's address, remembered: the kernel forgets it when the client resets.
    remote: Option<SocketAddr>,
    /// How long it was queued, if that was asked for and is known.
    queued: Option<Duration>,
    comm: Comm,
    listeners: SharedListeners,
    number: u64,
    /// How long an operation may block by itself, before the wait begins that sends ACKs and
    /// notices the parent's end. The client is usually ready by then, which saves two system calls.
    first_wait: Option<Duration>,
    bounds: Bounds,
    /// What moves over it, if a hook is told of its end.
    meter: Metered,
    /// What the proxy has said that passes the connection on.
    #[cfg(feature = "proxy-protocol")]
    proxied: Option<Box<Proxied>>,
}

/// Where a connection is served: by which child, as which one.
pub(super) struct ConnContext {
    pub(super) comm: Comm,
    pub(super) listeners: SharedListeners,
    /// How many connections the child has taken, this one included.
    pub(super) number: u64,
    /// See [`Conn::first_wait`].
    pub(super) first_wait: Option<Duration>,
    pub(super) meter: Metered,
}

impl<S: Stream> Conn<S> {
    pub(super) fn new(connection: Newcomer, place: ConnContext) -> Self {
        Self {
            stream: S::from(connection.stream),
            remote: connection.remote,
            queued: connection.queued,
            comm: place.comm,
            listeners: place.listeners,
            number: place.number,
            first_wait: place.first_wait,
            bounds: Bounds::default(),
            meter: place.meter,
            #[cfg(feature = "proxy-protocol")]
            proxied: None,
        }
    }

    /// Describes the client, as a proxy has told it if there is one.
    pub(super) fn peer(&self) -> Peer {
        let peer = self.stream.peer(self.remote);
        #[cfg(feature = "proxy-protocol")]
        let peer = peer.behind(self.proxied.as_deref());
        peer
    }

    /// The client's internet address, as a proxy has told it if there is one.
    pub(super) fn client(&self) -> Option<SocketAddr> {
        #[cfg(feature = "proxy-protocol")]
        if let Some(source) = self.proxied().and_then(Proxied::source) {
            return Some(source);
        }
        self.remote
    }

    /// How many connections this child has taken, this one included.
    ///
    /// The original's `requests_handled`.
    pub fn requests_handled(&self) -> u64 {
        self.number
    }

    /// How long the connection was queued.
    ///
    /// It is the time from the end of its handshake until this child took it.
    ///
    /// `None` unless the server was told to [ask for it](crate::servers::StreamServer::queue_time) or
    /// has a [`max_queue_age`](crate::servers::StreamServer::max_queue_age), and where the kernel
    /// does not tell: it does for TCP on Linux, in ticks of mostly 4 ms. The time that the client
    /// has spent in the queue of a proxy before is not in it.
    pub fn queued_for(&self) -> Option<Duration> {
        self.queued
    }

    /// Says that the child is alive, during long legitimate work.
    ///
    /// A child that computes for longer than `timeout` without this call is told to stop.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached.
    pub fn ack(&self) -> io::Result<()> {
        self.comm.ack()
    }

    /// Asks for more time for this connection: `time` from now.
    ///
    /// It is for long legitimate work where there is a `busy_timeout`. See [`Comm::extend`].
    pub fn extend(&self, time: Duration) {
        self.comm.extend(time);
    }

    /// Says what the child does with this connection.
    ///
    /// See [`Comm::describe`].
    ///
    /// The text that was said last is also in the line of an
    /// [access log](crate::servers::StreamServer::access_log).
    pub fn describe(&self, text: &str) {
        self.comm.describe(text);
        self.note_text(text);
    }

    /// Whether the child should leave: a handler with a long connection should end it.
    ///
    /// True when the child was told to stop, the parent is gone, or
    /// [`leave_after_this`](Self::leave_after_this) was called.
    pub fn shutdown_requested(&self) -> bool {
        self.comm.shutdown_requested()
    }

    /// Makes the child leave when this connection ends, and be replaced.
    ///
    /// For a handler that has lost a resource that it needs, such as its connection to a database.
    /// See [`Comm::leave_after_this`].
    pub fn leave_after_this(&self) {
        self.comm.leave_after_this();
    }

    /// Asks the parent to replace this child: see [`Comm::ask_for_replacement`].
    ///
    /// For a handler that has leaked, or whose caches are stale, and that serves on until its
    /// successor is ready.
    ///
    /// # Errors
    ///
    /// When the parent cannot be reached.
    pub fn ask_for_replacement(&self) -> io::Result<()> {
        self.comm.ask_for_replacement()
    }

    /// How many children have a connection in hand now, this one included.
    ///
    /// See [`Comm::busy_servers`].
    pub fn busy_servers(&self) -> usize {
        self.comm.busy_servers()
    }

    /// How loaded the server is, for a header of the answer.
    ///
    /// See [`EndpointLoad`] and [`Comm::endpoint_load`].
    ///
    /// ```
    /// # use prefork_server::{TcpServer, servers::EndpointLoad};
    /// # use std::io::Write;
    /// let server = TcpServer::new(|mut conn| {
    ///     let load = conn.endpoint_load();
    ///     write!(conn, "HTTP/1.0 200 OK\r\n{}: {load}\r\n\r\nHello\n", EndpointLoad::HEADER)
    /// });
    /// # let _ = server;
    /// ```
    pub fn endpoint_load(&self) -> EndpointLoad {
        self.comm.endpoint_load()
    }

    /// How many children there may be: see [`Comm::max_clients`].
    pub fn max_clients(&self) -> usize {
        self.comm.max_clients()
    }

    /// Ends one direction of the connection, or both.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.end(how)
    }

    /// The stream itself, in blocking mode, and a handle that says words.
    ///
    /// For TLS, HTTP and other libraries that want to own the stream. Sending ACKs while they wait
    /// is up to the caller.
    ///
    /// # Errors
    ///
    /// When the stream cannot be put into blocking mode.
    pub fn into_parts(self) -> io::Result<(S, Acker)> {
        self.stream.block()?;
        self.note_shared();
        Ok((self.stream, self.comm.acker()))
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// When this time from now is over.
    pub(super) fn time_after(&self, time: Option<Duration>) -> Option<Time> {
        self.comm.deadline(time)
    }
}

impl Conn<TcpStream> {
    /// The client's address when the connection was accepted.
    ///
    /// A client that has reset the connection still has it, and no system call is made. Where a socket
    /// takes IPv4 and IPv6, an IPv4 client's is an IPv4 address (`127.0.0.1`, not `::ffff:127.0.0.1`), so a
    /// rule about addresses holds for both kinds of socket.
    ///
    /// With [`proxy_protocol`](crate::servers#proxies) it is the address that the proxy tells; if
    /// the proxy tells none, its own.
    ///
    /// # Errors
    ///
    /// When the operating system has not told it.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.client()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The address that the client has connected to.
    ///
    /// It is an IPv4 address if the client has used one.
    ///
    /// With [`proxy_protocol`](crate::servers#proxies) it is the address at the proxy, if the proxy
    /// tells it.
    ///
    /// # Errors
    ///
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        #[cfg(feature = "proxy-protocol")]
        if let Some(destination) = self.proxied().and_then(Proxied::destination) {
            return Ok(destination);
        }
        self.stream.local_addr().map(canonical)
    }
}

/// For a poller. A read or write through it does not wait as the connection itself does: it fails
/// with `WouldBlock` instead, over TCP after 20 ms, over a UNIX socket at once.
impl<S: Stream> AsFd for Conn<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S: fmt::Debug> fmt::Debug for Conn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
