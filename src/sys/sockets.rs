//! Listening sockets, and the result of accept. Opens, binds and accepts; serves no client.

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
        self, AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, SockaddrLike, SockaddrStorage,
        sockopt,
    },
};
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

/// The result of an attempt to accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    Connection(Newcomer),
    /// The queue is empty, or another process has taken the connection.
    Nothing,
    /// The process or the system lacks a resource; this may pass.
    Exhausted(io::Error),
    /// A firewall forbids this connection, or a sandbox forbids all.
    Forbidden(io::Error),
    /// The socket cannot be accepted on.
    Broken(io::Error),
}

/// Whether an operation on a connection may block, for as long as the connection's timeouts allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Blocking {
    Allowed,
    Never,
}

/// Takes a connection from the queue, close-on-exec.
///
/// It is in non-blocking mode unless it may block, which is only for connections that [inherit a
/// timeout](block_briefly).
pub(crate) fn accept(listener: &impl AsRawFd, blocking: Blocking) -> Accepted {
    match try_accept(listener.as_raw_fd(), blocking) {
        Ok(newcomer) => {
            atfork::note_accepted(newcomer.stream.as_raw_fd(), listener.as_raw_fd());
            Accepted::Connection(newcomer)
        }
        Err(errno) => match errno {
            Errno::EAGAIN | Errno::EINTR => Accepted::Nothing,
            // accept(2) says: network errors that are already pending on the new connection are to
            // be treated as if there were none.
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

/// Makes attempts to accept non-blocking, and says whether they would have blocked. The mode
/// belongs to the socket, so any process that shares it can change it.
pub(crate) fn keep_nonblocking(listener: &impl AsFd) -> io::Result<bool> {
    let flags = OFlag::from_bits_retain(fcntl(listener, FcntlArg::F_GETFL)?);
    let blocks = !flags.contains(OFlag::O_NONBLOCK);
    if blocks {
        fcntl(listener, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    Ok(blocks)
}

/// Whether an attempt to accept would find something now, a connection or an error.
pub(crate) fn is_queued(listener: &impl AsFd) -> io::Result<bool> {
    let [queued] = poll_any(
        [(listener.as_fd(), PollFlags::POLLIN)],
        Some(Duration::ZERO),
    )?;
    Ok(queued)
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn try_accept(listener: libc::c_int, blocking: Blocking) -> nix::Result<Newcomer> {
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, blocking == Blocking::Never);
    accept::accept(listener, flags.bits())
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) fn try_accept(listener: libc::c_int, blocking: Blocking) -> nix::Result<Newcomer> {
    use nix::fcntl::FdFlag;
    let newcomer = accept::accept(listener)?;
    let fd = &newcomer.stream;
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // On other systems a connection may inherit the listener's mode.
    let mut flags = OFlag::empty();
    flags.set(OFlag::O_NONBLOCK, blocking == Blocking::Never);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(newcomer)
}

/// Makes blocking calls on `listener` fail with EAGAIN after `timeout`, accept(2) among them.
///
/// On Linux a TCP connection inherits this from its listener, at no cost of a call.
#[cfg(target_os = "linux")]
pub(crate) fn block_briefly(listener: &impl AsFd, timeout: Duration) -> io::Result<()> {
    use nix::sys::time::{TimeVal, TimeValLike};
    // OK because the number is in milliseconds.
    let timeout = TimeVal::microseconds(timeout.as_micros() as i64);
    socket::setsockopt(listener, sockopt::ReceiveTimeout, &timeout)?;
    Ok(socket::setsockopt(
        listener,
        sockopt::SendTimeout,
        &timeout,
    )?)
}

/// On other systems accept(2) may ignore the timeout.
#[cfg(not(target_os = "linux"))]
pub(crate) fn block_briefly(_: &impl AsFd, _: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes accept(2) block, in all processes that share the listener.
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

/// Copies what has arrived on a connection, and leaves it there to be read.
#[cfg(feature = "proxy-protocol")]
pub(crate) fn peek(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
    blocking: Blocking,
) -> io::Result<usize> {
    let flags = MsgFlags::MSG_PEEK | (flags(blocking) & MsgFlags::MSG_DONTWAIT);
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
        // send(2) is slightly cheaper than sendmsg(2).
        [part] => socket::send(socket, part, flags)?,
        _ => socket::sendmsg::<()>(socket, parts, &[], flags, None)?,
    })
}

/// Whether a socket still listens: any process that shares it can shut it down for all.
pub(crate) fn is_listening(listener: &impl AsFd) -> bool {
    socket::getsockopt(listener, sockopt::AcceptConn).unwrap_or(true)
}

/// Shuts a listening socket down, for all processes that have a copy.
pub(crate) fn shut_down(listener: &OwnedFd) {
    // OK to ignore: where a listening socket cannot be shut down, it ends with its last copy.
    let _ = socket::shutdown(listener.as_raw_fd(), Shutdown::Both);
}

/// Makes the kernel drop new connection attempts to a TCP listener, as if the packets had been
/// lost.
///
/// Queued connections stay. A new client tries again after a second, and then finds the socket
/// closed or the next server's. There is no gentler way: closing the socket resets the queued
/// connections.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn drop_new_connections(listener: &impl AsFd) -> io::Result<()> {
    /// The offset of the flags in a TCP header, at which a socket's filter starts to count.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const WHOLE: u32 = u32::MAX;
    let step = |code: u32, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, FLAGS),
        step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 1, SYN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, WHOLE),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the option takes a sock_fprog, whose program lives until the call has returned; the
    // kernel copies both.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn drop_new_connections(_: &impl AsFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A TCP socket bound to `address`, not listening yet, in non-blocking mode: a child must not hang
/// in accept because another child has taken the connection.
pub(crate) fn bind_tcp(address: SocketAddr, only_v6: bool) -> Result<OwnedFd, Error> {
    let failed =
        |operation| move |errno: Errno| Error::new(operation, address.to_string(), errno.into());
    let family = if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let socket = stream_socket(family).map_err(failed(Operation::Socket))?;
    // Connections of an earlier server that linger in TIME_WAIT must not block the port.
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true).map_err(failed(Operation::Bind))?;
    if address.is_ipv6() && only_v6 {
        socket::setsockopt(&socket, sockopt::Ipv6V6Only, &true).map_err(failed(Operation::Bind))?;
    }
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .map_err(failed(Operation::Bind))?;
    Ok(socket)
}

/// Whether an error of [`bind_tcp`] says that this system lacks the address, so that the name's
/// next address may work. An address in use is different: the next address would bypass the server
/// that uses the first.
pub(crate) fn is_missing_address(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT))
}

