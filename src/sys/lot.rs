//! Descriptors without a number: sent into a socket of our own and not received, they stay open, the
//! kernel goes on watching them for whoever had asked, and a child that is forked meanwhile inherits
//! none of them. Sends and receives; decides nothing.

#![allow(unsafe_code)]

use super::fd_registry::Ours;
use nix::libc;
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicUsize, Ordering},
};

/// What one message holds at the most: SCM_MAX_FD.
pub(super) const ROOM: usize = 253;

static IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);

/// How many descriptors of this process are open without a number. They will need one again.
pub(super) fn in_flight() -> usize {
    IN_FLIGHT.load(Ordering::Relaxed)
}

/// In a new child: what is in flight is its parent's.
pub(super) fn forget_in_child() {
    IN_FLIGHT.store(0, Ordering::Relaxed);
}

/// The descriptors of one message.
#[derive(Debug)]
pub(super) struct Lot {
    socket: Ours<OwnedFd>,
    count: usize,
}

impl Drop for Lot {
    fn drop(&mut self) {
        IN_FLIGHT.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Lot {
    /// Sends off at most [`ROOM`] descriptors. They stay open under their numbers as well, until the
    /// caller closes those.
    #[cfg(target_os = "linux")]
    pub(super) fn send(fds: &[RawFd]) -> io::Result<Self> {
        use nix::sys::socket::{
            AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
        };
        use std::io::IoSlice;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        let (bytes, rights) = ([IoSlice::new(b"!")], [ControlMessage::ScmRights(fds)]);
        sendmsg::<()>(near.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None)?;
        // What was sent stays in the queue of the far end when the near one is closed.
        let count = fds.len();
        IN_FLIGHT.fetch_add(count, Ordering::Relaxed);
        let socket = Ours::parents(far);
        Ok(Self { socket, count })
    }

    /// Elsewhere whoever watches a descriptor forgets it when its number is closed.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn send(_fds: &[RawFd]) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Receives them, in the order in which they were sent, under new numbers. Where the table of
    /// descriptors has no room for all, the last ones are lost.
    pub(super) fn receive(self, received: &mut Vec<OwnedFd>) -> io::Result<()> {
        // Of whole words, as the kernel's headers in it have to be aligned.
        let mut space = [0_u64; 8 + ROOM / 2];
        let mut byte = [0_u8];
        let mut part = libc::iovec {
            iov_base: byte.as_mut_ptr().cast(),
            iov_len: byte.len(),
        };
        // SAFETY: all bytes zero are a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = space.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&space) as _;
        // Where it cannot be had with the call, a program that is exec'd just now would inherit them;
        // there nothing is sent.
        #[cfg(target_os = "linux")]
        let flags = libc::MSG_CMSG_CLOEXEC;
        #[cfg(not(target_os = "linux"))]
        let flags = 0;
        loop {
            // SAFETY: the message points at one byte and at `space`, with their lengths; both live across
            // the call and the reading below.
            let count = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags) };
            if count >= 0 {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        // SAFETY: the kernel has filled in the message.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        if header.is_null() {
            return Ok(());
        }
        // SAFETY: not null, so it points at a header in `space`; if it is of that type, its data follow: as
        // many descriptors as its length says, made for us by the kernel and owned by nobody else.
        // (nix's wrapper is not used: it keeps the descriptors of a message that was cut short.)
        unsafe {
            if (*header).cmsg_type != libc::SCM_RIGHTS {
                return Ok(());
            }
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let fds = 0..bytes / size_of::<RawFd>();
            received.extend(fds.map(|at| OwnedFd::from_raw_fd(data.add(at).read_unaligned())));
        }
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Write},
    };

    #[test]
    fn what_was_sent_comes_back_in_order_though_its_number_was_closed() {
        let (readers, mut writers): (Vec<_>, Vec<_>) =
            (0..3).map(|_| io::pipe().expect("a pipe")).unzip();
        let numbers = readers.iter().map(AsRawFd::as_raw_fd).cycle();
        let fds: Vec<_> = numbers.take(ROOM).collect();
        let before = in_flight();
        let lot = Lot::send(&fds).expect("sent");
        assert_eq!(in_flight(), before + ROOM);
        drop(readers);
        for number in 0..ROOM {
            // With nobody to read it, this would fail.
            writers[number % 3]
                .write_all(&[number as u8])
                .expect("written");
        }
        let mut received = Vec::new();
        lot.receive(&mut received).expect("received");
        assert_eq!((received.len(), in_flight()), (ROOM, before));
        for (number, reader) in (0..).zip(received) {
            let mut byte = [0];
            File::from(reader).read_exact(&mut byte).expect("read");
            assert_eq!(byte, [number]);
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_not_sent() {
        let (reader, _writer) = io::pipe().expect("a pipe");
        let sent = Lot::send(&[reader.as_raw_fd(); ROOM + 1]);
        assert_eq!(
            sent.expect_err("too many").raw_os_error(),
            Some(libc::EINVAL)
        );
    }
}
