//! The PROXY protocol, versions 1 and 2 (feature `proxy-protocol`): which proxies may tell whose
//! connection they pass on, and what becomes of a header that they may not send. Reads the header;
//! what it says is in `proxied`.
//!
//! A proxy that passes a TCP connection on hides the client: the server sees the proxy's address.
//! HAProxy (`send-proxy-v2`), nginx (`proxy_protocol on`), Envoy and the balancers of cloud
//! providers therefore send a header first, which says who the client is.
//!
//! ```no_run
//! use prefork_server::{PreFork, TcpServer, servers::proxy::ProxyProtocol};
//! use std::io::Write;
//!
//! let server = TcpServer::new(|conn| {
//!     // The client's address, not that of the proxy.
//!     writeln!(&conn, "hello, {}", conn.peer_addr()?)
//! });
//! let proxies = ProxyProtocol::new().trust("10.0.0.0/8".parse()?);
//! let report = PreFork::builder(server.port(7777).proxy_protocol(proxies)).run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - **Off unless asked for.** A server without [`proxy_protocol`] passes a header to its handler
//!   as it passes all bytes.
//! - **A peer that is not trusted is not served.** A client that could send a header of its own could
//!   claim any address. So with a [`ProxyProtocol`] a connection from elsewhere is closed, with a
//!   header and without one; see [`direct`](ProxyProtocol::direct) for those that come without a
//!   proxy.
//! - **A header is required, once.** It is read before the handler runs, to its last byte and not
//!   beyond it, within [`timeout`](ProxyProtocol::timeout). The child counts as busy meanwhile, and
//!   goes on sending ACKs.
//! - **What is refused is closed** without an answer, counted by its reason
//!   ([`header_refusals`]), and logged at debug. It does not count for
//!   `max_requests`.
//!
//! The programs of an [`ExecServer`](crate::ExecServer) accept by themselves, and read the header
//! by themselves.
//!
//! [`proxy_protocol`]: crate::servers::StreamServer::proxy_protocol
//! [`header_refusals`]: crate::servers::StreamServer::header_refusals

mod policy;
mod proxied;
mod refusal;

pub use self::{
    proxied::{Proxied, ProxiedTls},
    refusal::{HeaderRefusal, HeaderRefusals},
};

use super::conn::{Conn, Stream};
use crate::core::{access::Cidr, proxy::HeaderReader};
use std::{io, net::SocketAddr, time::Duration};

pub(super) use self::policy::ProxyPolicy;
use self::refusal::HeaderRefusalCounters;

/// How many bytes are looked at in one go: more than a usual header has.
const CHUNK: usize = 512;

/// Which proxies are trusted to tell whose connection they pass on.
///
/// For [`StreamServer::proxy_protocol`](crate::servers::StreamServer::proxy_protocol). A new one
/// trusts no proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxyProtocol {
    trusted: Vec<Cidr>,
    trusts_unix_peers: bool,
    direct: Vec<Cidr>,
    timeout: Duration,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ConnOrigin {
    /// A proxy, which sends a header.
    Proxy,
    /// A client that connects without a proxy.
    Direct,
    Unknown,
}

impl ProxyProtocol {
    /// Trusts no proxy: each connection is refused.
    pub fn new() -> Self {
        Self {
            trusted: Vec::new(),
            trusts_unix_peers: false,
            direct: Vec::new(),
            timeout: Duration::from_secs(3),
        }
    }

    /// Trusts the proxies of a network. It can be called for several.
    ///
    /// A connection from there must begin with a header. List proxies and nothing else: a client that
    /// connects from there can claim any address.
    #[must_use]
    pub fn trust(mut self, proxies: Cidr) -> Self {
        self.trusted.push(proxies);
        self
    }

    /// Trusts every process that connects to a UNIX socket.
    ///
    /// The same holds for another socket whose clients have no internet address.
    ///
    /// The [mode](crate::UnixServer::mode) of the socket file says who can.
    #[must_use]
    pub fn trust_unix_peers(mut self) -> Self {
        self.trusts_unix_peers = true;
        self
    }

