//! The file of a UNIX socket, and its removal at the end of a server. Touches no other file.

use crate::{
    core::error::Error,
    sys::{
        signals::foreign,
        unix_socket::{self, FileId},
        upgrade,
    },
};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// A socket file made by this process, removed when this is dropped. Only the process that bound it
/// removes it, not a fork of that, and only if it is still the file that was bound. While an upgrade is
/// being adopted it stays: the program before may come back.
#[derive(Debug)]
pub(crate) struct SocketFile {
    /// Absolute: the process may change its directory later.
    path: PathBuf,
    file: FileId,
    bound_by: u32,
}

impl SocketFile {
    pub(super) fn new(path: &Path, file: FileId) -> Self {
        Self {
            // Without a current directory the path as given is the best there is.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            file,
            bound_by: std::process::id(),
        }
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
    Ok((socket, file.map(|file| SocketFile::new(path, file))))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if foreign::is_home_of(self.bound_by) && !upgrade::is_adopting() {
            unix_socket::remove_socket_file(&self.path, self.file);
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
            (listener, SocketFile::new(&path, file.expect("a file")))
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
