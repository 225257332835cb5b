//! The file of a UNIX socket, and its removal: the only place where socket files are removed at the
//! end. Touches no other file.

use crate::sys::{
    signals::foreign,
    unix_socket::{self, FileId},
};
use std::path::{Path, PathBuf};

/// A socket file that this process has made. It is removed when this is dropped: by the process that
/// bound it, not by a fork of that, and only if it is still the one that was bound.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute: the process may change its directory meanwhile.
    path: PathBuf,
    file: FileId,
    bound_by: u32,
}

impl SocketFile {
    pub(super) fn new(path: &Path, file: FileId) -> Self {
        Self {
            // Without a current directory there is nothing better than the path as it is.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            file,
            bound_by: std::process::id(),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if foreign::is_home_of(self.bound_by) {
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
