//! The sockets that a program is given: where, under which name, and the opening. In blocking mode,
//! since a program expects that; hands over nothing itself.

use crate::{
    core::error::{Error, Operation},
    sys::{
        fd_registry::Ours,
        signals::stranger,
        sockets::{self, FileId},
    },
};
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

/// One socket that an [`ExecServer`](crate::ExecServer) listens on and hands to its programs.
#[derive(Clone, Debug)]
pub struct Listen {
    at: At,
    name: Option<String>,
}

#[derive(Clone, Debug)]
enum At {
    Tcp(String),
    Unix { path: PathBuf, mode: u32 },
}

impl Listen {
    /// A TCP socket at `address`: `127.0.0.1:80`, `[::1]:80`, `localhost:80`; port 0 has the system
    /// choose one. Of the addresses of a name, the first that can be had.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self {
            at: At::Tcp(address.into()),
            name: None,
        }
    }

    /// A UNIX socket at `path`, with the rules of [`UnixServer`](crate::UnixServer): a file that
    /// nobody listens at is replaced, and the file is removed at the end. The mode is 0o660 unless
    /// [`mode`](Self::mode) sets another.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self {
            at: At::Unix {
                path: path.into(),
                mode: 0o660,
            },
            name: None,
        }
    }

    /// What LISTEN_FDNAMES calls it: at most 255 ASCII characters, no control characters and no
    /// colon. Default: `unknown`, as systemd has it for a socket without a name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The mode of a UNIX socket's file: who may connect is who may write to it. Nothing for TCP.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        if let At::Unix { mode: current, .. } = &mut self.at {
            *current = mode;
        }
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
        let (fd, place) = match &self.at {
            At::Tcp(address) => open_tcp(address, backlog)?,
            At::Unix { path, mode } => {
                let (listener, file) = sockets::listen_unix(path, *mode, backlog)?;
                let file = SocketFile::new(path.clone(), file);
                listener.set_nonblocking(false)?;
                (OwnedFd::from(listener), Place::Unix(file))
            }
        };
        Ok(Listening {
            place,
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

fn open_tcp(address: &str, backlog: i32) -> io::Result<(OwnedFd, Place)> {
    let failed = |error| Error::new(Operation::Lookup, address, error);
    let mut last = failed(io::ErrorKind::NotFound.into());
    for candidate in address.to_socket_addrs().map_err(failed)? {
        match sockets::listen_tcp(candidate, false, backlog) {
            Ok(listener) => {
                listener.set_nonblocking(false)?;
                let place = Place::Tcp(listener.local_addr()?);
                return Ok((OwnedFd::from(listener), place));
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

/// An open socket. The fields are dropped in this order: the file first, so that whoever finds it
/// can still connect.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) place: Place,
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
}

/// Where an open socket is to be found.
#[derive(Debug)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(SocketFile),
}

/// The file of a UNIX socket, removed when this is dropped: by the process that bound it, and only
/// if it is still the one that was bound.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    file: FileId,
    by: u32,
}

impl SocketFile {
    fn new(path: PathBuf, file: FileId) -> Self {
        Self {
            path,
            file,
            by: std::process::id(),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if stranger::is_home_of(self.by) {
            sockets::remove_socket_file(&self.path, self.file);
        }
    }
}
