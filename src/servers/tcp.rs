//! The stock TCP server, the original's PreFork::TCP: its constructors and the attributes that only
//! TCP has. Accepts nothing itself: [`StreamServer`] does.

use super::{
    conn::{Conn, ConnClass},
    stream::{PerChild, StreamServer},
};
use crate::{
    listeners::tcp::{Domain, Keepalive, Tcp},
    sys::sockets,
};
use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Accepts on one TCP address or several, one connection at a time in each child.
///
/// ```no_run
/// use prefork_server::{PreFork, TcpServer};
/// use std::io::{BufRead, BufReader, Write};
///
/// let server = TcpServer::new(|conn| {
///     for line in BufReader::new(&conn).lines() {
///         writeln!(&conn, "{}", line?)?;
///     }
///     Ok(())
/// });
/// let report = PreFork::builder(server.port(7777)).run()?;
/// # Ok::<(), prefork_server::Error>(())
/// ```
pub type TcpServer = StreamServer<Tcp>;

/// A [`TcpServer`] with state per child, waiting for its handler.
///
/// See [`TcpServer::per_child`].
pub type TcpPerChild<I> = PerChild<Tcp, I>;

impl StreamServer<Tcp> {
    /// A server that hands each connection to `handler`, in the child.
    ///
    /// An error that the handler returns is printed to the child's stderr, unless it only says that
    /// the client has gone or was too slow. A panic ends the child.
    pub fn new(handler: impl FnMut(Conn<TcpStream>) -> io::Result<()> + 'static) -> Self {
        Self::on(Tcp::local(), handler)
    }

