//! The TCP kind of listener: addresses, names, options. Serves no client.

use super::Listener;
use crate::{
    core::error::{Error, Operation},
    sys::{
        sockets::{self, Family},
        tcp_info, upgrade,
    },
};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

/// Which addresses of a host name are used.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Domain {
    /// Addresses of both families, in the order in which the system returns them.
    #[default]
    Any,
    /// Only IPv4 addresses.
    Inet,
    /// Only IPv6 addresses.
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

/// When the kernel probes a silent client, and when it gives it up.
///
/// A read then fails with `TimedOut`. In whole seconds; less than one counts as one.
///
/// ```
/// # use prefork_server::{TcpServer, servers::Keepalive};
/// # use std::time::Duration;
/// // A client that has vanished is given up after 60 + 3 × 10 seconds.
/// let keepalive = Keepalive::after(Duration::from_secs(60))
///     .interval(Duration::from_secs(10))
///     .count(3);
/// let server = TcpServer::new(|conn| Ok(())).keepalive(keepalive);
/// # let _ = server;
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Keepalive {
    idle: Duration,
    interval: Option<Duration>,
    count: u32,
}

impl Keepalive {
    /// Sends the first probe after a silence of `idle`.
    pub fn after(idle: Duration) -> Self {
        Self {
            idle,
            interval: None,
            count: 0,
        }
    }

    /// The time between two probes.
    ///
    /// Default: the system's (75 s on Linux).
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// How many unanswered probes end a connection.
    ///
    /// Default: the system's (9 on Linux).
    #[must_use]
    pub fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    fn set_on(self, socket: &impl AsFd) -> io::Result<()> {
        /// Linux's maximum.
        const MOST: u64 = 32_767;
        let seconds = |time: Duration| time.as_secs().clamp(1, MOST) as u32;
        let interval = self.interval.map_or(0, seconds);
        sockets::keep_alive(socket, seconds(self.idle), interval, self.count.min(127))
    }
}

/// TCP sockets: the listeners of a [`TcpServer`](crate::TcpServer).
#[derive(Clone, Debug)]
pub struct Tcp {
    /// A host. It includes the port if `port` is not set.
    pub(crate) address: String,
    pub(crate) port: Option<u16>,
    pub(crate) domain: Domain,
    pub(crate) more: Vec<SocketAddr>,
    pub(crate) only_v6: bool,
    pub(crate) no_delay: bool,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) defer_accept: Option<Duration>,
}

impl Tcp {
    /// The default: `127.0.0.1`, and a port that the system chooses.
    pub(crate) fn local() -> Self {
        Self {
            address: "127.0.0.1".to_owned(),
            port: Some(0),
            domain: Domain::Any,
            more: Vec::new(),
            only_v6: false,
            no_delay: true,
            keepalive: None,
            defer_accept: None,
        }
    }

    /// An address as text: `127.0.0.1:80`, `[::1]:80`, `localhost:80`.
    pub(crate) fn at(address: String) -> Self {
        Self {
            address,
            port: None,
            ..Self::local()
        }
    }

    fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
        let name = match self.port {
            Some(port) => format!("{}:{port}", self.address),
            None => self.address.clone(),
        };
        let found = match (self.port, all_addresses(&self.address)) {
            (Some(port), _) => (without_brackets(&self.address), port).to_socket_addrs(),
            (None, Some(all)) => Ok(all.into_iter()),
            (None, None) => self.address.to_socket_addrs(),
        };
        let found = found.map_err(|error| Error::new(Operation::Lookup, name.clone(), error))?;
        let fitting: Vec<_> = found
            .filter(|address| self.domain.admits(address))
            .collect();
        if fitting.is_empty() {
            let reason = io::Error::new(io::ErrorKind::NotFound, "no address of that domain");
            return Err(Error::new(Operation::Lookup, name, reason));
        }
        Ok(fitting)
    }

    fn listen(&self, address: SocketAddr, backlog: i32) -> Result<OwnedFd, Error> {
        let failed = |operation| move |error| Error::new(operation, address.to_string(), error);
        let inherited = upgrade::tcp_socket(address).map_err(failed(Operation::Upgrade))?;
        let socket = match inherited {
            Some(inherited) => inherited,
            None => sockets::bind_tcp(address, self.only_v6)?,
        };
        // Set before the first connection can arrive, so that all connections inherit the options.
        self.set_options(&socket)
            .map_err(failed(Operation::Socket))?;
        sockets::listen(&socket, backlog)
            .map_err(|errno| failed(Operation::Listen)(errno.into()))?;
        Ok(socket)
    }

    fn set_options(&self, socket: &impl AsFd) -> io::Result<()> {
        if self.no_delay {
            sockets::send_at_once(socket)?;
        }
        if let Some(time) = self.defer_accept {
            let seconds = time.as_millis().div_ceil(1_000);
            sockets::defer_accept(socket, u32::try_from(seconds).unwrap_or(u32::MAX / 2))?;
        }
        self.keepalive
            .map_or(Ok(()), |keepalive| keepalive.set_on(socket))
    }

    /// Listens on the first of a name's addresses that this system has. An address in use is an
    /// error: the name leads clients to the server that uses it.
    fn listen_on_first(&self, addresses: &[SocketAddr], backlog: i32) -> Result<OwnedFd, Error> {
        for &address in addresses {
            match self.listen(address, backlog) {
                Err(error)
                    if Some(&address) != addresses.last()
                        && sockets::is_missing_address(error.io_error()) => {}
                result => return result,
            }
        }
        let reason = io::ErrorKind::NotFound.into();
        Err(Error::new(Operation::Lookup, self.address.clone(), reason))
    }
}

/// For a port alone, `:80`: all addresses of both families, or of IPv4 where there is no IPv6.
fn all_addresses(address: &str) -> Option<Vec<SocketAddr>> {
    let port = address.strip_prefix(':')?.parse().ok()?;
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    Some(vec![v6, v4])
}

/// An IPv6 address may be written with brackets, as in a URL.
fn without_brackets(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.contains(':')).unwrap_or(host)
}

impl Listener for Tcp {
    type Stream = TcpStream;

