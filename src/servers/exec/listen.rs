//! The sockets that a program gets: addresses, names, and how they are opened. In blocking mode,
//! since a program expects that; passes nothing itself.

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
};

/// One socket that an [`ExecServer`](crate::ExecServer) listens on and hands to its programs.
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
    /// A TCP socket at `address`: `127.0.0.1:80`, `[::1]:80`, `localhost:80`.
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

    pub(super) fn open(&self, backlog: i32) -> io::Result<Listening> {
        let name = self.checked_name()?.to_owned();
        let mut kind = match &self.at {
            At::Tcp(address) => Kind::Tcp(Tcp {
                no_delay: self.no_delay,
                ..Tcp::at(address.clone())
            }),
            At::Unix { path, mode } => {
                let mut unix = Unix::new(path.clone());
                unix.mode = *mode;
                Kind::Unix(unix)
            }
        };
        let fd = kind.open(backlog)?;
        // Programs expect blocking mode.
        sockets::block(&fd)?;
        Ok(Listening {
            kind,
            fd: Ours::servers(fd),
            name,
        })
    }
}

/// As text: `127.0.0.1:80`, or a path after a slash.
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
    fn an_address_in_use_is_refused() {
        let first = Listen::tcp("127.0.0.1:0").open(8).expect("a socket");
        let again = Listen::tcp(first.status().name).open(8);
        let error = again.expect_err("a refusal");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
