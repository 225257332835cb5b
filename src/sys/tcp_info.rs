//! What the kernel knows of a TCP socket (TCP_INFO): how many connections a listener has queued, and
//! how long a connection was queued. Changes nothing.

#[cfg(target_os = "linux")]
pub(crate) use linux::{queue_length, queue_limit, time_in_queue};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{queue_length, queue_limit, time_in_queue};

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod linux {
    use nix::{errno::Errno, libc};
    use std::{
        mem,
        os::fd::{AsFd, AsRawFd},
        time::Duration,
    };

    /// How many connections a listening TCP socket has queued for accept.
    pub(crate) fn queue_length(listener: &impl AsFd) -> Option<u32> {
        // For a listener this field is the length of its queue.
        read(listener).map(|info| info.tcpi_unacked)
    }

    /// How many connections a listening TCP socket can queue.
    pub(crate) fn queue_limit(listener: &impl AsFd) -> Option<u32> {
        // For a listener this field is the length that the queue may have.
        read(listener).map(|info| info.tcpi_sacked)
    }

    /// How long a connection that was just accepted had been queued.
    ///
    /// The kernel sets the time of the last data sent when the handshake is complete, which is when
    /// it queues the connection, and nothing has been sent since. It counts in ticks, mostly of 4
    /// ms. (The times of what was received say less: they begin again with what the client sends.)
    pub(crate) fn time_in_queue(connection: &impl AsFd) -> Option<Duration> {
        let milliseconds = read(connection)?.tcpi_last_data_sent;
        Some(Duration::from_millis(milliseconds.into()))
    }

    /// `None` for a socket of another kind, and where the kernel tells less than is asked here.
    fn read(socket: &impl AsFd) -> Option<libc::tcp_info> {
        const NEEDED: usize =
            mem::offset_of!(libc::tcp_info, tcpi_last_data_sent) + size_of::<u32>();
        // SAFETY: all bytes zero are a valid value of this structure, which consists of numbers.
        let mut info: libc::tcp_info = unsafe { mem::zeroed() };
        let mut length = size_of_val(&info) as libc::socklen_t;
        // SAFETY: the descriptor is open, since it is borrowed; the kernel writes at most `length`
        // bytes, which is the size of `info`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        (Errno::result(result).is_ok() && length as usize >= NEEDED).then_some(info)
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::{os::fd::AsFd, time::Duration};

    pub(crate) fn queue_length(_: &impl AsFd) -> Option<u32> {
        None
    }

    pub(crate) fn queue_limit(_: &impl AsFd) -> Option<u32> {
        None
    }

    pub(crate) fn time_in_queue(_: &impl AsFd) -> Option<Duration> {
        None
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests;
