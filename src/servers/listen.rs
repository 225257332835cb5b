//! Where a server for programs listens: addresses, names, options, and how the sockets are opened or
//! taken over.
//! Passes nothing and accepts nothing itself.

mod set;

pub(super) use self::set::{AnyStream, ListenSet};

use crate::{
    listeners::{
        Listener, ListenerStatus,
        inherited::{self, TakenSocket, WantedSockets},
        tcp::Tcp,
        unix::Unix,
    },
    sys::{
        fd_registry::Registered,
        handed_over::HandedOverFd,
        sockets::{self, Family},
    },
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
/// a path that contains a slash, `systemd` for [all sockets that systemd has
/// opened](Self::listen_fds), or `systemd:NAME`; options follow after commas:
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
    at: ListenAddress,
    name: Option<String>,
    no_delay: bool,
}

/// What systemd calls a socket without a name.
const UNNAMED: &str = "unknown";

#[derive(Clone, Debug)]
enum ListenAddress {
    Tcp(String),
    Unix { path: PathBuf, mode: u32 },
    Inherited(WantedSockets),
}

impl Listen {
    /// All sockets that the process which started this program has opened for it, as systemd does for
    /// a service with a `.socket` unit.
    ///
    /// They are found by LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES: those that are listening stream
    /// sockets of TCP or UNIX. The start fails if there is none, with
    /// [`ListenFdsError`](crate::servers::ListenFdsError) as the reason. They are not shut down and
    /// their files are not removed, since they belong to that process too: clients wait there for the
    /// next start.
    ///
    /// An `ExecServer` gives its programs the names of LISTEN_FDNAMES, and may have addresses of its
    /// own besides. An `InetdServer` has either these or its own.
    pub fn listen_fds() -> Self {
        Self::inherited(WantedSockets::All)
    }

    /// Like [`listen_fds`](Self::listen_fds), but only sockets with this name in LISTEN_FDNAMES: a
    /// socket unit's `FileDescriptorName`.
    pub fn listen_fds_named(name: impl Into<String>) -> Self {
        Self::inherited(WantedSockets::Named(name.into()))
    }

    fn inherited(wanted: WantedSockets) -> Self {
        Self {
            at: ListenAddress::Inherited(wanted),
            name: None,
            no_delay: true,
        }
    }

    /// Which sockets of another process it stands for, if it does.
    pub(super) fn wanted(&self) -> Option<&WantedSockets> {
        match &self.at {
            ListenAddress::Inherited(wanted) => Some(wanted),
            ListenAddress::Tcp(_) | ListenAddress::Unix { .. } => None,
        }
    }

