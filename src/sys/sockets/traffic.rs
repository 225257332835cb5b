//! Bytes over a connection: read once, written once, looked at. Waits only if it may.

use super::Blocking;
use nix::sys::socket::{self, MsgFlags};
use std::{
    io::{self, IoSlice},
    os::fd::AsRawFd,
};

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

/// Whether bytes have arrived at a connection that were not read yet.
pub(crate) fn is_unread(connection: &impl AsRawFd) -> bool {
    let mut byte = [0];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    socket::recv(connection.as_raw_fd(), &mut byte, flags).is_ok_and(|count| count > 0)
}
