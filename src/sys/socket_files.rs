//! The files of UNIX sockets that this process has bound: which file a socket has, and the removal of
//! it. Removes no other file: device and inode are compared first.

use super::unix_socket::display_name;
use crate::core::say::say;
use nix::sys::stat::fstat;
use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Device and inode of a file.
pub(crate) type FileId = (u64, u64);

/// The file of a socket. Nobody else gets its inode while the socket is open, which holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct BoundFile {
    /// Absolute: the process may change its directory later.
    pub(crate) path: PathBuf,
    pub(crate) id: FileId,
}

/// The files by socket, since the kernel does not tell which file a socket has: sock_diag(7) knows half
/// of the inode, and not the device that stat(2) shows.
static BOUND: Mutex<Vec<(FileId, BoundFile)>> = Mutex::new(Vec::new());

fn bound() -> MutexGuard<'static, Vec<(FileId, BoundFile)>> {
    // OK to go on after a panic: each change of the list is a single step.
    BOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BoundFile {
    /// The file at `path`, to which a socket was bound right before.
    pub(crate) fn found(path: &Path) -> io::Result<Self> {
        let id = id(&fs::symlink_metadata(path)?);
        // Without a current directory the path as given is the best there is.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, id })
    }

    /// Notes that it is the file of `socket`: an upgrade hands it on.
    pub(crate) fn note(&self, socket: &impl AsFd) -> io::Result<()> {
        let socket = socket_id(socket)?;
        let mut bound = bound();
        bound.retain(|(of, _)| *of != socket);
        bound.push((socket, self.clone()));
        Ok(())
    }

    /// The file that this process, or the program that it was before, has made for a socket.
    pub(crate) fn of(socket: &impl AsFd) -> Option<Self> {
        let socket = socket_id(socket).ok()?;
        let bound = bound();
        let noted = bound.iter().find(|(of, _)| *of == socket);
        noted.map(|(_, file)| file.clone())
    }

    /// Removes it, unless another file is at its path now. Its socket should still be open.
    pub(crate) fn remove(&self) {
        bound().retain(|(_, file)| file != self);
        let name = display_name(&self.path);
        match unlink_same(&self.path, self.id) {
            Ok(true) => {}
            Ok(false) => log::debug!("{name} is another server's now"),
            Err(error) => say!(Warn, "removing {name}: {error}"),
        }
    }
}

/// Removes the file at `path` if it is the one that is meant. A file that is put there between the look
/// and the removal is not seen: no system call does both.
pub(super) fn unlink_same(path: &Path, file: FileId) -> io::Result<bool> {
    let is_same = id(&fs::symlink_metadata(path)?) == file;
    if is_same {
        fs::remove_file(path)?;
    }
    Ok(is_same)
}

pub(super) fn id(metadata: &fs::Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

#[allow(
    clippy::unnecessary_cast,
    reason = "the numbers are smaller on some systems"
)]
fn socket_id(socket: &impl AsFd) -> io::Result<FileId> {
    let stat = fstat(socket)?;
    Ok((stat.st_dev as u64, stat.st_ino as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_the_file_that_is_meant_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _socket = UnixListener::bind(&path).unwrap();
        let file = BoundFile::found(&path).unwrap();
        fs::rename(&path, directory.path().join("elsewhere")).unwrap();
        assert!(unlink_same(&path, file.id).is_err(), "there is none");
        let _other = UnixListener::bind(&path).unwrap();
        assert!(!unlink_same(&path, file.id).unwrap());
        assert!(path.exists());
        fs::rename(directory.path().join("elsewhere"), &path).unwrap();
        assert!(unlink_same(&path, file.id).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_is_known_by_its_file_until_that_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let socket = UnixListener::bind(&path).unwrap();
        assert_eq!(BoundFile::of(&socket), None);
        let file = BoundFile::found(&path).unwrap();
        file.note(&socket).unwrap();
        assert_eq!(BoundFile::of(&socket), Some(file.clone()));
        file.remove();
        assert_eq!(BoundFile::of(&socket), None);
    }
}