/// Sends data written to a connection at once (TCP_NODELAY). Connections inherit it from their
/// listener.
pub(crate) fn send_at_once(socket: &impl AsFd) -> io::Result<()> {
    Ok(socket::setsockopt(socket, sockopt::TcpNoDelay, &true)?)
}

/// Lets the kernel queue a connection only when its client has sent something, or after `seconds`.
#[cfg(target_os = "linux")]
pub(crate) fn defer_accept(listener: &impl AsFd, seconds: u32) -> io::Result<()> {
    // SAFETY: the option takes a number of four bytes, which lives across the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// Other systems queue each connection at once.
#[cfg(not(target_os = "linux"))]
pub(crate) fn defer_accept(_: &impl AsFd, _: u32) -> io::Result<()> {
    Ok(())
}

/// Makes the kernel probe a silent peer: after `idle`, then each `interval`, `count` times. Zero
/// keeps the system's value. Connections inherit this from their listener.
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

/// On other systems the intervals stay the system's.
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

/// Whether bytes have arrived at a connection that nobody has read.
pub(crate) fn is_unread(connection: &impl AsRawFd) -> bool {
    let mut byte = [0];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    socket::recv(connection.as_raw_fd(), &mut byte, flags).is_ok_and(|count| count > 0)
}

/// Whether `socket` is a stream socket of this family.
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
    tcp_address_in(&address)
}

pub(super) fn tcp_address_in(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    })
}

/// Makes attempts to accept non-blocking, in all processes that share the listener.
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
    // Not nix's wrapper, which refuses backlogs above the C library's SOMAXCONN. That number is
    // fixed at compile time (128 with musl), while the kernel's limit is a system setting. The
    // kernel takes a negative number for a huge one.
    // SAFETY: the descriptor is open, since it is borrowed; no memory is passed.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), backlog.max(0)) }).map(drop)
}

/// The limit to which the kernel silently cuts a backlog.
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

    /// A process that shares a listener may set it to blocking mode. It is set back before an
    /// attempt to accept that probably finds nothing, so that no child hangs in accept.
    #[test]
    fn d06_a_listener_that_was_made_to_block_does_not() {
        let listener = listen_tcp();
        assert!(!keep_nonblocking(&listener).unwrap());
        let shared = listener.try_clone().unwrap();
        shared.set_nonblocking(false).unwrap();
        // Without the call above the next line would wait forever.
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

    /// Listens with that backlog at a UNIX socket without a name in the file system. Returns how
    /// many of `clients` find room there.
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

    /// The kernel queues one connection more than asked for. It cuts a backlog that is too large,
    /// and takes a negative number for one.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_backlog_is_what_was_asked_for_and_never_negative() {
        assert_eq!(room(3, 20), 4);
        assert_eq!(room(0, 20), 1);
        assert_eq!(room(-1, 20), 1);
        assert_eq!(room(i32::MIN, 20), 1);
        assert_eq!(room(i32::MAX, 20), 20);
    }

    /// Where connections inherit a timeout from the listener, accept(2) obeys it too.
    #[test]
    #[cfg(target_os = "linux")]
    fn d06_an_attempt_that_blocks_ends_with_the_timeout_that_connections_inherit() {
        let listener = listen_tcp();
        block_briefly(&listener, Duration::from_millis(20)).unwrap();
        listener.set_nonblocking(false).unwrap();
        // Without the timeout the next line would wait forever.
        let accepted = accept(&listener, Blocking::Allowed);
        assert!(matches!(accepted, Accepted::Nothing), "{accepted:?}");
    }
}
