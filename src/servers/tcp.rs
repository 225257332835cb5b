//! The stock TCP server, the original's PreFork::TCP: addresses, options, a handler.

use super::{
    accept::{BRIEFLY, Handler, order::AcceptOrder},
    conn::{Conn, ConnClass},
    service::{Service, common_attributes, common_server},
};
use crate::{
    core::error::{Error, Operation},
    hooks::{comm::Comm, server::ChildServer},
    listeners::inherited::{self, Wanted},
    sys::{
        fd_registry::Ours,
        handed_over::{self, Family, Given},
        sockets,
    },
};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    time::Duration,
};

/// Which addresses a host name may stand for.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Domain {
    /// Whichever the name has first.
    #[default]
    Any,
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
}

impl Domain {
    fn admits(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Inet => address.is_ipv4(),
            Self::Inet6 => address.is_ipv6(),
        }
    }
}

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
#[derive(Debug)]
pub struct TcpServer {
    service: Service<TcpStream>,
    address: String,
    port: u16,
    domain: Domain,
    more: Vec<SocketAddr>,
    only_v6: bool,
    listeners: Vec<Ours<TcpListener>>,
    handed_over: Option<Wanted>,
    given: Vec<Ours<Given>>,
}

impl TcpServer {
    /// A server that hands each connection to `handler`, in the child.
    ///
    /// An error that the handler returns is printed to the child's stderr, unless it only says that
    /// the client has gone or was too slow. A panic ends the child.
    pub fn new(handler: impl FnMut(Conn<TcpStream>) -> io::Result<()> + 'static) -> Self {
        Self::of(Service::new(move || {
            let handler: Handler<TcpStream> = Box::new(handler);
            Ok(handler)
        }))
    }

    /// A server whose handler has state of its own in each child, made by `init` after the fork:
    /// a database connection, an interpreter, a random generator.
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
        TcpPerChild { init }
    }

    /// A server that has `factory` make an object for each connection, in the child, and runs it: the
    /// original's attribute `conn_class`. See [`ConnClass`].
    ///
    /// The factory, and what it owns, is made in the parent and copied into each child by the fork; for
    /// what must be made in the child see [`TcpPerChild::conn_class`].
    pub fn conn_class<C: ConnClass + 'static>(mut factory: impl FnMut() -> C + 'static) -> Self {
        Self::new(move |conn| conn.run_class(factory()))
    }

    fn of(service: Service<TcpStream>) -> Self {
        Self {
            service,
            address: "127.0.0.1".to_owned(),
            port: 0,
            domain: Domain::Any,
            more: Vec::new(),
            only_v6: false,
            listeners: Vec::new(),
            handed_over: None,
            given: Vec::new(),
        }
    }

    /// The address to listen on, or a host name. Default: 127.0.0.1. `0.0.0.0` and `::` mean all.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// The port. Default: 0, which has the system choose one; [`local_addrs`](Self::local_addrs)
    /// tells which.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Which addresses a host name may stand for. Default: any.
    #[must_use]
    pub fn domain(mut self, domain: Domain) -> Self {
        self.domain = domain;
        self
    }

    /// One more address to listen on, beside `address` and `port`.
    #[must_use]
    pub fn also(mut self, address: SocketAddr) -> Self {
        self.more.push(address);
        self
    }

    /// Whether an IPv6 address takes IPv6 only: needed to listen on `::` and `0.0.0.0` at one port.
    /// Default: false, the system's default stands.
    #[must_use]
    pub fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = only;
        self
    }

    common_attributes!(TcpStream);

    /// The addresses that the started server listens on, with the ports that it got.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
        let name = format!("{}:{}", self.address, self.port);
        let failed = |error| Error::new(Operation::Lookup, name.clone(), error);
        let found = (self.address.as_str(), self.port)
            .to_socket_addrs()
            .map_err(failed)?;
        let fitting: Vec<_> = found
            .filter(|address| self.domain.admits(address))
            .collect();
        if fitting.is_empty() {
            let reason = io::Error::new(io::ErrorKind::NotFound, "no address of that domain");
            return Err(failed(reason));
        }
        Ok(fitting)
    }

    fn listen(&self, address: SocketAddr) -> Result<Ours<TcpListener>, Error> {
        sockets::listen_tcp(address, self.only_v6, self.service.backlog).map(Ours::servers)
    }

    /// Listens on the first of a name's addresses that can be had.
    fn listen_any(&self, addresses: &[SocketAddr]) -> Result<Ours<TcpListener>, Error> {
        let mut last = None;
        for &address in addresses {
            match self.listen(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::new(
                Operation::Lookup,
                self.address.clone(),
                io::ErrorKind::NotFound.into(),
            )
        }))
    }

    fn take_over(&mut self, wanted: &Wanted) -> io::Result<()> {
        for taken in inherited::take(wanted, Family::Inet)? {
            let listener = TcpListener::from(taken.socket);
            listener.set_nonblocking(true)?;
            self.listeners.push(Ours::servers(listener));
            self.given.push(taken.given);
        }
        Ok(())
    }

    fn listen_all(&mut self) -> Result<(), Error> {
        let mut listeners = vec![self.listen_any(&self.resolve()?)?];
        for &address in &self.more {
            listeners.push(self.listen(address)?);
        }
        // Where one of them cannot, all connections wait in the other way.
        let all_can = listeners
            .iter()
            .all(|listener| sockets::block_briefly(&**listener, BRIEFLY).is_ok());
        self.service.terms.first_wait = all_can.then_some(BRIEFLY);
        self.listeners = listeners;
        self.service.let_them_block(&self.listeners);
        Ok(())
    }
}

impl ChildServer for TcpServer {
    fn start(&mut self) -> io::Result<()> {
        match self.handed_over.clone() {
            // No timeouts on those: the options of a socket are its giver's as well.
            Some(wanted) => self.take_over(&wanted),
            None => Ok(self.listen_all()?),
        }
    }

    fn stop(&mut self) {
        self.listeners.clear();
        self.given.clear();
    }

    common_server!();
}

/// A [`TcpServer`] with state per child, waiting for its handler: see [`TcpServer::per_child`].
#[derive(Debug)]
#[must_use = "it needs a handler: call `serve`"]
pub struct TcpPerChild<I> {
    init: I,
}

impl<I> TcpPerChild<I> {
    /// The server that hands each connection to `handler`, together with the child's state.
    pub fn serve<T: 'static>(
        self,
        mut handler: impl FnMut(&mut T, Conn<TcpStream>) -> io::Result<()> + 'static,
    ) -> TcpServer
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        TcpServer::of(Service::new(move || {
            let mut state = (self.init)()?;
            let handler: Handler<TcpStream> = Box::new(move |conn| handler(&mut state, conn));
            Ok(handler)
        }))
    }

    /// The server that has `factory` make an object for each connection, from the child's state: see
    /// [`TcpServer::conn_class`].
    pub fn conn_class<T: 'static, C: ConnClass>(
        self,
        mut factory: impl FnMut(&mut T) -> C + 'static,
    ) -> TcpServer
    where
        I: FnOnce() -> io::Result<T> + 'static,
    {
        self.serve(move |state, conn| conn.run_class(factory(state)))
    }
}
