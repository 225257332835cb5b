//! Binds UNIX sockets, which makes their files, and removes files that no server listens at any more. No
//! step follows a symbolic link at the path; serves no client.

#![allow(unsafe_code)]

use super::{
    socket_files::{self, BoundFile, FileId},
    sockets::{listen, stream_socket},
    upgrade,
    waiter::poll_any,
};
use crate::core::{
    error::{Error, Operation},
    say::say,
};
use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{self, AddressFamily, SockaddrLike, UnixAddr},
        stat::{Mode, fchmod, umask},
    },
};
use std::{
    fs, io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileTypeExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// A UNIX socket that listens at `path`, and its file, if it has one that is this server's.
///
/// The socket is in non-blocking mode. A socket file without a listener is replaced. A socket file
/// with a listener, or a file that is not a socket, is left alone, and the call fails. A path that
/// begins with a zero byte is an abstract name.
pub(crate) fn listen_unix(
    path: &Path,
    mode: u32,
    backlog: i32,
) -> Result<(OwnedFd, Option<BoundFile>), Error> {
    let address = address(path).map_err(|error| failed(path, Operation::Bind, error))?;
    let inherited = upgrade::unix_socket(path);
    if let Some(socket) = inherited.map_err(|error| failed(path, Operation::Upgrade, error))? {
        let file = BoundFile::of(&socket);
        return listening(path, socket, backlog).map(|socket| (socket, file));
    }
    if is_abstract(path) {
        let socket = bind(path, &address, mode)?;
        return listening(path, socket, backlog).map(|socket| (socket, None));
    }
    let _lock = lock_directory(path)?;
    remove_stale(path, &address)?;
    let socket = bind(path, &address, mode)?;
    let file = BoundFile::found(path).map_err(|error| failed(path, Operation::Open, error))?;
    let noted = file.note(&socket);
    let listening = noted
        .map_err(|error| failed(path, Operation::Open, error))
        .and_then(|()| listening(path, socket, backlog));
    match listening {
        Ok(socket) => Ok((socket, Some(file))),
        Err(error) => {
            file.remove();
            Err(error)
        }
    }
}

/// A path as messages show it, without control characters: `@name` for an abstract name.
pub(crate) fn display_name(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let text = match bytes.split_first() {
        Some((0, name)) => format!("@{}", String::from_utf8_lossy(name)),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// The address of a UNIX socket: a path, or an abstract name after a zero byte.
pub(crate) fn path_of(socket: BorrowedFd<'_>) -> Option<PathBuf> {
    let address: UnixAddr = socket::getsockname(socket.as_raw_fd()).ok()?;
    path_in(&address)
}

pub(super) fn path_in(address: &UnixAddr) -> Option<PathBuf> {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_abstract() {
        let bytes = [&[0], name].concat();
        return Some(std::ffi::OsStr::from_bytes(&bytes).into());
    }
    address.path().map(Path::to_owned)
}

fn failed(path: &Path, operation: Operation, error: io::Error) -> Error {
    Error::new(operation, display_name(path), error)
}

pub(crate) fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

pub(super) fn address(path: &Path) -> io::Result<UnixAddr> {
    let invalid = |reason| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    let bytes = path.as_os_str().as_bytes();
    match bytes {
        // An empty name asks the kernel for any free abstract name.
        [] => invalid("the path is empty"),
        [0] => invalid("the abstract name is empty"),
        [0, name @ ..] => abstract_address(name),
        _ if bytes.contains(&0) => invalid("the path contains a zero byte"),
        _ => Ok(UnixAddr::new(path)?),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<UnixAddr> {
    Ok(UnixAddr::new_abstract(name)?)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<UnixAddr> {
    let reason = "abstract names are known to Linux only";
    Err(io::Error::new(io::ErrorKind::Unsupported, reason))
}

/// Binds a socket whose file has its mode from the first moment. The mode is set on the socket and
/// never by path: the owner of the directory could put a link there.
fn bind(path: &Path, address: &UnixAddr, mode: u32) -> Result<OwnedFd, Error> {
    let failed = |operation| move |errno: Errno| failed(path, operation, errno.into());
    let socket = stream_socket(AddressFamily::Unix).map_err(failed(Operation::Socket))?;
    let mode = Mode::from_bits_truncate(mode as libc::mode_t);
    match fchmod(&socket, mode) {
        // Some systems ignore the mode of a socket; they only obey the mask below.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(failed(Operation::Chmod)(errno)),
    }
    let before = umask(Mode::all() - mode);
    let bound = socket::bind(socket.as_raw_fd(), address as &dyn SockaddrLike);
    umask(before);
    bound.map_err(failed(Operation::Bind))?;
    Ok(socket)
}

fn listening(path: &Path, socket: OwnedFd, backlog: i32) -> Result<OwnedFd, Error> {
    match listen(&socket, backlog) {
        Ok(()) => Ok(socket),
        Err(errno) => Err(failed(path, Operation::Listen, errno.into())),
    }
}

/// Locks the directory of a socket file while one instance binds and listens. Between the two calls
/// another instance would find a socket file without a listener, and replace it. The lock leaves no
/// file behind. If it cannot be had, the start goes on with a warning: not every file system
/// supports locks, and any process that can open the directory can hold the lock.
///
/// The lock ends when the file is closed. (nix's type is not used: it unlocks by an extra call, and
/// panics if that fails.)
fn lock_directory(path: &Path) -> Result<Option<fs::File>, Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = match fs::File::open(directory) {
        Ok(file) => file,
        // A directory may be writable and searchable but not readable. That must not fail the
        // start.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(failed(directory, Operation::Open, error)),
    };
    match lock(&file) {
        Ok(()) => Ok(Some(file)),
        Err(errno) => {
            let (name, error) = (display_name(directory), io::Error::from(errno));
            say!(
                Warn,
                "{name} cannot be locked: {error}; two servers must not start there at once"
            );
            Ok(None)
        }
    }
}

/// Waits for a second at most.
fn lock(file: &fs::File) -> nix::Result<()> {
    const ATTEMPTS: u32 = 100;
    for _ in 0..ATTEMPTS {
        // SAFETY: flock touches no memory, and the descriptor is open.
        let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        match Errno::result(locked) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        // OK to ignore: this only waits for the next attempt.
        let _ = poll_any([], Some(Duration::from_millis(10)));
    }
    Err(Errno::EAGAIN)
}

/// Removes the file of a socket on which no process listens, and leaves any other file.
fn remove_stale(path: &Path, address: &UnixAddr) -> Result<(), Error> {
    let taken = |kind, reason: String| failed(path, Operation::Bind, io::Error::new(kind, reason));
    let unknown = |error: io::Error| {
        let reason = format!("cannot tell whether a server listens there: {error}");
        taken(error.kind(), reason)
    };
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let pinned = match PinnedFile::at(path) {
        Ok(pinned) => pinned,
        // The file has been removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unknown(error)),
    };
    if !pinned.is_socket {
        let reason = "there is a file that is not a socket".to_owned();
        return Err(taken(io::ErrorKind::AlreadyExists, reason));
    }
    match pinned.try_connect(address) {
        Err(Errno::ECONNREFUSED) => pinned.remove(path),
        Err(Errno::ENOENT) => Ok(()),
        // A full backlog shows a live listener, like an accepted connection.
        Ok(()) | Err(Errno::EAGAIN) => {
            let reason = "another server is listening there".to_owned();
            Err(taken(io::ErrorKind::AddrInUse, reason))
        }
        Err(errno) => Err(unknown(errno.into())),
    }
}

/// The file at a path, whatever is put there later.
#[derive(Debug)]
struct PinnedFile {
    id: FileId,
    is_socket: bool,
    /// The file held open, and an address that reaches only this file: connect(2) on the path would follow
    /// a link put in its place. `None` where /proc is missing.
    by_number: Option<(fs::File, UnixAddr)>,
}

impl PinnedFile {
    #[cfg(target_os = "linux")]
    fn at(path: &Path) -> io::Result<Self> {
        use nix::fcntl::{OFlag, open};
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = fs::File::from(open(path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        let number = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let by_number = match number.exists() {
            true => Some((file, UnixAddr::new(&number)?)),
            false => None,
        };
        Ok(Self::new(&metadata, by_number))
    }

    #[cfg(not(target_os = "linux"))]
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::new(&fs::symlink_metadata(path)?, None))
    }

    fn new(metadata: &fs::Metadata, by_number: Option<(fs::File, UnixAddr)>) -> Self {
        Self {
            id: socket_files::id(metadata),
            is_socket: metadata.file_type().is_socket(),
            by_number,
        }
    }

    /// Connects without waiting: a blocking connect to a server with a full backlog would wait as long
    /// as that server is stuck.
    fn try_connect(&self, address: &UnixAddr) -> nix::Result<()> {
        let socket = stream_socket(AddressFamily::Unix)?;
        let by_number = self.by_number.as_ref();
        let address = by_number.map_or(address, |(_, address)| address);
        socket::connect(socket.as_raw_fd(), address)
    }

    /// Removes it, unless another one is at the path now: then it is that of a server which has bound
    /// meanwhile, as the bind that follows finds out.
    fn remove(&self, path: &Path) -> Result<(), Error> {
        match socket_files::unlink_same(path, self.id) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(path, Operation::Unlink, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// The mode is set on the socket before it is bound, whatever the umask, and no later step uses
    /// the path.
    #[test]
    fn o20_a_socket_file_has_the_mode_that_was_asked_for_whatever_the_mask() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o660, 0o666, 0o777, 0o000] {
            let path = directory.path().join(format!("{mode:o}"));
            let _listener = listen_unix(&path, mode, 8).unwrap();
            assert_eq!(mode_of(&path), mode, "{mode:o}");
        }
    }

    /// Opening or removing a socket file never follows a link: a link to another socket's file
    /// neither connects to that socket nor removes its file.
    #[cfg(target_os = "linux")]
    #[test]
    fn o20_a_link_at_the_path_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("s"), directory.path().join("l"));
        let _listener = listen_unix(&path, 0o600, 8).unwrap();
        symlink(&path, &link).unwrap();
        let connected = |path: &Path| {
            let pinned = PinnedFile::at(path).unwrap();
            pinned.try_connect(&UnixAddr::new(path).unwrap())
        };
        assert_eq!(connected(&link), Err(Errno::ECONNREFUSED));
        assert_eq!(connected(&path), Ok(()));
        let error = listen_unix(&link, 0o600, 8).unwrap_err();
        assert_eq!(error.io_error().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(mode_of(&path), 0o600);
    }

    /// A server that binds there right after the old file was found to be stale keeps its file.
    #[test]
    fn a_stale_file_is_removed_and_the_one_that_replaces_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let stale = PinnedFile::at(&path).unwrap();
        let refused = stale.try_connect(&UnixAddr::new(&path).unwrap());
        assert_eq!(refused, Err(Errno::ECONNREFUSED));
        fs::rename(&path, directory.path().join("elsewhere")).unwrap();
        let (_socket, _) = listen_unix(&path, 0o600, 8).unwrap();
        stale.remove(&path).unwrap();
        assert!(path.exists(), "it is the second server's");
        fs::rename(directory.path().join("elsewhere"), &path).unwrap();
        stale.remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn an_abstract_name_is_listened_on_and_taken_once() {
        let name = format!("\0prefork-abstract-{}", std::process::id());
        let (_listener, file) = listen_unix(Path::new(&name), 0o600, 8).unwrap();
        assert_eq!(file, None);
        let error = listen_unix(Path::new(&name), 0o600, 8).unwrap_err();
        assert_eq!(error.io_error().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.object(), name.replacen('\0', "@", 1));
    }

    /// Messages contain neither the zero byte of an abstract name nor another control character.
    #[test]
    fn o38_a_message_has_no_control_characters() {
        assert_eq!(display_name(Path::new("/run/x")), "/run/x");
        assert_eq!(display_name(Path::new("\0x\0y")), "@x\\u{0}y");
        for path in ["a\0b", "\0", ""] {
            let error = listen_unix(Path::new(path), 0o600, 8).unwrap_err();
            assert_eq!(error.io_error().kind(), io::ErrorKind::InvalidInput);
            assert!(!error.to_string().contains('\0'), "{error:?}");
        }
    }
}
