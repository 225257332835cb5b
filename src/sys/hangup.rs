//! Whether the other end of a connection is still there, as far as the kernel knows without a read.
//! Takes nothing out of the socket.

#![allow(unsafe_code)]

use nix::libc;
use std::os::fd::AsRawFd;

/// How much of a connection has ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Hangup {
    /// Nothing has ended, as far as the kernel knows.
    None,
    /// The other end sends nothing more. It may still read.
    Half,
    /// The other end has reset the connection, or both directions have ended.
    Whole,
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const HALF: libc::c_short = libc::POLLRDHUP;
/// On other systems only a read would tell.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const HALF: libc::c_short = 0;

/// Checks `stream` in one system call. A failed check reports nothing.
pub(crate) fn look(stream: &impl AsRawFd) -> Hangup {
    // (nix knows no POLLRDHUP.)
    let mut asked = libc::pollfd {
        fd: stream.as_raw_fd(),
        events: HALF,
        revents: 0,
    };
    // SAFETY: one pollfd, which lives across the call.
    unsafe { libc::poll(&raw mut asked, 1, 0) };
    if asked.revents & (libc::POLLERR | libc::POLLHUP) != 0 {
        Hangup::Whole
    } else if asked.revents & HALF != 0 {
        Hangup::Half
    } else {
        Hangup::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        net::{Shutdown, TcpListener, TcpStream},
        os::unix::net::UnixStream,
    };

    /// A connection that ends in one direction, and then in both.
    #[test]
    fn a_socket_pair_hangs_up_by_halves() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(look(&ours), Hangup::None);
        theirs.write_all(b"unread").unwrap();
        assert_eq!(look(&ours), Hangup::None);
        theirs.shutdown(Shutdown::Write).unwrap();
        assert_eq!(look(&ours), Hangup::Half);
        drop(theirs);
        assert_eq!(look(&ours), Hangup::Whole);
    }

    /// A reset ends both directions, even while input is unread.
    #[test]
    fn a_reset_is_the_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut ours, _) = listener.accept().unwrap();
        theirs.write_all(b"unread").unwrap();
        // A socket that is closed with unread input sends a reset.
        ours.write_all(b"unread").unwrap();
        assert_eq!(theirs.peek(&mut [0]).unwrap(), 1);
        drop(theirs);
        // Over the loopback device the reset has arrived when the close returns.
        assert_eq!(look(&ours), Hangup::Whole);
    }
}
