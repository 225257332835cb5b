//! Which process connected to a UNIX socket, as recorded by the kernel. Trusts nothing that the
//! client has sent.

use std::{io, os::fd::AsFd};

/// Process id (0 if it is not visible from here), user id and group id of the other end.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn of_peer(stream: &impl AsFd) -> io::Result<(u32, u32, u32)> {
    use nix::sys::socket::{getsockopt, sockopt};
    let found = getsockopt(stream, sockopt::PeerCredentials)?;
    Ok((found.pid().cast_unsigned(), found.uid(), found.gid()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn of_peer(_: &impl AsFd) -> io::Result<(u32, u32, u32)> {
    Err(io::ErrorKind::Unsupported.into())
}
