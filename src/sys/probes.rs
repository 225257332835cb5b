//! Static probes for tracers such as bpftrace (feature `usdt`): each is one nop, and a note in the
//! program file that says where it is and where its arguments are. Without the feature nothing. Reads
//! nothing and decides nothing.

// The macro of the crate `probe` has an `unsafe` within, around that nop.
#![allow(unsafe_code)]

/// Makes a function for each probe: documentation, name of the function, name of the probe,
/// arguments.
macro_rules! probes {
    ($(
        $(#[doc = $doc:literal])*
        $function:ident => $probe:ident($($argument:ident: $type:ty),*);
    )*) => {$(
        $(#[doc = $doc])*
        #[inline]
        pub(crate) fn $function($($argument: $type),*) {
            #[cfg(feature = "usdt")]
            ::probe::probe!(prefork, $probe, $($argument),*);
            #[cfg(not(feature = "usdt"))]
            let _ = ($($argument,)*);
        }
    )*};
}

probes! {
    /// In the parent: a child was forked.
    forked => fork(pid: u32, serial: u32);
    /// In the parent: a child has said its first word, so long after its fork.
    ready => ready(pid: u32, serial: u32, nanoseconds: u64);
    /// In the child: it has taken a connection. The address is that of IPv4 in the order of the
    /// network, 0 for others.
    busy => busy(pid: u32, serial: u32, address: u32, port: u16);
    /// In the child: no connection is in hand any more.
    free => free(pid: u32, serial: u32);
    /// In the parent: a child has ended, with this code, or by this signal as a negative number.
    exited => exit(pid: u32, serial: u32, status: i32, connections: u64);
    /// In the child: a connection is not served; the number of the reason is that in `Refusal::ALL`.
    shed => shed(pid: u32, serial: u32, reason: u32, queued_nanoseconds: u64);
}
