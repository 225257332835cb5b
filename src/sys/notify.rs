//! The socket and the variables by which systemd wants to be told how a service is, sd_notify(3) by
//! hand. Sends and never waits; knows no message.

#![allow(unsafe_code)]

use super::{limits, unix_socket};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, socket};
use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::AsRawFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::PathBuf,
};

const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The values of NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which are removed from the environment:
/// children, and programs that the parent runs, must not speak for it. In a program with several threads
/// they stay, since another thread may be reading the environment.
pub(crate) fn take_variables() -> [Option<OsString>; 3] {
    let values = VARIABLES.map(env::var_os);
    if limits::has_one_thread() {
        for variable in VARIABLES {
            // SAFETY: there is one thread, so none reads or writes the environment meanwhile.
            unsafe { env::remove_var(variable) };
        }
    }
    values
}

/// Where messages go. No descriptor is kept, so no child inherits one.
#[derive(Clone, Debug)]
pub(crate) struct NotifySocket(UnixAddr);

impl NotifySocket {
    /// A path, or an abstract name after an `@`.
    pub(crate) fn at(name: &OsStr) -> io::Result<Self> {
        let mut path = name.as_bytes().to_owned();
        match path.first_mut() {
            Some(b'/') => {}
            Some(at @ b'@') => *at = 0,
            _ => {
                let reason = "neither a path from the root nor an abstract name";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
        }
        let path = PathBuf::from(OsString::from_vec(path));
        unix_socket::address(&path).map(Self)
    }

    /// Sends one message, or fails at once: with `WouldBlock` if the receiver has too many unread.
    pub(crate) fn send(&self, message: &str) -> io::Result<()> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        let (fd, bytes) = (socket.as_raw_fd(), message.as_bytes());
        sendto(fd, bytes, &self.0, MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }
}
