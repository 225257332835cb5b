//! The socket from a parent to its holder: a message a step, with the pipes of a child that is about
//! to be forked. Never blocks, and allocates nothing.

#![allow(unsafe_code)]

use crate::core::child::ChildId;
use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
};
use std::{
    io, mem,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr,
};

/// No descriptor.
pub(super) const NONE: RawFd = -1;

/// How many descriptors a message can have.
pub(super) const PIPES: usize = 3;

/// The descriptors of one message: the parent's ends of a child's pipes.
pub(super) type Pipes = [RawFd; PIPES];

/// What a parent says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Message {
    /// Keep the pipes of this child.
    Keep(ChildId),
    /// Close them.
    Drop(ChildId),
    /// The children are to see that their parent leaves.
    EndDeathWatch,
    /// Keep these for the next program.
    Hand(Part),
    /// Close them: there is no upgrade.
    CallOff,
    /// The program before this one is not needed any more.
    Proved,
}

/// A part of the descriptors that are handed over for an upgrade.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Part {
    /// The number of the attempt.
    pub(super) attempt: u32,
    /// The index of the first.
    pub(super) first: u32,
    pub(super) count: u32,
}

/// The holder's end and the parent's.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

const WORDS: usize = 4;

impl Message {
    fn words(self) -> [u32; WORDS] {
        match self {
            // OK to cast: a slot is a number of 32 bits.
            Self::Keep(child) => [1, child.slot() as u32, child.serial(), 0],
            Self::Drop(child) => [2, child.slot() as u32, child.serial(), 0],
            Self::EndDeathWatch => [3, 0, 0, 0],
            Self::Hand(part) => [4, part.attempt, part.first, part.count],
            Self::CallOff => [5, 0, 0, 0],
            Self::Proved => [6, 0, 0, 0],
        }
    }

    /// Whether the parent waits for the holder, or may have taken a wake-up that was for something else.
    pub(super) fn wants_answer(self) -> bool {
        matches!(self, Self::Hand(..) | Self::CallOff)
    }

    fn read(words: [u32; WORDS]) -> Option<Self> {
        match words {
            [1, slot, serial, _] => Some(Self::Keep(ChildId::new(slot, serial))),
            [2, slot, serial, _] => Some(Self::Drop(ChildId::new(slot, serial))),
            [3, ..] => Some(Self::EndDeathWatch),
            [4, attempt, first, count] => Some(Self::Hand(Part {
                attempt,
                first,
                count,
            })),
            [5, ..] => Some(Self::CallOff),
            [6, ..] => Some(Self::Proved),
            _ => None,
        }
    }
}

/// Room for the header of one control message with three descriptors.
#[repr(C, align(8))]
struct Control([u8; 64]);

const DESCRIPTORS: usize = size_of::<Pipes>();
// SAFETY: a computation on a number.
const _: () = assert!(unsafe { libc::CMSG_SPACE(DESCRIPTORS as u32) } as usize <= 64);

