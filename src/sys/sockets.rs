//! Listening sockets and what accept returns. Opens, binds and accepts; serves nobody.

#![allow(unsafe_code)]

use super::{atfork, waiter::poll_any};
use crate::core::error::{Error, Operation};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    poll::PollFlags,
    sys::{
        socket::{
            self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage,
            UnixAddr, sockopt,
        },
        stat::{Mode, umask},
    },
};
use std::{
    fs,
    io::{self, IoSlice},
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::Path,
    time::Duration,
};

/// What an attempt to accept has found.
#[derive(Debug)]
pub(crate) enum Accepted {
    Connection(OwnedFd),
    /// Nothing is queued, or it was gone before it could be taken.
    Nothing,
    /// The process or the system is short of something; it may pass.
    Exhausted(io::Error),
    /// A firewall has forbidden this connection, or a sandbox forbids all.
    Forbidden(io::Error),
    /// The socket cannot be accepted on.
    Broken(io::Error),
}

/// Whether an operation on a connection may block, for as long as the connection itself allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Blocking {
    Allowed,
    Never,
}

/// Takes a connection, close-on-exec, if one is queued. It is in non-blocking mode unless it is
/// allowed to block, which only connections should be that [inherit a timeout](block_briefly).
pub(crate) fn accept(listener: &impl AsRawFd, blocking: Blocking) -> Accepted {
    atfork::connection_is_over();
    match try_accept(listener.as_raw_fd(), blocking) {
        Ok(fd) => {
            atfork::note_accepted(fd.as_raw_fd(), listener.as_raw_fd());
            Accepted::Connection(fd)
        }
        Err(errno) => match errno {
            Errno::EAGAIN | Errno::EINTR => Accepted::Nothing,
            // accept(2): errors of the network that are already pending on the new connection are
            // to be treated as if there were none.
            Errno::ECONNABORTED
            | Errno::EPROTO
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENOPROTOOPT
            | Errno::ETIMEDOUT => Accepted::Nothing,
            #[cfg(target_os = "linux")]
            Errno::ENONET => Accepted::Nothing,
            Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM => {
                Accepted::Exhausted(errno.into())
            }
            Errno::EPERM => Accepted::Forbidden(errno.into()),
            _ => Accepted::Broken(errno.into()),
        },
    }
}

