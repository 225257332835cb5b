//! The end of a socket that listens: it refuses new clients, then it closes for all processes.

#![allow(unsafe_code)]

use nix::sys::socket::{self, Shutdown, sockopt};
#[cfg(any(target_os = "linux", target_os = "android"))]
use nix::{errno::Errno, libc};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

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