    /// Serves clients of a network that connect without a proxy and send no header.
    ///
    /// They may be probes of an orchestrator, or an administrator. It can be called for several.
    ///
    /// What they send is the handler's, even if it looks like a header. For an address that is
    /// [trusted](Self::trust) too it has no effect.
    #[must_use]
    pub fn direct(mut self, clients: Cidr) -> Self {
        self.direct.push(clients);
        self
    }

    /// How long a proxy may take to send the whole header. Default: 3 s.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    fn origin(&self, remote: Option<SocketAddr>) -> ConnOrigin {
        let Some(remote) = remote.map(|address| address.ip()) else {
            return match self.trusts_unix_peers {
                true => ConnOrigin::Proxy,
                false => ConnOrigin::Unknown,
            };
        };
        let is_in = |networks: &[Cidr]| networks.iter().any(|network| network.contains(remote));
        if is_in(&self.trusted) {
            ConnOrigin::Proxy
        } else if is_in(&self.direct) {
            ConnOrigin::Direct
        } else {
            ConnOrigin::Unknown
        }
    }

    /// Reads the header, if one is due, and notes in the connection what it says.
    pub(super) fn introduce<S: Stream>(&self, conn: &mut Conn<S>) -> Result<(), HeaderRefusal> {
        match self.origin(conn.remote()) {
            ConnOrigin::Direct => Ok(()),
            ConnOrigin::Unknown => Err(HeaderRefusal::Untrusted),
            ConnOrigin::Proxy => {
                let header = self.receive(conn)?;
                let proxied = Proxied::read(header.bytes(), conn.remote())?;
                conn.set_proxied(proxied);
                Ok(())
            }
        }
    }

    fn receive<S: Stream>(&self, conn: &Conn<S>) -> Result<HeaderReader, HeaderRefusal> {
        let mut header = HeaderReader::default();
        conn.set_deadline(Some(self.timeout));
        while !header.is_whole() {
            receive_more(conn, &mut header)?;
        }
        conn.set_deadline(None);
        Ok(header)
    }
}

/// Waits for bytes, and takes those that belong to the header.
fn receive_more<S: Stream>(conn: &Conn<S>, header: &mut HeaderReader) -> Result<(), HeaderRefusal> {
    let mut chunk = [0; CHUNK];
    let count = conn.peek(&mut chunk).map_err(|error| why(&error))?;
    if count == 0 {
        return Err(HeaderRefusal::Ended);
    }
    let own = header.take(&chunk[..count])?;
    conn.read_away_exactly(&mut chunk[..own])
        .map_err(|error| why(&error))
}

fn why(error: &io::Error) -> HeaderRefusal {
    match error.kind() {
        io::ErrorKind::TimedOut => HeaderRefusal::Late,
        _ => HeaderRefusal::Ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_listed_is_not_trusted() {
        let network = |text: &str| text.parse().unwrap();
        let nobody = ProxyProtocol::new();
        let some = ProxyProtocol::new()
            .trust(network("10.0.0.0/8"))
            .trust(network("::1"))
            .direct(network("10.0.0.0/7"));
        let origin = |protocol: &ProxyProtocol, address: &str| {
            protocol.origin(Some(SocketAddr::new(address.parse().unwrap(), 1)))
        };
        assert_eq!(origin(&nobody, "127.0.0.1"), ConnOrigin::Unknown);
        assert_eq!(origin(&some, "10.1.2.3"), ConnOrigin::Proxy);
        assert_eq!(origin(&some, "::1"), ConnOrigin::Proxy);
        assert_eq!(origin(&some, "11.1.2.3"), ConnOrigin::Direct);
        assert_eq!(origin(&some, "12.1.2.3"), ConnOrigin::Unknown);
        assert_eq!(some.origin(None), ConnOrigin::Unknown);
        assert_eq!(nobody.trust_unix_peers().origin(None), ConnOrigin::Proxy);
    }
}