/// Sees to it that an attempt to accept does not block, and says whether it would have: the mode
/// belongs to the socket and not to the process, so any of those that share it can change it.
pub(crate) fn keep_nonblocking(listener: &impl AsFd) -> io::Result<bool> {
    let flags = OFlag::from_bits_retain(fcntl(listener, FcntlArg::F_GETFL)?);
    let blocks = !flags.contains(OFlag::O_NONBLOCK);
    if blocks {
        fcntl(listener, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    Ok(blocks)
}

/// Whether an attempt to accept would find something now, be it an error.
pub(crate) fn is_queued(listener: &impl AsFd) -> io::Result<bool> {
    atfork::connection_is_over();
    let [queued] = poll_any(
        [(listener.as_fd(), PollFlags::POLLIN)],
        Some(Duration::ZERO),
    )?;
    Ok(queued)
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn try_accept(listener: libc::c_int, blocking: Blocking) -> nix::Result<OwnedFd> {
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, blocking == Blocking::Never);
    let fd = socket::accept4(listener, flags)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn try_accept(listener: libc::c_int, blocking: Blocking) -> nix::Result<OwnedFd> {
    use nix::fcntl::FdFlag;
    let fd = socket::accept(listener)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // Elsewhere a connection may inherit the listener's mode.
    let mut flags = OFlag::empty();
    flags.set(OFlag::O_NONBLOCK, blocking == Blocking::Never);
    fcntl(&fd, FcntlArg::F_SETFL(flags))?;
    Ok(fd)
}

/// Has what blocks on `listener` give up after `timeout`, with EAGAIN: accept(2), if it may block. On
/// Linux a TCP connection inherits this from its listener, so none of them costs it a call.
#[cfg(target_os = "linux")]
pub(crate) fn block_briefly(listener: &impl AsFd, timeout: Duration) -> io::Result<()> {
    use nix::sys::time::{TimeVal, TimeValLike};
    // OK because it is milliseconds.
    let timeout = TimeVal::microseconds(timeout.as_micros() as i64);
    socket::setsockopt(listener, sockopt::ReceiveTimeout, &timeout)?;
    Ok(socket::setsockopt(
        listener,
        sockopt::SendTimeout,
        &timeout,
    )?)
}

/// Elsewhere accept(2) may take no notice of it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn block_briefly(_: &impl AsFd, _: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Has accept(2) block, for everybody who shares the listener.
pub(crate) fn block(listener: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(listener, FcntlArg::F_GETFL)?);
    fcntl(listener, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(())
}

fn flags(blocking: Blocking) -> MsgFlags {
    match blocking {
        Blocking::Allowed => MsgFlags::MSG_NOSIGNAL,
        Blocking::Never => MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
    }
}

/// Reads once from a connection.
pub(crate) fn receive(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
    blocking: Blocking,
) -> io::Result<usize> {
    let flags = flags(blocking) & MsgFlags::MSG_DONTWAIT;
    Ok(socket::recv(socket.as_raw_fd(), buffer, flags)?)
}

/// Writes once to a connection.
pub(crate) fn send(
    socket: &impl AsRawFd,
    parts: &[IoSlice<'_>],
    blocking: Blocking,
) -> io::Result<usize> {
    let (socket, flags) = (socket.as_raw_fd(), flags(blocking));
    Ok(match parts {
        // send(2) is a little cheaper than sendmsg(2).
        [part] => socket::send(socket, part, flags)?,
        _ => socket::sendmsg::<()>(socket, parts, &[], flags, None)?,
    })
}

/// Whether a socket still listens: any process that shares it can shut it down for all.
pub(crate) fn is_listening(listener: &impl AsFd) -> bool {
    socket::getsockopt(listener, sockopt::AcceptConn).unwrap_or(true)
}

/// A TCP socket that listens on `address`, in non-blocking mode: a child must not be caught in
/// accept by a connection that another one has taken.
pub(crate) fn listen_tcp(
    address: SocketAddr,
    only_v6: bool,
    backlog: i32,
) -> Result<TcpListener, Error> {
    let failed =
        |operation| move |errno: Errno| Error::new(operation, address.to_string(), errno.into());
    let family = if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let socket = stream_socket(family).map_err(failed(Operation::Socket))?;
    // Connections of an earlier server that linger in TIME_WAIT must not keep us from the port.
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true).map_err(failed(Operation::Bind))?;
    if address.is_ipv6() && only_v6 {
        socket::setsockopt(&socket, sockopt::Ipv6V6Only, &true).map_err(failed(Operation::Bind))?;
    }
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .map_err(failed(Operation::Bind))?;
    listen(&socket, backlog).map_err(failed(Operation::Listen))?;
    Ok(TcpListener::from(socket))
}

fn stream_socket(family: AddressFamily) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket::socket(family, SockType::Stream, flags, None)
}

fn listen(socket: &OwnedFd, backlog: i32) -> nix::Result<()> {
    if let Some(limit) = most_backlog()
        && backlog > limit
    {
        log::warn!("backlog {backlog} is more than can be had, using {limit}");
    }
    // Not nix's wrapper, which refuses what is above the C library's SOMAXCONN: a number of the time
    // of its compilation, 128 with musl, while the kernel's limit is a setting of the system. The
    // kernel takes a negative number for a huge one.
    // SAFETY: the descriptor is open, since it is borrowed; no memory is passed.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), backlog.max(0)) }).map(drop)
}

/// To what the kernel cuts a backlog, without a word.
#[cfg(target_os = "linux")]
fn most_backlog() -> Option<i32> {
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    limit.trim().parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn most_backlog() -> Option<i32> {
    None
}

/// Device and inode of a socket file: whether it is still ours.
pub(crate) type FileId = (u64, u64);

/// A UNIX socket that listens at `path`, in non-blocking mode, and the identity of its file.
///
/// A socket file that nobody listens at is replaced; one that somebody does, or a file that is no
/// socket, is left alone and an error.
pub(crate) fn listen_unix(
    path: &Path,
    mode: u32,
    backlog: i32,
) -> Result<(UnixListener, FileId), Error> {
    let object = path.display().to_string();
    let failed = |operation, error: io::Error| Error::new(operation, object.clone(), error);
    if path.as_os_str().is_empty() {
        // To the kernel this asks for any name that is free, in no file system.
        let reason = io::Error::new(io::ErrorKind::InvalidInput, "the path is empty");
        return Err(failed(Operation::Bind, reason));
    }
    let address = UnixAddr::new(path).map_err(|errno| failed(Operation::Bind, errno.into()))?;
    let _lock = lock_directory(path)?;
    remove_stale(path).map_err(|error| match error {
        Stale::Unlink(error) => failed(Operation::Unlink, error),
        Stale::Taken(error) => failed(Operation::Bind, error),
    })?;
    let socket = stream_socket(AddressFamily::Unix)
        .map_err(|errno| failed(Operation::Socket, errno.into()))?;
    bind_privately(&socket, &address).map_err(|errno| failed(Operation::Bind, errno.into()))?;
    let open = || {
        listen(&socket, backlog).map_err(|errno| failed(Operation::Listen, errno.into()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(|error| failed(Operation::Chmod, error))?;
        file_id(path).map_err(|error| failed(Operation::Open, error))
    };
    match open() {
        Ok(file) => Ok((UnixListener::from(socket), file)),
        Err(error) => {
            // OK to ignore: the error that brought us here says more.
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Nobody must be able to connect before the mode is set.
fn bind_privately(socket: &OwnedFd, address: &UnixAddr) -> nix::Result<()> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = socket::bind(socket.as_raw_fd(), address as &dyn SockaddrLike);
    umask(before);
    bound
}

/// Between the bind and the listen of one instance another would find a socket file at which nobody
/// listens, and take it. A lock on the directory keeps them apart and leaves no file behind.
///
/// The lock ends when the file is closed. (nix's type is not used: it unlocks by a call of its own, and
/// panics if that fails.)
fn lock_directory(path: &Path) -> Result<Option<fs::File>, Error> {
    const ATTEMPTS: u32 = 100;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |error| Error::new(Operation::Open, directory.display().to_string(), error);
    let file = match fs::File::open(directory) {
        Ok(file) => file,
        // A directory that may be written and searched but not read is no reason to fail.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    for _ in 0..ATTEMPTS {
        // SAFETY: flock has no memory to corrupt, and the descriptor is open.
        let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        match Errno::result(locked) {
            Ok(_) => return Ok(Some(file)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        // OK to ignore: it only passes the time until the next attempt.
        let _ = poll_any([], Some(Duration::from_millis(10)));
    }
    Err(failed(io::Error::new(
        io::ErrorKind::WouldBlock,
        "locked by another process",
    )))
}

enum Stale {
    Unlink(io::Error),
    Taken(io::Error),
}

fn remove_stale(path: &Path) -> Result<(), Stale> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        let reason = "there is a file that is not a socket";
        return Err(Stale::Taken(io::Error::new(
            io::ErrorKind::AlreadyExists,
            reason,
        )));
    }
    match try_connect(path) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(Stale::Unlink),
        // It has gone meanwhile.
        Err(Errno::ENOENT) => Ok(()),
        // A full backlog is as alive as an answer.
        Ok(()) | Err(Errno::EAGAIN) => {
            let reason = "another server is listening there";
            Err(Stale::Taken(io::Error::new(
                io::ErrorKind::AddrInUse,
                reason,
            )))
        }
        Err(errno) => {
            let error = io::Error::from(errno);
            let reason = format!("cannot tell whether a server listens there: {error}");
            Err(Stale::Taken(io::Error::new(error.kind(), reason)))
        }
    }
}

/// Never waits: connecting to a server whose backlog is full would, for as long as it is stuck.
fn try_connect(path: &Path) -> nix::Result<()> {
    let socket = stream_socket(AddressFamily::Unix)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

fn file_id(path: &Path) -> io::Result<FileId> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket file, if it is still the one that was bound.
pub(crate) fn remove_socket_file(path: &Path, file: FileId) {
    let removed = match file_id(path) {
        Ok(found) if found == file => fs::remove_file(path),
        Ok(_) => return log::debug!("{} is another server's now", path.display()),
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        log::warn!("removing {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    /// A listener that somebody who shares it has set to blocking mode is set back before an attempt
    /// to accept that is likely to be in vain, so that no child hangs in accept.
    #[test]
    fn d06_a_listener_that_was_made_to_block_does_not() {
        let listener = listen_tcp(([127, 0, 0, 1], 0).into(), false, 8).unwrap();
        assert!(!keep_nonblocking(&listener).unwrap());
        let shared = listener.try_clone().unwrap();
        shared.set_nonblocking(false).unwrap();
        // Without this the next line would wait for ever.
        assert!(keep_nonblocking(&listener).unwrap());
        assert!(matches!(
            accept(&listener, Blocking::Never),
            Accepted::Nothing
        ));
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = accept(&shared, Blocking::Never);
        assert!(matches!(accepted, Accepted::Connection(_)), "{accepted:?}");
        drop(client);
    }

    /// A UNIX socket without a name in the file system that listens with that backlog, and how many
    /// of `clients` find room there.
    #[cfg(target_os = "linux")]
    fn room(backlog: i32, clients: usize) -> usize {
        let listener = stream_socket(AddressFamily::Unix).unwrap();
        let name = format!("prefork-backlog-{}-{backlog}", std::process::id());
        let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
        socket::bind(listener.as_raw_fd(), &address).unwrap();
        listen(&listener, backlog).unwrap();
        let clients: Vec<_> = (0..clients)
            .map(|_| stream_socket(AddressFamily::Unix).unwrap())
            .collect();
        let connect = |client: &&OwnedFd| socket::connect(client.as_raw_fd(), &address).is_ok();
        clients.iter().filter(connect).count()
    }

    /// The kernel lets one more wait than was asked for. It cuts what is too much, and a negative number
    /// would be that to it.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_backlog_is_what_was_asked_for_and_never_negative() {
        assert_eq!(room(3, 20), 4);
        assert_eq!(room(0, 20), 1);
        assert_eq!(room(-1, 20), 1);
        assert_eq!(room(i32::MIN, 20), 1);
        assert_eq!(room(i32::MAX, 20), 20);
    }

    /// Where connections inherit a timeout from the listener, an attempt to accept obeys it too.
    #[test]
    #[cfg(target_os = "linux")]
    fn d06_an_attempt_that_blocks_ends_with_the_timeout_that_connections_inherit() {
        let listener = listen_tcp(([127, 0, 0, 1], 0).into(), false, 8).unwrap();
        block_briefly(&listener, Duration::from_millis(20)).unwrap();
        listener.set_nonblocking(false).unwrap();
        // Without the timeout this would wait for ever.
        let accepted = accept(&listener, Blocking::Allowed);
        assert!(matches!(accepted, Accepted::Nothing), "{accepted:?}");
    }
}
