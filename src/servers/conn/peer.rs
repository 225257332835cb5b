//! The two ends of a connection: addresses, and credentials of the client. Plain data; makes no
//! system call.

#[cfg(feature = "proxy-protocol")]
use crate::servers::proxy::Proxied;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// The process at the other end of a UNIX socket when it connected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// Its process id in our namespace; `None` if the system does not tell.
    ///
    /// The process may have ended since, and another may have its id.
    pub pid: Option<u32>,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

impl PeerCredentials {
    /// Credentials as the system would tell them, for a test.
    pub fn new(pid: Option<u32>, uid: u32, gid: u32) -> Self {
        Self { pid, uid, gid }
    }
}

/// The two ends of a connection.
///
/// What is unknown, or exists only for the other kind of socket, is `None`. An IPv4 client of a
/// socket that takes IPv6 too has an IPv4 address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peer {
    pub(super) remote: Option<SocketAddr>,
    pub(super) local: Option<SocketAddr>,
    pub(super) path: Option<PathBuf>,
    pub(super) credentials: Option<PeerCredentials>,
    #[cfg(feature = "proxy-protocol")]
    proxied: Option<Proxied>,
}

impl Peer {
    /// The ends of a TCP connection.
    pub fn tcp(remote: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        Self {
            remote,
            local,
            ..Self::default()
        }
    }

    /// The ends of a connection to a UNIX socket at `path`.
    pub fn unix(path: Option<PathBuf>, credentials: Option<PeerCredentials>) -> Self {
        Self {
            path,
            credentials,
            ..Self::default()
        }
    }

    /// These ends, as far as a proxy does not tell others.
    #[cfg(feature = "proxy-protocol")]
    pub(crate) fn behind(mut self, proxied: Option<&Proxied>) -> Self {
        if let Some(source) = proxied.and_then(Proxied::source) {
            self.remote = Some(source);
            self.local = proxied.and_then(Proxied::destination);
        }
        self.proxied = proxied.cloned();
        self
    }

    /// What the proxy that passes the connection on has said.
    ///
    /// `None` if the client has connected without one.
    #[cfg(feature = "proxy-protocol")]
    #[cfg_attr(docsrs, doc(cfg(feature = "proxy-protocol")))]
    pub fn proxied(&self) -> Option<&Proxied> {
        self.proxied.as_ref()
    }

    /// The client's address and port.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The client's address alone.
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.remote.map(|address| address.ip())
    }

    /// The client's port.
    pub fn remote_port(&self) -> Option<u16> {
        self.remote.map(|address| address.port())
    }

    /// The address that the client has connected to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.local
    }

    /// The path of the UNIX socket that the client has connected to.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The process at the other end of a UNIX socket.
    pub fn credentials(&self) -> Option<PeerCredentials> {
        self.credentials
    }
}
