//! Where a server for programs listens: addresses, names, options, and how the sockets are opened.
//! Passes nothing and accepts nothing itself.

mod set;

pub(super) use self::set::{AnyStream, ListenSet};

use crate::{
    listeners::{Listener, ListenerStatus, tcp::Tcp, unix::Unix},
    sys::{fd_registry::Ours, sockets},
};
use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    str::FromStr,
};

/// One socket that an [`ExecServer`](crate::ExecServer) hands to its programs, or that an
/// [`InetdServer`](crate::InetdServer) accepts on.
///
/// As text it is `127.0.0.1:80`, `[::1]:80`, `localhost:80`, `:80` for all addresses of this system,
/// or a path that contains a slash; options follow after commas:
///
/// ```
/// use prefork_server::servers::Listen;
///
/// let http: Listen = ":8080,name=http".parse()?;
/// let control: Listen = "/run/control.sock,mode=600,name=control".parse()?;
/// assert!("8080".parse::<Listen>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug)]
pub struct Listen {
    at: At,
    name: Option<String>,
    no_delay: bool,
}

#[derive(Clone, Debug)]
enum At {
    Tcp(String),
    Unix { path: PathBuf, mode: u32 },
}

impl Listen {
    /// A TCP socket at `address`: `127.0.0.1:80`, `[::1]:80`, `localhost:80`, or `:80` for all
    /// addresses of this system.
    ///
    /// Port 0 lets the system choose one. A name stands for the first of its addresses that this
    /// system has.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self {
            at: At::Tcp(address.into()),
            name: None,
            no_delay: true,
        }
    }

    /// A UNIX socket at `path`, as in [`UnixServer`](crate::UnixServer).
    ///
    /// A file without a listener is replaced, and the file is removed at the end. The mode is 0o660
    /// unless [`mode`](Self::mode) sets another.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self {
            at: At::Unix {
                path: path.into(),
                mode: 0o660,
            },
            name: None,
            no_delay: true,
        }
    }

    /// Its name in LISTEN_FDNAMES.
    ///
    /// At most 255 ASCII characters, no control characters and no colon. Default: `unknown`, which
    /// systemd uses for a socket without a name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The mode of a UNIX socket's file: users who may write to it may connect. No effect for TCP.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        if let At::Unix { mode: current, .. } = &mut self.at {
            *current = mode;
        }
        self
    }

    /// Whether what a program writes is sent at once (TCP_NODELAY). Default: true.
    ///
    /// A program may set that option itself. No effect for a UNIX socket.
    #[must_use]
    pub fn no_delay(mut self, on: bool) -> Self {
        self.no_delay = on;
        self
    }

    pub(super) fn checked_name(&self) -> io::Result<&str> {
        const LONGEST: usize = 255;
        let name = self.name.as_deref().unwrap_or("unknown");
        let fit = |byte: u8| byte.is_ascii_graphic() && byte != b':' || byte == b' ';
        if name.len() > LONGEST || !name.bytes().all(fit) {
            let reason = format!("{name:?} cannot stand in LISTEN_FDNAMES");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        Ok(name)
    }

    fn kind(&self) -> Kind {
        match &self.at {
            At::Tcp(address) => Kind::Tcp(Tcp {
                no_delay: self.no_delay,
                ..Tcp::at(address.clone())
            }),
            At::Unix { path, mode } => {
                let mut unix = Unix::new(path.clone());
                unix.mode = *mode;
                Kind::Unix(unix)
            }
        }
    }

    /// Opens it for programs, which expect blocking mode.
    pub(super) fn open(&self, backlog: i32) -> io::Result<Listening> {
        let name = self.checked_name()?.to_owned();
        let mut kind = self.kind();
        let fd = kind.open(backlog)?;
        sockets::block(&fd)?;
        Ok(Listening {
            kind,
            fd: Ours::servers(fd),
            name,
        })
    }
}

/// An address and its options, after commas. The reason of a refusal says what to write.
impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or("").trim();
        parts.try_fold(at(address)?, |listen, option| listen.with_option(option))
    }
}

/// Where to listen, from the text of an address.
fn at(address: &str) -> Result<Listen, String> {
    if address.contains('/') {
        return Ok(Listen::unix(address));
    }
    let port = address.rsplit_once(':').map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(Listen::tcp(address)),
        _ => Err(format!(
            "{address:?} is no address; write \"127.0.0.1:8080\", \":8080\" or \"/run/x.sock\""
        )),
    }
}

impl Listen {
    fn with_option(self, option: &str) -> Result<Self, String> {
        let (option, value) = option.split_once('=').unwrap_or((option, ""));
        match (option.trim(), value.trim()) {
            ("name", name) => {
                let listen = self.name(name);
                listen.checked_name().map_err(|error| error.to_string())?;
                Ok(listen)
            }
            ("mode", mode) => u32::from_str_radix(mode.trim_start_matches("0o"), 8)
                .map(|mode| self.mode(mode))
                .map_err(|_| format!("{mode:?} is not a mode; write it in octal digits: 660")),
            ("no_delay", "true") => Ok(self.no_delay(true)),
            ("no_delay", "false") => Ok(self.no_delay(false)),
            (option, _) => Err(format!(
                "{option:?} is no option of an address; they are name=TEXT, mode=660 and \
                 no_delay=false"
            )),
        }
    }
}

