//! How many connections a listening UNIX socket has queued and can queue, asked through sock_diag(7).
//! Changes nothing.

#[cfg(target_os = "linux")]
pub(crate) use linux::{queue_length, queue_limit};

#[cfg(not(target_os = "linux"))]
pub(crate) fn queue_length(_: &impl std::os::fd::AsFd) -> Option<u32> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn queue_limit(_: &impl std::os::fd::AsFd) -> Option<u32> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use nix::sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
            socket,
        },
        stat::fstat,
    };
    use std::os::fd::{AsFd, AsRawFd};

    /// linux/sock_diag.h, linux/unix_diag.h and linux/netlink.h.
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const UDIAG_SHOW_RQLEN: u32 = 0x10;
    const UNIX_DIAG_RQLEN: u16 = 4;
    const AF_UNIX: u8 = 1;
    /// The states that are asked for, as a set of bits: all.
    const ALL_STATES: u32 = u32::MAX;
    /// There is no cookie to compare.
    const NO_COOKIE: u64 = u64::MAX;

    /// The lengths of a netlink header, and of what a reply says before its attributes.
    const HEADER: usize = 16;
    const REPLY: usize = HEADER + 16;

    /// `None` for a socket that is not a UNIX socket, and where the kernel does not tell.
    pub(crate) fn queue_length(listener: &impl AsFd) -> Option<u32> {
        queue(listener).map(|[length, _]| length)
    }

    /// The same for how many can be queued: the kernel takes one more than that.
    pub(crate) fn queue_limit(listener: &impl AsFd) -> Option<u32> {
        queue(listener).map(|[_, limit]| limit)
    }

    /// The length of the queue and its limit.
    fn queue(listener: &impl AsFd) -> Option<[u32; 2]> {
        // The kernel knows sockets by the lower half of their inode number.
        let inode = fstat(listener).ok()?.st_ino as u32;
        let diag = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )
        .ok()?;
        let kernel = NetlinkAddr::new(0, 0);
        let (diag, none) = (diag.as_raw_fd(), MsgFlags::empty());
        sendto(diag, &request(inode), &kernel, none).ok()?;
        let mut reply = [0; 512];
        // The kernel answers before the call above returns.
        let length = recv(diag, &mut reply, MsgFlags::MSG_DONTWAIT).ok()?;
        queued(reply.get(..length)?)
    }

    fn request(inode: u32) -> Vec<u8> {
        let mut body = vec![AF_UNIX, 0, 0, 0];
        for number in [ALL_STATES, inode, UDIAG_SHOW_RQLEN] {
            body.extend(number.to_ne_bytes());
        }
        body.extend(NO_COOKIE.to_ne_bytes());
        let length = (HEADER + body.len()) as u32;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend(NLM_F_REQUEST.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        message
    }

    /// The two numbers of the attribute of a reply that tells of the queue.
    fn queued(reply: &[u8]) -> Option<[u32; 2]> {
        if short(reply, 4)? != SOCK_DIAG_BY_FAMILY {
            return None;
        }
        let mut attributes = reply.get(REPLY..)?;
        loop {
            let length = usize::from(short(attributes, 0)?);
            if short(attributes, 2)? == UNIX_DIAG_RQLEN {
                let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
                let (length, limit) = (attributes.get(4..8)?, attributes.get(8..12)?);
                return Some([number(length)?, number(limit)?]);
            }
            // Attributes begin at multiples of four. One of length zero would never end.
            attributes = attributes.get(length.max(1).next_multiple_of(4)..)?;
        }
    }

    fn short(bytes: &[u8], at: usize) -> Option<u16> {
        let two = bytes.get(at..at + 2)?;
        two.try_into().ok().map(u16::from_ne_bytes)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::{
            net::TcpListener,
            os::unix::net::{UnixListener, UnixStream},
        };

        #[test]
        fn the_queue_of_a_listener_is_counted() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("s");
            let listener = UnixListener::bind(&path).unwrap();
            if queue_length(&listener).is_none() {
                return eprintln!("skipped: this kernel has no sock_diag for UNIX sockets");
            }
            assert_eq!(queue_length(&listener), Some(0));
            nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(7).unwrap())
                .unwrap();
            assert_eq!(queue_limit(&listener), Some(7));
            let _clients = [(); 3].map(|()| UnixStream::connect(&path).unwrap());
            assert_eq!(queue_length(&listener), Some(3));
            listener.accept().unwrap();
            assert_eq!(queue_length(&listener), Some(2));
        }

        #[test]
        fn another_socket_has_no_such_queue() {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            assert_eq!(queue_length(&tcp), None);
            let file = tempfile::tempfile().unwrap();
            assert_eq!(queue_length(&file), None);
        }

        /// A reply that is cut short, or that is an error, or whose attributes have no length, is no
        /// number and no endless loop.
        #[test]
        fn a_reply_that_says_nothing_is_no_number() {
            let mut reply = vec![0; REPLY];
            reply[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
            assert_eq!(queued(&reply), None);
            reply.extend([0; 16]);
            assert_eq!(queued(&reply), None, "attributes without a length");
            for length in 0..reply.len() {
                assert_eq!(queued(&reply[..length]), None, "cut to {length}");
            }
            reply[REPLY..REPLY + 12].copy_from_slice(&[12, 0, 4, 0, 9, 0, 0, 0, 7, 0, 0, 0]);
            let expected = if cfg!(target_endian = "little") {
                Some([9, 7])
            } else {
                None
            };
            assert_eq!(queued(&reply), expected);
            reply[4..6].copy_from_slice(&2_u16.to_ne_bytes());
            assert_eq!(queued(&reply), None, "NLMSG_ERROR");
        }
    }
}