    /// A TCP socket at `address`: `127.0.0.1:80`, `[::1]:80`, `localhost:80`, or `:80` for all
    /// addresses of this system.
    ///
    /// Port 0 lets the system choose one. A name stands for the first of its addresses that this
    /// system has.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self {
            at: ListenAddress::Tcp(address.into()),
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
            at: ListenAddress::Unix {
                path: path.into(),
                mode: 0o660,
            },
            name: None,
            no_delay: true,
        }
    }

    /// Its name in LISTEN_FDNAMES. No effect in an `InetdServer`, whose programs get no such sockets.
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
        if let ListenAddress::Unix { mode: current, .. } = &mut self.at {
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
        let name = self.name.as_deref().unwrap_or(UNNAMED);
        let fit = |byte: u8| byte.is_ascii_graphic() && byte != b':' || byte == b' ';
        if name.len() > LONGEST || !name.bytes().all(fit) {
            let reason = format!("{name:?} cannot stand in LISTEN_FDNAMES");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        Ok(name)
    }

    /// What it opens by itself; `None` if it takes sockets over.
    fn kind(&self) -> Option<ListenKind> {
        match &self.at {
            ListenAddress::Tcp(address) => Some(ListenKind::Tcp(Tcp {
                no_delay: self.no_delay,
                ..Tcp::at(address.clone())
            })),
            ListenAddress::Unix { path, mode } => {
                let mut unix = Unix::new(path.clone());
                unix.mode = *mode;
                Some(ListenKind::Unix(unix))
            }
            ListenAddress::Inherited(_) => None,
        }
    }

    /// Opens it for programs, which expect blocking mode, or takes over what it stands for.
    pub(super) fn open(&self, backlog: i32) -> io::Result<Vec<Listening>> {
        let name = self.checked_name()?;
        if let Some(wanted) = self.wanted() {
            let taken = inherited::take(wanted, &is_stream)?;
            return taken.into_iter().map(|one| self.take_over(one)).collect();
        }
        let nothing = || io::Error::other("it has no address");
        let mut kind = self.kind().ok_or_else(nothing)?;
        let fd = kind.open(backlog)?;
        sockets::block(&fd)?;
        Ok(vec![Listening {
            kind,
            fd: Registered::servers(fd),
            name: name.to_owned(),
            given: None,
        }])
    }

    fn take_over(&self, taken: TakenSocket) -> io::Result<Listening> {
        let TakenSocket {
            name,
            socket,
            given,
        } = taken;
        let kind = ListenKind::of(socket.as_fd(), self.no_delay)?;
        sockets::block(&socket)?;
        let theirs = Some(name).filter(|name| !name.is_empty());
        let name = self.name.clone().or(theirs);
        Ok(Listening {
            kind,
            fd: Registered::servers(socket),
            name: name.unwrap_or_else(|| UNNAMED.to_owned()),
            given: Some(given),
        })
    }
}

/// Whether it is a socket that programs can accept on.
fn is_stream(socket: BorrowedFd<'_>) -> bool {
    [Family::Inet, Family::Unix]
        .into_iter()
        .any(|family| sockets::is_stream(&socket, family))
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
    if address == "systemd" {
        return Ok(Listen::listen_fds());
    }
    if let Some(name) = address.strip_prefix("systemd:") {
        return Ok(Listen::listen_fds_named(name));
    }
    if address.contains('/') {
        return Ok(Listen::unix(address));
    }
    let port = address.rsplit_once(':').map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(Listen::tcp(address)),
        _ => Err(format!(
            "{address:?} is no address; write \"127.0.0.1:8080\", \":8080\", \"/run/x.sock\" or \
             \"systemd\""
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
            ("mode", _) if !matches!(self.at, ListenAddress::Unix { .. }) => {
                Err("mode is for a socket at a path".to_owned())
            }
            ("mode", mode) => Ok(self.mode(octal(mode)?)),
            ("no_delay", _) if matches!(self.at, ListenAddress::Unix { .. }) => {
                Err("no_delay is for TCP".to_owned())
            }
            ("no_delay", "true") => Ok(self.no_delay(true)),
            ("no_delay", "false") => Ok(self.no_delay(false)),
            (option, _) => Err(format!(
                "{option:?} is no option of an address; they are name=TEXT, mode=660 and \
                 no_delay=false"
            )),
        }
    }
}

