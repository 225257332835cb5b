//! The UNIX kind of listener: a path or an abstract name, and a mode. Serves no client.

use super::{Listener, socket_file::SocketFile};
use crate::sys::{
    sockets::{self, Family},
    unix_diag, unix_socket,
};
use std::{
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

/// UNIX stream sockets: the listeners of a [`UnixServer`](crate::UnixServer).
#[derive(Debug)]
pub struct Unix {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    file: Option<SocketFile>,
    /// Whether a socket that other code has opened was noted.
    has_adopted: bool,
}

impl Unix {
    /// A socket at `path`; a zero byte before it makes an abstract name (Linux).
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: 0o660,
            file: None,
            has_adopted: false,
        }
    }
}

impl Listener for Unix {
    type Stream = UnixStream;

    fn open(&mut self, backlog: i32) -> io::Result<Vec<OwnedFd>> {
        let (socket, file) = unix_socket::listen_unix(&self.path, self.mode, backlog)?;
        self.file = file.map(SocketFile::new);
        Ok(vec![socket])
    }

    fn fits(&self, socket: BorrowedFd<'_>) -> bool {
        sockets::is_stream(&socket, Family::Unix)
    }

    /// `open` looks for them, address by address: some may be new.
    fn takes_over(&self, _: BorrowedFd<'_>) -> bool {
        false
    }

    fn name(&self, socket: BorrowedFd<'_>) -> String {
        let path = unix_socket::path_of(socket);
        unix_socket::display_name(path.as_deref().unwrap_or(&self.path))
    }

    fn queue_length(&self, socket: BorrowedFd<'_>) -> Option<u32> {
        unix_diag::queue_length(&socket)
    }

    fn queue_limit(&self, socket: BorrowedFd<'_>) -> Option<u32> {
        unix_diag::queue_limit(&socket)
    }

    /// Uses the path of the first socket. Its file belongs to the code that made it, and is never
    /// removed.
    fn adopt(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if let (false, Some(path)) = (self.has_adopted, unix_socket::path_of(socket)) {
            self.path = path;
            self.has_adopted = true;
        }
        Ok(())
    }

    fn clean_up(&mut self) {
        self.file = None;
    }
}