/// As text: `127.0.0.1:80`, or a path after a slash. Without options: see [`FromStr`].
impl From<&str> for Listen {
    fn from(text: &str) -> Self {
        if text.starts_with('/') {
            Self::unix(text)
        } else {
            Self::tcp(text)
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::tcp(address.to_string())
    }
}

#[derive(Debug)]
enum Kind {
    Tcp(Tcp),
    Unix(Unix),
}

impl Kind {
    /// Each variant holds one socket.
    fn open(&mut self, backlog: i32) -> io::Result<OwnedFd> {
        let opened = match self {
            Self::Tcp(tcp) => tcp.open(backlog)?,
            Self::Unix(unix) => unix.open(backlog)?,
        };
        let nothing = || io::Error::other("no socket was opened");
        opened.into_iter().next().ok_or_else(nothing)
    }
}

/// An open socket. The fields are dropped in this order: the kind first, with its socket file, so that
/// a client that finds the file can still connect.
#[derive(Debug)]
pub(super) struct Listening {
    kind: Kind,
    fd: Ours<OwnedFd>,
    pub(super) name: String,
}

impl Listening {
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn is_listening(&self) -> bool {
        sockets::is_listening(&*self.fd)
    }

    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match self.kind {
            Kind::Tcp(_) => sockets::tcp_address(&*self.fd),
            Kind::Unix(_) => None,
        }
    }

    /// Refuses new clients, and keeps those that are queued.
    pub(super) fn refuse(&mut self) {
        match &mut self.kind {
            Kind::Tcp(tcp) => tcp.refuse(self.fd.as_fd()),
            Kind::Unix(unix) => unix.clean_up(),
        }
    }

    pub(super) fn is_queued(&self) -> bool {
        // If the kernel cannot tell, no client could be served either.
        sockets::is_queued(&*self.fd).unwrap_or(false)
    }

    /// Closes it for all processes that have a copy.
    pub(super) fn shut_down(&self) {
        sockets::shut_down(&self.fd);
    }

    pub(super) fn status(&self) -> ListenerStatus {
        match &self.kind {
            Kind::Tcp(tcp) => ListenerStatus::of(tcp, self.as_fd()),
            Kind::Unix(unix) => ListenerStatus::of(unix, self.as_fd()),
        }
    }

    /// Its address: `host:port` or a path, byte for byte.
    pub(super) fn place(&self) -> OsString {
        match &self.kind {
            Kind::Tcp(tcp) => tcp.name(self.as_fd()).into(),
            Kind::Unix(unix) => unix.path.clone().into_os_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{getsockopt, sockopt};

    /// A socket that `ExecServer` opens for a program has the option too.
    #[test]
    fn o01_nothing_is_delayed_on_a_socket_of_a_program_unless_it_is_asked_for() {
        for (listen, expected) in [
            (Listen::tcp("127.0.0.1:0"), true),
            (Listen::tcp("127.0.0.1:0").no_delay(false), false),
        ] {
            let listening = listen.open(8).expect("a socket");
            let found = getsockopt(&listening.as_fd(), sockopt::TcpNoDelay);
            assert_eq!(found, Ok(expected));
            let status = listening.status();
            assert_eq!(status.queued, Some(0));
            assert!(status.name.starts_with("127.0.0.1:"));
        }
    }

    #[test]
    fn an_address_is_read_with_its_options() {
        let read = |text: &str| text.parse::<Listen>();
        let tcp = read("[::1]:80, name=http, no_delay=false").expect("an address");
        assert!(matches!(tcp.at, At::Tcp(address) if address == "[::1]:80"));
        assert_eq!((tcp.name.as_deref(), tcp.no_delay), (Some("http"), false));
        let unix = read("./x.sock,mode=600").expect("a path");
        assert!(matches!(unix.at, At::Unix { mode: 0o600, .. }));
        assert!(read(":80").is_ok());
        for bad in [
            "",
            "80",
            "localhost",
            ":http",
            ":80,mode=9",
            ":80,nmae=x",
            ":80,name=a:b",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    /// Clients of both families reach it, where the system has both.
    #[test]
    fn a_port_alone_is_all_addresses() {
        let listening = Listen::tcp(":0").open(8).expect("a socket");
        let address = listening.tcp_address().expect("an address");
        assert!(address.ip().is_unspecified());
        let loopback = SocketAddr::from(([127, 0, 0, 1], address.port()));
        std::net::TcpStream::connect(loopback).expect("a connection");
    }

    #[test]
    fn an_address_in_use_is_refused() {
        let first = Listen::tcp("127.0.0.1:0").open(8).expect("a socket");
        let again = Listen::tcp(first.status().name).open(8);
        let error = again.expect_err("a refusal");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