/// A mode, with or without `0o` before it.
fn octal(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok();
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{text:?} is not a mode; write it in octal digits: 660"))
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
enum ListenKind {
    Tcp(Tcp),
    Unix(Unix),
}

impl ListenKind {
    /// The kind of a socket that another process has opened.
    fn of(socket: BorrowedFd<'_>, no_delay: bool) -> io::Result<Self> {
        if sockets::is_stream(&socket, Family::Unix) {
            let mut unix = Unix::new("");
            unix.adopt(socket)?;
            return Ok(Self::Unix(unix));
        }
        let mut tcp = Tcp {
            no_delay,
            ..Tcp::local()
        };
        tcp.adopt(socket)?;
        Ok(Self::Tcp(tcp))
    }

    /// Each variant holds one socket.
    fn open(&mut self, backlog: i32) -> io::Result<OwnedFd> {
        let opened = match self {
            Self::Tcp(tcp) => tcp.open(backlog)?,
            Self::Unix(unix) => unix.open(backlog)?,
        };
        let nothing = || io::Error::other("no socket was opened");
        opened.into_iter().next().ok_or_else(nothing)
    }

    fn status(&self, socket: BorrowedFd<'_>) -> ListenerStatus {
        match self {
            Self::Tcp(tcp) => ListenerStatus::of(tcp, socket),
            Self::Unix(unix) => ListenerStatus::of(unix, socket),
        }
    }
}

/// An open socket. The fields are dropped in this order: the kind first, with its socket file, so that
/// a client that finds the file can still connect.
#[derive(Debug)]
pub(super) struct Listening {
    kind: ListenKind,
    fd: Registered<OwnedFd>,
    pub(super) name: String,
    /// The original, if another process has opened it: that one has it too, and it is not ours to
    /// close for all.
    given: Option<Registered<HandedOverFd>>,
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
            ListenKind::Tcp(_) => sockets::tcp_address(&*self.fd),
            ListenKind::Unix(_) => None,
        }
    }

    /// Refuses new clients, and keeps those that are queued.
    pub(super) fn refuse(&mut self) {
        if self.given.is_some() {
            return;
        }
        match &mut self.kind {
            ListenKind::Tcp(tcp) => tcp.refuse(self.fd.as_fd()),
            ListenKind::Unix(unix) => unix.clean_up(),
        }
    }

    pub(super) fn is_queued(&self) -> bool {
        // If the kernel cannot tell, no client could be served either.
        sockets::is_queued(&*self.fd).unwrap_or(false)
    }

    /// Closes it for all processes that have a copy.
    pub(super) fn shut_down(&self) {
        if self.given.is_none() {
            sockets::shut_down(&self.fd);
        }
    }

    pub(super) fn status(&self) -> ListenerStatus {
        self.kind.status(self.as_fd())
    }

    /// Its address: `host:port` or a path, byte for byte.
    pub(super) fn place(&self) -> OsString {
        match &self.kind {
            ListenKind::Tcp(tcp) => tcp.name(self.as_fd()).into(),
            ListenKind::Unix(unix) => unix.path.clone().into_os_string(),
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
            let listening = listen.open(8).expect("a socket").remove(0);
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
        assert!(matches!(tcp.at, ListenAddress::Tcp(address) if address == "[::1]:80"));
        assert_eq!((tcp.name.as_deref(), tcp.no_delay), (Some("http"), false));
        let unix = read("./x.sock,mode=600").expect("a path");
        assert!(matches!(unix.at, ListenAddress::Unix { mode: 0o600, .. }));
        assert!(read(":80").is_ok());
        let taken = |text: &str| match read(text).expect("a word").at {
            ListenAddress::Inherited(WantedSockets::All) => String::new(),
            ListenAddress::Inherited(WantedSockets::Named(name)) => name,
            ListenAddress::Tcp(_) | ListenAddress::Unix { .. } => {
                panic!("{text} is not taken over")
            }
        };
        assert_eq!(
            (taken("systemd"), taken("systemd:a b")),
            ("".into(), "a b".into())
        );
        for bad in [
            "",
            "80",
            "localhost",
            ":http",
            ":80,mode=600",
            "systemd,mode=600",
            "/run/x.sock,mode=9",
            "/run/x.sock,mode=1777",
            "/run/x.sock,no_delay=false",
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
        let address = listening[0].tcp_address().expect("an address");
        assert!(address.ip().is_unspecified());
        let loopback = SocketAddr::from(([127, 0, 0, 1], address.port()));
        std::net::TcpStream::connect(loopback).expect("a connection");
    }

    #[test]
    fn an_address_in_use_is_refused() {
        let first = Listen::tcp("127.0.0.1:0").open(8).expect("a socket");
        let again = Listen::tcp(first[0].status().name).open(8);
        let error = again.expect_err("a refusal");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
