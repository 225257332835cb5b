//! Listening sockets: what accept finds on them, whether it blocks, what they are. The files below open
//! and close them, and move bytes over connections. Serves no client.

mod closing;
mod opening;
#[cfg(test)]
mod tests;
mod traffic;

pub(in crate::sys) use self::opening::stream_socket;
#[cfg(feature = "proxy-protocol")]
pub(crate) use self::traffic::peek;
pub(crate) use self::{
    closing::{drop_new_connections, is_listening, shut_down},
    opening::{bind_tcp, defer_accept, is_missing_address, keep_alive, listen, send_at_once},
    traffic::{is_unread, receive, send},
};

use super::{
    accept::{self, Newcomer},
    atfork,
    waiter::poll_any,
};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    poll::PollFlags,
    sys::socket::{
        self, AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, sockopt,
    },
};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
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

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet,
    Unix,
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
