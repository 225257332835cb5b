//! Where a server for programs listens: addresses, names, options, and how the sockets are opened or
//! taken over.
//! Passes nothing and accepts nothing itself.

mod listening;
mod set;
#[cfg(test)]
mod tests;
mod text;

pub(super) use self::{
    listening::Listening,
    set::{AnyStream, ListenSet},
};

use self::listening::ListenKind;
use crate::{
    listeners::{
        inherited::{self, TakenSocket, WantedSockets},
        tcp::Tcp,
        unix::Unix,
    },
    sys::{
        fd_registry::Registered,
        sockets::{self, Family},
    },
};
use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
};

/// One socket that a server of programs listens on.
///
/// An [`ExecServer`](crate::ExecServer) hands it to its programs, an
/// [`InetdServer`](crate::InetdServer) accepts on it.
///
/// As text it is `127.0.0.1:80`, `[::1]:80`, `localhost:80`, `:80` for all addresses of this system,
/// a path that contains a slash, `systemd` for [all sockets that systemd has
/// opened](Self::listen_fds), or `systemd:NAME`; options follow after commas. A comma that belongs to
/// the path or to a name has a backslash before it.
///
/// ```
/// use prefork_server::servers::Listen;
///
/// let http: Listen = ":8080,name=http".parse()?;
/// let control: Listen = "/run/control.sock,mode=600,name=control".parse()?;
/// let odd: Listen = r"/run/a\,b.sock,mode=600".parse()?; // the path has a comma
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
    /// All sockets that the process which started this program has opened for it.
    ///
    /// systemd does so for a service with a `.socket` unit.
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

    /// Like [`listen_fds`](Self::listen_fds), but only sockets with this name.
    ///
    /// It is the name in LISTEN_FDNAMES: a socket unit's `FileDescriptorName`.
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

    /// A TCP socket at `address`.
    ///
    /// `127.0.0.1:80`, `[::1]:80`, `localhost:80`, or `:80` for all addresses of this system.
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

    /// Its name in LISTEN_FDNAMES.
    ///
    /// No effect in an `InetdServer`, whose programs get no such sockets.
    ///
    /// At most 255 ASCII characters, no control characters and no colon. Default: `unknown`, which
    /// systemd uses for a socket without a name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The mode of a UNIX socket's file: users who may write to it may connect.
    ///
    /// No effect for TCP.
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

/// Refuses addresses that stand for one inherited socket more than once: each child would get it as
/// often.
pub(crate) fn check_taken_once(listen: &[Listen]) -> Result<(), String> {
    let mut taken = BTreeSet::new();
    for wanted in listen.iter().filter_map(Listen::wanted) {
        let name = match wanted {
            WantedSockets::All => None,
            WantedSockets::Named(name) => Some(name),
        };
        if !taken.insert(name) {
            return Err(format!("\"{wanted}\" is there twice"));
        }
    }
    match (taken.contains(&None), taken.iter().flatten().next()) {
        (true, Some(name)) => Err(format!(
            "\"systemd\" stands for all sockets, and so for those of \"systemd:{name}\" too: write \
             one of the two"
        )),
        _ => Ok(()),
    }
}