    /// A server whose handler has state of its own in each child.
    ///
    /// It is made by `init` after the fork: a database connection, an interpreter, a random
    /// generator.
    ///
    /// ```no_run
    /// # use prefork_server::TcpServer;
    /// # use std::io::Write;
    /// let server = TcpServer::per_child(|| Ok(0)).serve(|served, conn| {
    ///     *served += 1;
    ///     writeln!(&conn, "number {served}")
    /// });
    /// ```
    pub fn per_child<T, I>(init: I) -> TcpPerChild<I>
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        PerChild::on(Tcp::local(), init)
    }

    /// A server whose `factory` makes an object for each connection, in the child.
    ///
    /// The object's handlers are called for the connection: see [`ConnClass`]; the original's
    /// attribute `conn_class`. The factory, and what it owns, is made in the parent and copied into
    /// each child by the fork; for state that must be made in the child see
    /// [`TcpPerChild::conn_class`].
    pub fn conn_class<C: ConnClass + 'static>(mut factory: impl FnMut() -> C + 'static) -> Self {
        Self::new(move |conn| conn.run_class(factory()))
    }

    /// The address to listen on, or a host name. Default: 127.0.0.1.
    ///
    /// `0.0.0.0` and `::` mean all addresses; an IPv6 address may be in brackets. A name stands for
    /// the first of its addresses that this system has.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.listener.address = address.into();
        self
    }

    /// The address that was asked for; [`local_addrs`](Self::local_addrs) returns the actual ones.
    pub fn get_address(&self) -> &str {
        &self.listener.address
    }

    /// The port.
    ///
    /// Default: 0, which lets the system choose one; [`local_addrs`](Self::local_addrs) returns it.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.listener.port = Some(port);
        self
    }

    /// The port that was asked for.
    pub fn get_port(&self) -> u16 {
        self.listener.port.unwrap_or(0)
    }

    /// Which addresses a host name may stand for. Default: any.
    #[must_use]
    pub fn domain(mut self, domain: Domain) -> Self {
        self.listener.domain = domain;
        self
    }

    /// Which addresses a host name may stand for.
    pub fn get_domain(&self) -> Domain {
        self.listener.domain
    }

    /// One more address to listen on, in addition to `address` and `port`.
    #[must_use]
    pub fn also(mut self, address: SocketAddr) -> Self {
        self.listener.more.push(address);
        self
    }

    /// Whether an IPv6 address takes IPv6 only.
    ///
    /// It is needed to listen on `::` and `0.0.0.0` at one port. Default: false, the system's
    /// default stands.
    #[must_use]
    pub fn only_v6(mut self, only: bool) -> Self {
        self.listener.only_v6 = only;
        self
    }

    /// Whether an IPv6 address takes IPv6 only.
    pub fn get_only_v6(&self) -> bool {
        self.listener.only_v6
    }

    /// Whether what a handler writes is sent at once (TCP_NODELAY). Default: true.
    ///
    /// With false the kernel may hold back a second small write until the client has acknowledged
    /// the first, which may take 40 ms. Set on the listening socket, even if it was handed over;
    /// connections inherit it.
    #[must_use]
    pub fn no_delay(mut self, on: bool) -> Self {
        self.listener.no_delay = on;
        self
    }

    /// Whether what a handler writes is sent at once.
    pub fn get_no_delay(&self) -> bool {
        self.listener.no_delay
    }

    /// Lets the kernel detect silent clients that have vanished.
    ///
    /// Default: off. Set on the listening socket; connections inherit it.
    #[must_use]
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.listener.keepalive = Some(keepalive);
        self
    }

    /// How the kernel detects silent clients that have vanished, if it does.
    pub fn get_keepalive(&self) -> Option<Keepalive> {
        self.listener.keepalive
    }

    /// Lets the kernel keep a connection until its client has sent something.
    ///
    /// It keeps it for `time` at most (TCP_DEFER_ACCEPT). Default: off.
    ///
    /// So a client that connects and is silent holds no child. For protocols in which the client
    /// speaks first. In whole seconds, rounded up; the kernel rounds them to the times of its
    /// retransmissions (1, 3, 7, 15, 31 s). [`Conn::queued_for`] counts from the first bytes. Linux
    /// only; no effect elsewhere.
    #[must_use]
    pub fn defer_accept(mut self, time: Duration) -> Self {
        self.listener.defer_accept = Some(time);
        self
    }

    /// How long the kernel keeps connections of silent clients, if it does.
    pub fn get_defer_accept(&self) -> Option<Duration> {
        self.listener.defer_accept
    }

    /// The addresses that the started server listens on, with the ports that it got.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.open_sockets()
            .filter_map(sockets::tcp_address)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::{AcceptOrder, Access};
    /// Each attribute of a stock server has a getter, and `max_requests` has a setter. The
    /// recipes of `docs/porting.md` are compiled and run as its examples.
    #[test]
    fn o44_each_getter_says_what_was_set() {
        let keepalive = Keepalive::after(Duration::from_secs(9));
        let office = Access::new().allow_user(7);
        let mut server = TcpServer::new(|_| Ok(()))
            .address("localhost")
            .port(7)
            .domain(Domain::Inet6)
            .only_v6(true)
            .no_delay(false)
            .keepalive(keepalive)
            .defer_accept(Duration::from_secs(4))
            .max_queue_age(Duration::from_secs(5))
            .queue_target(Duration::from_secs(1))
            .queue_time(true)
            .access(office.clone())
            .backlog(3)
            .accept_order(AcceptOrder::InTurn)
            .max_requests(5);
        assert_eq!(server.get_address(), "localhost");
        assert_eq!(server.get_port(), 7);
        assert_eq!(server.get_domain(), Domain::Inet6);
        assert!(server.get_only_v6() && !server.get_no_delay());
        assert_eq!(server.get_keepalive(), Some(keepalive));
        assert_eq!(server.get_defer_accept(), Some(Duration::from_secs(4)));
        assert_eq!(server.get_max_queue_age(), Some(Duration::from_secs(5)));
        assert_eq!(server.get_queue_target(), Some(Duration::from_secs(1)));
        assert!(server.get_queue_time());
        assert_eq!(server.get_access(), &office);
        assert_eq!(server.get_backlog(), 3);
        assert_eq!(server.get_accept_order(), Some(AcceptOrder::InTurn));
        assert_eq!(server.get_max_requests(), 5);
        server.set_max_requests(6);
        assert_eq!(server.get_max_requests(), 6);
        server.set_max_queue_age(None);
        assert_eq!(server.get_max_queue_age(), None);
    }
}
