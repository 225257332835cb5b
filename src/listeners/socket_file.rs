//! The file of a UNIX socket, and its removal at the end of a server. Touches no other file.

use crate::{
    core::error::Error,
    sys::{signals::foreign, socket_files::BoundFile, unix_socket, upgrade},
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

/// The file of a UNIX socket, removed when this is dropped.
///
/// For a [`Listener`](super::Listener) of your own: it keeps one from `open` on and drops it in
/// [`clean_up`](super::Listener::clean_up). The file is removed only if it is still the one that was
/// bound (device and inode are compared), and only by the process that has bound it, not by a fork
/// of that. An upgrade hands it on. While the new program takes over, the file stays: the program before
/// may come back.
///
/// ```
/// use prefork_server::servers::SocketFile;
/// use std::os::unix::net::UnixListener;
///
/// # let directory = std::env::temp_dir().join(format!("socket-file-{}", std::process::id()));
/// # std::fs::create_dir(&directory)?;
/// # let path = directory.join("s");
/// let socket = UnixListener::bind(&path)?;
/// let file = SocketFile::bound(&path, &socket)?;
/// drop(file);
/// assert!(!path.exists());
/// # std::fs::remove_dir(&directory)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SocketFile {
    file: BoundFile,
    bound_by: u32,
}

impl SocketFile {
    /// The file at `path`, which `socket` was bound to right before.
    ///
    /// # Errors
    ///
    /// When there is no file at `path`.
    pub fn bound(path: impl AsRef<Path>, socket: impl AsFd) -> io::Result<Self> {
        let file = BoundFile::found(path.as_ref())?;
        file.note(&socket)?;
        Ok(Self::new(file))
    }

    /// The file of a socket that this program or the one before an upgrade has [bound](Self::bound).
    ///
    /// For [`Listener::adopt`](super::Listener::adopt). `None` if other code has bound the socket:
    /// then its file is not to be removed.
    pub fn of(socket: impl AsFd) -> Option<Self> {
        BoundFile::of(&socket).map(Self::new)
    }

    pub(super) fn new(file: BoundFile) -> Self {
        let bound_by = std::process::id();
        Self { file, bound_by }
    }
}

/// A socket that listens at `path`, for the user of this process alone, and its file, if it has one.
///
/// # Errors
///
/// When the path is taken: by a file that is not a socket, or by a socket of a living server.
pub(crate) fn listen_privately(path: &Path) -> Result<(OwnedFd, Option<SocketFile>), Error> {
    /// More than connect at once.
    const BACKLOG: i32 = 64;
    let (socket, file) = unix_socket::listen_unix(path, 0o600, BACKLOG)?;
    Ok((socket, file.map(SocketFile::new)))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if foreign::is_home_of(self.bound_by) && !upgrade::is_adopting() {
            self.file.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_removed_unless_it_is_another_servers_or_processs() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let bound = || {
            let (listener, file) = unix_socket::listen_unix(&path, 0o600, 8).expect("a socket");
            (listener, SocketFile::new(file.expect("a file")))
        };
        let (listener, file) = bound();
        drop(file);
        assert!(!path.exists());
        drop(listener);

        let (_listener, mut file) = bound();
        file.bound_by += 1;
        drop(file);
        assert!(path.exists(), "a fork has removed it");

        std::fs::remove_file(&path).expect("removed");
        let (_first, first) = bound();
        std::fs::rename(&path, directory.path().join("elsewhere")).expect("moved");
        let (_second, _file) = bound();
        drop(first);
        assert!(path.exists(), "it is the second server's");
    }
}