    fn open(&mut self, backlog: i32) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = vec![self.listen_on_first(&self.resolve()?, backlog)?];
        for &address in &self.more {
            sockets.push(self.listen(address, backlog)?);
        }
        Ok(sockets)
    }

    fn fits(&self, socket: BorrowedFd<'_>) -> bool {
        sockets::is_stream(&socket, Family::Inet)
    }

    /// `open` looks for them, address by address: some may be new.
    fn takes_over(&self, _: BorrowedFd<'_>) -> bool {
        false
    }

    fn name(&self, socket: BorrowedFd<'_>) -> String {
        sockets::tcp_address(&socket).map_or_else(String::new, |address| address.to_string())
    }

    fn queue_length(&self, socket: BorrowedFd<'_>) -> Option<u32> {
        tcp_info::queue_length(&socket)
    }

    fn queue_limit(&self, socket: BorrowedFd<'_>) -> Option<u32> {
        tcp_info::queue_limit(&socket)
    }

    fn time_in_queue(&self, connection: BorrowedFd<'_>) -> Option<Duration> {
        tcp_info::time_in_queue(&connection)
    }

    fn knows_time_in_queue(&self, _: BorrowedFd<'_>) -> bool {
        cfg!(target_os = "linux")
    }

    fn adopt(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.set_options(&socket)
    }

    fn passes_timeouts_on(&self) -> bool {
        cfg!(target_os = "linux")
    }

    /// If the kernel does not support the filter, clients are queued until the socket is closed.
    fn refuse(&mut self, socket: BorrowedFd<'_>) {
        if let Err(error) = sockets::drop_new_connections(&socket) {
            log::debug!("clients are let in until the socket is closed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn opened(tcp: &mut Tcp) -> (OwnedFd, SocketAddr) {
        let socket = tcp.open(8).expect("a socket").remove(0);
        let address = sockets::tcp_address(&socket).expect("an address");
        (socket, address)
    }

    /// A connection as `tcp` would serve it.
    fn connection(tcp: &mut Tcp) -> (TcpStream, TcpStream) {
        let (socket, address) = opened(tcp);
        let client = TcpStream::connect(address).expect("a connection");
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(false).expect("blocking");
        (listener.accept().expect("accepted").0, client)
    }

    /// TCP_NODELAY is on by default, unless `no_delay(false)` turns it off. It is set on the
    /// listening socket, and connections inherit it.
    #[test]
    fn o01_connections_inherit_that_nothing_is_delayed() {
        for no_delay in [true, false] {
            let mut tcp = Tcp {
                no_delay,
                ..Tcp::local()
            };
            let (connection, _client) = connection(&mut tcp);
            assert_eq!(connection.nodelay().expect("an option"), no_delay);
        }
    }

    /// Connections inherit keepalive as well, with its times and its count.
    ///
    /// Values that the kernel does not accept are rounded to values that it accepts.
    #[cfg(target_os = "linux")]
    #[test]
    fn o01_connections_inherit_keepalive() {
        use nix::sys::socket::{getsockopt, sockopt};
        let keepalive = Keepalive::after(Duration::from_millis(90_500))
            .interval(Duration::from_millis(7))
            .count(1_000);
        let mut tcp = Tcp {
            keepalive: Some(keepalive),
            ..Tcp::local()
        };
        let (connection, _client) = connection(&mut tcp);
        assert_eq!(getsockopt(&connection, sockopt::KeepAlive), Ok(true));
        assert_eq!(getsockopt(&connection, sockopt::TcpKeepIdle), Ok(90));
        assert_eq!(getsockopt(&connection, sockopt::TcpKeepInterval), Ok(1));
        assert_eq!(getsockopt(&connection, sockopt::TcpKeepCount), Ok(127));
    }

    /// A silent client is not queued until it has sent something.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_silent_client_is_kept_by_the_kernel_if_asked_for() {
        use std::io::Write;
        for (defer_accept, queued) in [(None, true), (Some(Duration::from_secs(30)), false)] {
            let mut tcp = Tcp {
                defer_accept,
                ..Tcp::local()
            };
            let (socket, address) = opened(&mut tcp);
            let mut client = TcpStream::connect(address).expect("a connection");
            assert_eq!(sockets::is_queued(&socket).expect("a look"), queued);
            client.write_all(b"x").expect("sent");
            assert!(sockets::is_queued(&socket).expect("a look"));
        }
    }

    #[test]
    fn an_address_may_have_the_brackets_of_a_url() {
        assert_eq!(without_brackets("[::1]"), "::1");
        for as_it_is in ["::1", "localhost", "[name]", "[::1", "[]"] {
            assert_eq!(without_brackets(as_it_is), as_it_is);
        }
    }

    #[test]
    fn only_an_address_that_is_not_here_leads_to_the_next() {
        use nix::errno::Errno;
        let next = |errno: Errno| sockets::is_missing_address(&errno.into());
        assert!(next(Errno::EADDRNOTAVAIL) && next(Errno::EAFNOSUPPORT));
        for errno in [Errno::EADDRINUSE, Errno::EACCES, Errno::EMFILE] {
            assert!(!next(errno), "{errno}");
        }
        assert!(!sockets::is_missing_address(
            &io::ErrorKind::AddrNotAvailable.into()
        ));
    }

    /// A name's addresses are tried in order until one works: only an address or a family that the
    /// system lacks leads to the next.
    #[test]
    fn o05_a_names_next_address_is_tried_only_where_the_first_is_not_here() {
        let tcp = Tcp::local();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        // An address reserved for documentation, which no system has.
        let elsewhere = SocketAddr::from(([203, 0, 113, 1], 0));
        let socket = tcp.listen_on_first(&[elsewhere, free], 8);
        let taken = sockets::tcp_address(&socket.expect("the second")).expect("an address");
        assert!(taken.ip().is_loopback());
        let error = tcp.listen_on_first(&[elsewhere], 8);
        let error = error.expect_err("none is here");
        assert_eq!(error.io_error().kind(), io::ErrorKind::AddrNotAvailable);

        let (_socket, in_use) = opened(&mut Tcp::local());
        let error = tcp.listen_on_first(&[in_use, free], 8);
        let error = error.expect_err("a refusal");
        assert_eq!(error.io_error().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.object(), in_use.to_string());
    }
}
