//! New sockets that listen: bound, with a backlog, and with what connections inherit from them. Accepts
//! nothing.

#![allow(unsafe_code)]

use crate::core::{
    error::{Error, Operation},
    say::say,
};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt},
};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

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

pub(in crate::sys) fn stream_socket(family: AddressFamily) -> nix::Result<OwnedFd> {
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