/// Says something to the holder. Fails rather than wait.
pub(super) fn send(channel: &OwnedFd, message: Message, pipes: &[RawFd]) -> io::Result<()> {
    let mut words = message.words();
    let mut part = libc::iovec {
        iov_base: words.as_mut_ptr().cast(),
        iov_len: size_of_val(&words),
    };
    let mut control = Control([0; 64]);
    let mut header = empty_header(&mut part);
    if !pipes.is_empty() {
        attach(&mut header, &mut control, pipes);
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: the header leads to one part, and to control data that `attach` has filled in; all
        // of them live across the call.
        let sent = unsafe { libc::sendmsg(channel.as_raw_fd(), &raw const header, flags) };
        match Errno::result(sent) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Puts descriptors, three at the most, into a message.
fn attach(header: &mut libc::msghdr, control: &mut Control, pipes: &[RawFd]) {
    // OK to cast: there are three at the most.
    let length = size_of_val(pipes) as u32;
    header.msg_control = ptr::from_mut(control).cast();
    // SAFETY: computations on a number. The room suffices for three, as is checked above, and its
    // alignment is that of a control message's header.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(length) as _;
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(length) as _;
        let data = libc::CMSG_DATA(first).cast::<RawFd>();
        data.copy_from_nonoverlapping(pipes.as_ptr(), pipes.len());
    }
}

/// The next message, if one has come. What cannot be understood is left out.
pub(super) fn receive(channel: &OwnedFd) -> Option<(Message, Pipes)> {
    loop {
        match try_receive(channel) {
            Ok((words, pipes)) => match Message::read(words) {
                Some(message) => return Some((message, pipes)),
                None => pipes.into_iter().for_each(close),
            },
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

fn try_receive(channel: &OwnedFd) -> Result<([u32; WORDS], Pipes), Errno> {
    let mut words = [0; WORDS];
    let mut part = libc::iovec {
        iov_base: words.as_mut_ptr().cast(),
        iov_len: size_of_val(&words),
    };
    let mut control = Control([0; 64]);
    let mut header = empty_header(&mut part);
    header.msg_control = ptr::from_mut(&mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header leads to one part and to room for control data, which live across the call.
    let received = unsafe { libc::recvmsg(channel.as_raw_fd(), &raw mut header, flags) };
    match Errno::result(received)? {
        // The other end is closed.
        0 => Err(Errno::EPIPE),
        _ => Ok((words, pipes_of(&header))),
    }
}

/// The descriptors of a message; those that did not fit were closed by the kernel.
fn pipes_of(header: &libc::msghdr) -> Pipes {
    let mut pipes = [NONE; PIPES];
    // SAFETY: the kernel has filled in the control data, whose length the header tells.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        if !first.is_null() && (*first).cmsg_type == libc::SCM_RIGHTS {
            let length = (*first).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let count = (length / size_of::<RawFd>()).min(pipes.len());
            let data = libc::CMSG_DATA(first).cast::<RawFd>();
            data.copy_to_nonoverlapping(pipes.as_mut_ptr(), count);
        }
    }
    pipes
}

fn empty_header(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all bytes zero are a valid header.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = ptr::from_mut(part);
    header.msg_iovlen = 1;
    header
}

/// Wakes the parent. It has been woken already if there is no room.
pub(super) fn wake(channel: &OwnedFd) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: one byte of a static.
    unsafe { libc::send(channel.as_raw_fd(), b"!".as_ptr().cast(), 1, flags) };
}

/// In the parent: takes all wake-ups. False if the holder is gone.
pub(super) fn drain(channel: &OwnedFd) -> bool {
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte, which lives across the call.
        let taken = unsafe {
            let byte = (&raw mut byte).cast();
            libc::recv(channel.as_raw_fd(), byte, 1, libc::MSG_DONTWAIT)
        };
        match taken {
            1.. => {}
            0 => return false,
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Errno::last() != Errno::ECONNRESET,
        }
    }
}

pub(super) fn close(fd: RawFd) {
    if fd != NONE {
        // SAFETY: it came in a message, and has no other owner.
        unsafe { libc::close(fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Write, pipe},
        os::fd::FromRawFd,
    };

    #[test]
    fn messages_come_in_order_and_pipes_with_them() {
        let (holder, parent) = pair().unwrap();
        let child = ChildId::new(3, 7);
        let (read, mut write) = pipe().unwrap();
        assert_eq!(receive(&holder), None);
        send(&parent, Message::Keep(child), &[read.as_raw_fd()]).unwrap();
        let others = [
            Message::Drop(child),
            Message::EndDeathWatch,
            Message::Hand(Part {
                attempt: 8,
                first: 9,
                count: 2,
            }),
            Message::CallOff,
            Message::Proved,
        ];
        for message in others {
            send(&parent, message, &[]).unwrap();
        }
        drop((parent, read));
        let Some((Message::Keep(found), [fd, NONE, NONE])) = receive(&holder) else {
            panic!("no pipe");
        };
        assert_eq!(found, child);
        write.write_all(b"x").unwrap();
        // SAFETY: it has just come.
        let mut kept = unsafe { File::from_raw_fd(fd) };
        let mut byte = [0];
        kept.read_exact(&mut byte).unwrap();
        for message in others {
            assert_eq!(receive(&holder), Some((message, [NONE; 3])));
        }
        assert_eq!(receive(&holder), None, "the parent is gone");
    }

    #[test]
    fn nobody_blocks_a_parent_and_the_end_of_the_holder_is_seen() {
        let (holder, parent) = pair().unwrap();
        let child = ChildId::new(3, 7);
        let mut sent = 0;
        let error = loop {
            match send(&parent, Message::Drop(child), &[]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(
            sent > 64 && error.kind() == io::ErrorKind::WouldBlock,
            "{error}"
        );
        (0..100_000).for_each(|_| wake(&holder));
        assert!(drain(&parent) && drain(&parent));
        drop(holder);
        assert!(!drain(&parent));
    }
}
