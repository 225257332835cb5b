//! Listening sockets and what accept returns. Opens, binds and accepts; serves nobody.

#![allow(unsafe_code)]

use super::{
    accept::{self, Newcomer},
    atfork,
    waiter::poll_any,
};
use crate::core::{
    error::{Error, Operation},
    say::say,
};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    poll::PollFlags,
    sys::socket::{
        self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, sockopt,
    },
};
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

/// What an attempt to accept has found.
#[derive(Debug)]
pub(crate) enum Accepted {
    Connection(Newcomer),
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
        Ok(newcomer) => {
            atfork::note_accepted(newcomer.stream.as_raw_fd(), listener.as_raw_fd());
            Accepted::Connection(newcomer)
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
fn try_accept(listener: libc::c_int, blocking: Blocking) -> nix::Result<Newcomer> {
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, blocking == Blocking::Never);
    accept::accept(listener, flags.bits())
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn try_accept(listener: libc::c_int, blocking: Blocking) -> nix::Result<Newcomer> {
    use nix::fcntl::FdFlag;
    let newcomer = accept::accept(listener)?;
    let fd = &newcomer.stream;
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // Elsewhere a connection may inherit the listener's mode.
    let mut flags = OFlag::empty();
    flags.set(OFlag::O_NONBLOCK, blocking == Blocking::Never);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(newcomer)
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

/// A TCP socket at `address` that does not listen yet, in non-blocking mode: a child must not be caught
/// in accept by a connection that another one has taken.
pub(crate) fn bind_tcp(address: SocketAddr, only_v6: bool) -> Result<OwnedFd, Error> {
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
    Ok(socket)
}

/// Whether an error of [`bind_tcp`] says that this system does not have such an address, so that a
/// name's next one may do. An address in use does not: another server would be listened beside.
pub(crate) fn is_no_address_here(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT))
}

/// Has what is written to a connection sent at once. Connections inherit it from their listener.
pub(crate) fn send_at_once(socket: &impl AsFd) -> io::Result<()> {
    Ok(socket::setsockopt(socket, sockopt::TcpNoDelay, &true)?)
}

/// Has the kernel ask a silent peer whether it is there: after `idle`, each `interval`, `count` times.
/// Zero leaves one of them as the system has it. Connections inherit it from their listener.
#[cfg(target_os = "linux")]
pub(crate) fn keep_alive(
    socket: &impl AsFd,
    idle: u32,
    interval: u32,
    count: u32,
) -> io::Result<()> {
    if idle != 0 {
        socket::setsockopt(socket, sockopt::TcpKeepIdle, &idle)?;
    }
    if interval != 0 {
        socket::setsockopt(socket, sockopt::TcpKeepInterval, &interval)?;
    }
    if count != 0 {
        socket::setsockopt(socket, sockopt::TcpKeepCount, &count)?;
    }
    Ok(socket::setsockopt(socket, sockopt::KeepAlive, &true)?)
}

/// Elsewhere the intervals are the system's.
#[cfg(not(target_os = "linux"))]
pub(crate) fn keep_alive(socket: &impl AsFd, _: u32, _: u32, _: u32) -> io::Result<()> {
    Ok(socket::setsockopt(socket, sockopt::KeepAlive, &true)?)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet,
    Unix,
}

/// Whether `socket` is a stream socket of that family.
pub(crate) fn is_stream(socket: &impl AsFd, family: Family) -> bool {
    let of_type = socket::getsockopt(socket, sockopt::SockType);
    let address = socket::getsockname::<SockaddrStorage>(socket.as_fd().as_raw_fd());
    let found = match address.map(|address| address.family()) {
        Ok(Some(AddressFamily::Inet | AddressFamily::Inet6)) => Family::Inet,
        Ok(Some(AddressFamily::Unix)) => Family::Unix,
        _ => return false,
    };
    found == family && of_type == Ok(SockType::Stream)
}

/// The address of a TCP socket.
pub(crate) fn tcp_address(socket: &impl AsFd) -> Option<SocketAddr> {
    let address: SockaddrStorage = socket::getsockname(socket.as_fd().as_raw_fd()).ok()?;
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    })
}

/// How many connections wait at a listening TCP socket to be accepted.
#[cfg(target_os = "linux")]
pub(crate) fn queue_length(listener: &impl AsFd) -> Option<u32> {
    // SAFETY: zeroes are a value of this structure, which is made of numbers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is open, since it is borrowed; the kernel writes `length` bytes at most,
    // which is the size of `info`.
    let result = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    // Of a listener this field is the length of its queue.
    Errno::result(result).is_ok().then_some(info.tcpi_unacked)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn queue_length(_: &impl AsFd) -> Option<u32> {
    None
}

/// Has attempts to accept not block, whoever shares the listener.
pub(crate) fn unblock(listener: &impl AsFd) -> io::Result<()> {
    keep_nonblocking(listener).map(drop)
}

pub(super) fn stream_socket(family: AddressFamily) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket::socket(family, SockType::Stream, flags, None)
}

pub(crate) fn listen(socket: &OwnedFd, backlog: i32) -> nix::Result<()> {
    if let Some(limit) = most_backlog()
        && backlog > limit
    {
        say!(
            Warn,
            "backlog {backlog} is more than can be had, using {limit}"
        );
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
    let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    limit.trim().parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn most_backlog() -> Option<i32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::UnixAddr;
    use std::net::{TcpListener, TcpStream};

    fn listen_tcp() -> TcpListener {
        let socket = bind_tcp(([127, 0, 0, 1], 0).into(), false).unwrap();
        listen(&socket, 8).unwrap();
        TcpListener::from(socket)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_queue_of_a_listener_is_counted() {
        let listener = listen_tcp();
        assert_eq!(queue_length(&listener), Some(0));
        let address = listener.local_addr().unwrap();
        let _clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
        assert_eq!(queue_length(&listener), Some(3));
        listener.accept().unwrap();
        assert_eq!(queue_length(&listener), Some(2));
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(queue_length(&one), None);
    }

    /// A listener that somebody who shares it has set to blocking mode is set back before an attempt
    /// to accept that is likely to be in vain, so that no child hangs in accept.
    #[test]
    fn d06_a_listener_that_was_made_to_block_does_not() {
        let listener = listen_tcp();
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
        let listener = listen_tcp();
        block_briefly(&listener, Duration::from_millis(20)).unwrap();
        listener.set_nonblocking(false).unwrap();
        // Without the timeout this would wait for ever.
        let accepted = accept(&listener, Blocking::Allowed);
        assert!(matches!(accepted, Accepted::Nothing), "{accepted:?}");
    }
}
