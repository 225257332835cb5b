//! Where the status helper listens: the address as text, and the socket. Answers no request.

use crate::{
    core::error::{Error, Operation},
    listeners::{Listener, tcp::Tcp, unix::Unix},
    sys::{fd_registry::Registered, unix_socket},
};
use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    str::FromStr,
};

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 128;
/// Only the parent's user may connect.
const MODE: u32 = 0o600;

/// Where a server tells its status: a path, or a TCP address.
///
/// As text it is a path that contains a slash, `HOST:PORT`, or a port alone, which means 127.0.0.1:
/// a status is for operators, and no address of the network is listened on unless it is written out.
///
/// ```
/// use prefork_server::StatusAddress;
///
/// assert_eq!("9100".parse(), Ok(StatusAddress::tcp("127.0.0.1:9100")));
/// assert_eq!("/run/hello.status".parse(), Ok(StatusAddress::unix("/run/hello.status")));
/// assert!(":9100".parse::<StatusAddress>().is_err());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatusAddress(StatusEndpoint);

#[derive(Clone, Debug, Eq, PartialEq)]
enum StatusEndpoint {
    Unix(PathBuf),
    Tcp(String),
}

impl StatusAddress {
    /// A UNIX socket at `path`.
    ///
    /// Only the user of the parent may connect (mode 0600).
    ///
    /// A file without a listener is replaced, and the file is removed at the end. An abstract name
    /// has no mode, so everybody could connect: it is refused when the server is started, with the
    /// operation [`Chmod`](crate::Operation::Chmod).
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(StatusEndpoint::Unix(path.into()))
    }

    /// A TCP socket at `HOST:PORT`. Port 0 lets the system choose one.
    ///
    /// Everybody who can reach it sees all of the status, which has the addresses of clients. On
    /// the loopback interface a client must ask for `localhost`, for an IP address or for `HOST`
    /// itself: under any other name a page in a browser could read it.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self(StatusEndpoint::Tcp(address.into()))
    }

    /// Opens the sockets: a host name may have several addresses.
    pub(super) fn open(&self) -> Result<StatusSockets, Error> {
        let opened = match &self.0 {
            StatusEndpoint::Unix(path) if unix_socket::is_abstract(path) => {
                return Err(no_mode(path));
            }
            StatusEndpoint::Unix(path) => {
                let mut kind = Unix::new(path);
                kind.mode = MODE;
                open(SocketKind::Unix(kind))
            }
            StatusEndpoint::Tcp(address) => {
                let host = address.rsplit_once(':').map_or("", |(host, _)| host);
                open(SocketKind::Tcp(Tcp::at(address.clone()), host.to_owned()))
            }
        };
        opened.map_err(|error| Error::new(Operation::Listen, self.to_string(), error))
    }
}

fn no_mode(path: &Path) -> Error {
    let reason = "an abstract name has no mode, so everybody could connect";
    let reason = io::Error::new(io::ErrorKind::InvalidInput, reason);
    Error::new(Operation::Chmod, unix_socket::display_name(path), reason)
}

fn open(mut kind: SocketKind) -> io::Result<StatusSockets> {
    let sockets = match &mut kind {
        SocketKind::Unix(unix) => unix.open(BACKLOG)?,
        SocketKind::Tcp(tcp, _) => tcp.open(BACKLOG)?,
    };
    let names = sockets.iter().map(|socket| kind.name(socket.as_fd()));
    Ok(StatusSockets {
        names: names.collect(),
        sockets: sockets.into_iter().map(Registered::parents).collect(),
        kind,
    })
}

impl fmt::Display for StatusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            StatusEndpoint::Unix(path) => path.display().fmt(f),
            StatusEndpoint::Tcp(address) => address.fmt(f),
        }
    }
}

/// The reason of a refusal says what to write instead.
impl FromStr for StatusAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::unix(text));
        }
        if let Ok(port) = text.parse::<u16>() {
            return Ok(Self::tcp(format!("127.0.0.1:{port}")));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        if port.parse::<u16>().is_err() {
            return Err(format!("{text:?} is no path, port or HOST:PORT"));
        }
        match host {
            "" => Err(format!(
                "{text:?} has no host: write \"{port}\" for this machine alone, \"0.0.0.0:{port}\" or \
                 \"[::]:{port}\" for all addresses"
            )),
            _ => Ok(Self::tcp(text)),
        }
    }
}

/// The kinds of sockets, which know their names and remove their files.
#[derive(Debug)]
enum SocketKind {
    Unix(Unix),
    /// With the host that it was told.
    Tcp(Tcp, String),
}

impl SocketKind {
    fn name(&self, socket: BorrowedFd<'_>) -> String {
        match self {
            Self::Unix(unix) => unix.name(socket),
            Self::Tcp(tcp, _) => tcp.name(socket),
        }
    }
}

/// The open sockets of one address of the status.
#[derive(Debug)]
pub(super) struct StatusSockets {
    pub(super) names: Vec<String>,
    sockets: Vec<Registered<OwnedFd>>,
    kind: SocketKind,
}

impl StatusSockets {
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.as_fd())
    }

    /// The host that the address has; `None` for a UNIX socket.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.kind {
            SocketKind::Unix(_) => None,
            SocketKind::Tcp(_, host) => Some(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_mode_is_refused() {
        let refused = StatusAddress::unix("\0status").open().unwrap_err();
        assert_eq!(refused.operation(), Operation::Chmod);
        assert!(refused.to_string().contains("@status"), "{refused}");
    }

    #[test]
    fn no_address_of_the_network_is_taken_for_granted() {
        for (text, right) in [
            ("9100", StatusAddress::tcp("127.0.0.1:9100")),
            ("0", StatusAddress::tcp("127.0.0.1:0")),
            ("0.0.0.0:9100", StatusAddress::tcp("0.0.0.0:9100")),
            ("[::1]:9100", StatusAddress::tcp("[::1]:9100")),
            ("localhost:9100", StatusAddress::tcp("localhost:9100")),
            ("./s", StatusAddress::unix("./s")),
            ("/run/s:1", StatusAddress::unix("/run/s:1")),
        ] {
            assert_eq!(text.parse(), Ok(right), "{text}");
        }
        for wrong in [
            "",
            ":9100",
            "localhost",
            "99999",
            "host:",
            "host:http",
            "a:-1",
        ] {
            assert!(wrong.parse::<StatusAddress>().is_err(), "{wrong}");
        }
    }
}
