//! The file of a UNIX socket, and its removal at the end of a server. Touches no other file.

use crate::{
    core::error::Error,
    sys::{signals::foreign, socket_files::BoundFile, unix_socket, upgrade},
};
use std::{os::fd::OwnedFd, path::Path};

/// A socket file made by this process or by the program that it was before an upgrade, removed when this
/// is dropped. Only the process that bound it removes it, not a fork of that, and only if it is still the
/// file that was bound. While an upgrade is being adopted it stays: the program before may come back.
#[derive(Debug)]
pub(crate) struct SocketFile {
    file: BoundFile,
    bound_by: u32,
}

impl SocketFile {
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
