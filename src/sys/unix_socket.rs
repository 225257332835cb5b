//! Binding UNIX sockets, and their files. No step follows a symbolic link at the path; serves nobody.

#![allow(unsafe_code)]

use super::{
    sockets::{listen, stream_socket},
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
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// Device and inode of a socket file: whether it is still the one that was bound.
pub(crate) type FileId = (u64, u64);

/// A UNIX socket that listens at `path`, in non-blocking mode, and the identity of its file, if it has
/// one.
///
/// A socket file that nobody listens at is replaced. One that somebody listens at, or a file that is no
/// socket, is left alone and an error. A path that begins with a zero byte is an abstract name.
pub(crate) fn listen_unix(
    path: &Path,
    mode: u32,
    backlog: i32,
) -> Result<(OwnedFd, Option<FileId>), Error> {
    let address = address(path).map_err(|error| failed(path, Operation::Bind, error))?;
    if is_abstract(path) {
        let socket = bind(path, &address, mode)?;
        return listening(path, socket, backlog).map(|socket| (socket, None));
    }
    let _lock = lock_directory(path)?;
    remove_stale(path, &address)?;
    let socket = bind(path, &address, mode)?;
    let file = file_id(path).map_err(|error| failed(path, Operation::Open, error))?;
    match listening(path, socket, backlog) {
        Ok(socket) => Ok((socket, Some(file))),
        Err(error) => {
            remove_socket_file(path, file);
            Err(error)
        }
    }
}

/// What a path is called in messages, which hold no control characters: `@name` for an abstract name.
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

/// Where a UNIX socket is bound, an abstract name after a zero byte.
pub(crate) fn path_of(socket: BorrowedFd<'_>) -> Option<PathBuf> {
    let address: UnixAddr = socket::getsockname(socket.as_raw_fd()).ok()?;
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

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&0)
}

pub(super) fn address(path: &Path) -> io::Result<UnixAddr> {
    let invalid = |reason| Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    let bytes = path.as_os_str().as_bytes();
    match bytes {
        // To the kernel this asks for any name that is free, in no file system.
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

/// Binds a socket whose file has its mode from the first moment. The mode is that of the socket, and
/// nothing is done by path: whoever owns the directory could put a link there.
fn bind(path: &Path, address: &UnixAddr, mode: u32) -> Result<OwnedFd, Error> {
    let failed = |operation| move |errno: Errno| failed(path, operation, errno.into());
    let socket = stream_socket(AddressFamily::Unix).map_err(failed(Operation::Socket))?;
    let mode = Mode::from_bits_truncate(mode as libc::mode_t);
    match fchmod(&socket, mode) {
        // Not every system gives a socket a mode; the mask below is all that those obey.
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

/// Between the bind and the listen of one instance another would find a socket file at which nobody
/// listens, and take it. A lock on the directory keeps them apart and leaves no file behind. It is not
/// worth a start that fails: where it cannot be had (not every file system locks, and anybody who may
/// open the directory can hold the lock) a warning tells.
///
/// The lock ends when the file is closed. (nix's type is not used: it unlocks by a call of its own, and
/// panics if that fails.)
fn lock_directory(path: &Path) -> Result<Option<fs::File>, Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = match fs::File::open(directory) {
        Ok(file) => file,
        // A directory that may be written and searched but not read is no reason to fail.
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

/// Waits for a second at the most.
fn lock(file: &fs::File) -> nix::Result<()> {
    const ATTEMPTS: u32 = 100;
    for _ in 0..ATTEMPTS {
        // SAFETY: flock has no memory to corrupt, and the descriptor is open.
        let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        match Errno::result(locked) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        // OK to ignore: it only passes the time until the next attempt.
        let _ = poll_any([], Some(Duration::from_millis(10)));
    }
    Err(Errno::EAGAIN)
}

fn remove_stale(path: &Path, address: &UnixAddr) -> Result<(), Error> {
    let taken = |kind, reason: String| failed(path, Operation::Bind, io::Error::new(kind, reason));
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        let reason = "there is a file that is not a socket".to_owned();
        return Err(taken(io::ErrorKind::AlreadyExists, reason));
    }
    match try_connect(path, address) {
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).map_err(|error| failed(path, Operation::Unlink, error))
        }
        // It has gone meanwhile.
        Err(Errno::ENOENT) => Ok(()),
        // A full backlog is as alive as an answer.
        Ok(()) | Err(Errno::EAGAIN) => {
            let reason = "another server is listening there".to_owned();
            Err(taken(io::ErrorKind::AddrInUse, reason))
        }
        Err(errno) => {
            let error = io::Error::from(errno);
            let reason = format!("cannot tell whether a server listens there: {error}");
            Err(taken(error.kind(), reason))
        }
    }
}

/// Never waits: connecting to a server whose backlog is full would, for as long as it is stuck.
fn try_connect(path: &Path, address: &UnixAddr) -> nix::Result<()> {
    let socket = stream_socket(AddressFamily::Unix)?;
    let pinned = pin(path)?;
    let address = pinned.as_ref().map_or(address, |(_, address)| address);
    socket::connect(socket.as_raw_fd(), address)
}

/// The file at `path` itself, held open, and an address by which nothing else is reached: connect(2)
/// would follow a link that has been put in its place. `None` where /proc is missing.
#[cfg(target_os = "linux")]
fn pin(path: &Path) -> nix::Result<Option<(OwnedFd, UnixAddr)>> {
    use nix::fcntl::{OFlag, open};
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    let by_number = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if !by_number.exists() {
        return Ok(None);
    }
    let address = UnixAddr::new(&by_number)?;
    Ok(Some((file, address)))
}

#[cfg(not(target_os = "linux"))]
fn pin(_: &Path) -> nix::Result<Option<(OwnedFd, UnixAddr)>> {
    Ok(None)
}

fn file_id(path: &Path) -> io::Result<FileId> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket file, if it is still the one that was bound.
pub(crate) fn remove_socket_file(path: &Path, file: FileId) {
    let name = display_name(path);
    let removed = match file_id(path) {
        Ok(found) if found == file => fs::remove_file(path),
        Ok(_) => return log::debug!("{name} is another server's now"),
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        say!(Warn, "removing {name}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// The mode is set on the socket before it is bound, whatever the umask, and nothing is done by path
    /// afterwards.
    #[test]
    fn o20_a_socket_file_has_the_mode_that_was_asked_for_whatever_the_mask() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o660, 0o666, 0o777, 0o000] {
            let path = directory.path().join(format!("{mode:o}"));
            let _listener = listen_unix(&path, mode, 8).unwrap();
            assert_eq!(mode_of(&path), mode, "{mode:o}");
        }
    }

    /// No step of opening or removing a socket file follows a link: the file of another socket, reached by
    /// one, is neither asked nor removed.
    #[cfg(target_os = "linux")]
    #[test]
    fn o20_a_link_at_the_path_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("s"), directory.path().join("l"));
        let _listener = listen_unix(&path, 0o600, 8).unwrap();
        symlink(&path, &link).unwrap();
        // In the window after the look at its type, a link has been put in the place of the file.
        assert_eq!(
            try_connect(&link, &UnixAddr::new(&link).unwrap()),
            Err(Errno::ECONNREFUSED)
        );
        assert_eq!(try_connect(&path, &UnixAddr::new(&path).unwrap()), Ok(()));
        let error = listen_unix(&link, 0o600, 8).unwrap_err();
        assert_eq!(error.io_error().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(mode_of(&path), 0o600);
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

    /// No message has the zero byte of an abstract name, or another control character.
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
