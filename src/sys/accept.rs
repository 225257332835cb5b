//! accept(2) together with the client's address. One call, so the address is known even if the
//! client has reset the connection since. Does not interpret errors; see `sockets`.

#![allow(unsafe_code)]

use nix::{errno::Errno, libc, sys::socket::SockaddrStorage};
use std::{
    mem,
    net::{IpAddr, SocketAddr},
    os::fd::{FromRawFd, OwnedFd},
    time::Duration,
};

/// A connection taken from the queue, and the address of its client.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) stream: OwnedFd,
    /// `None` for a client without an internet address. An IPv4 address within IPv6 becomes IPv4.
    pub(crate) remote: Option<SocketAddr>,
    /// How long it was queued; `None` unless that was asked for and is known.
    pub(crate) queued: Option<Duration>,
}

/// Takes a connection, with `flags` as for accept4(2), on systems that have it.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn accept(listener: libc::c_int, flags: libc::c_int) -> nix::Result<Newcomer> {
    call(|address, length| {
        // SAFETY: `address` has room for `length` bytes, and both live across the call.
        unsafe { libc::accept4(listener, address, length, flags) }
    })
}

/// Takes a connection.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) fn accept(listener: libc::c_int) -> nix::Result<Newcomer> {
    call(|address, length| {
        // SAFETY: `address` has room for `length` bytes, and both live across the call.
        unsafe { libc::accept(listener, address, length) }
    })
}

fn call(
    accept: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int,
) -> nix::Result<Newcomer> {
    // SAFETY: all zeroes is a valid sockaddr_in6, of no family.
    let mut address: libc::sockaddr_in6 = unsafe { mem::zeroed() };
    // OK because the size is 28. The address of a UNIX client is cut to that; its family is not.
    let mut length = mem::size_of_val(&address) as libc::socklen_t;
    let fd = Errno::result(accept((&raw mut address).cast(), &raw mut length))?;
    // SAFETY: the kernel has just made this descriptor for us; it has no other owner.
    let stream = unsafe { OwnedFd::from_raw_fd(fd) };
    let remote = internet_address(&address, length);
    Ok(Newcomer {
        stream,
        remote,
        queued: None,
    })
}

/// Room for the longest internet address, and so for the shorter one.
fn internet_address(address: &libc::sockaddr_in6, length: libc::socklen_t) -> Option<SocketAddr> {
    use nix::sys::socket::SockaddrLike;
    let family = i32::from(address.sin6_family);
    if family != libc::AF_INET && family != libc::AF_INET6 {
        return None;
    }
    // SAFETY: `address` is a sockaddr of `length` bytes that the kernel has written.
    let storage = unsafe { SockaddrStorage::from_raw((&raw const *address).cast(), Some(length)) }?;
    let v4 = storage
        .as_sockaddr_in()
        .map(|&v4| SocketAddr::V4(v4.into()));
    v4.or_else(|| {
        storage
            .as_sockaddr_in6()
            .map(|&v6| SocketAddr::V6(v6.into()))
    })
    .map(canonical)
}

/// The client's address, as IPv4 where the client is. On a socket of both families the kernel
/// reports an IPv4 client by an IPv6 address that contains it. A rule about addresses holds on
/// every socket.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        // The IPv6 address keeps its scope.
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 address within IPv6 becomes IPv4 and keeps its port; other addresses stay the same.
    #[test]
    fn an_address_is_that_of_its_own_family() {
        let cases = [
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("[::ffff:10.1.2.3]:65535", "10.1.2.3:65535"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:1", "[::1]:1"),
            // A "compatible" address, not a mapped one: no IPv4 client has it.
            ("[::127.0.0.1]:1", "[::127.0.0.1]:1"),
            ("[fe80::1%3]:1", "[fe80::1%3]:1"),
        ];
        for (given, right) in cases {
            let given = canonical(given.parse().unwrap());
            assert_eq!(given, right.parse().unwrap());
        }
    }
}
