//! What may block briefly, where that saves system calls: accepting, and operations on connections. Sets
//! options of sockets that the server has opened itself, and of no others.

use crate::{core::accept::BRIEFLY, listeners::open::OpenSockets, sys::sockets};
use std::time::Duration;

/// What may block for [`BRIEFLY`] on the sockets that were opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timing {
    /// How long operations on connections may block: see `Conn`.
    pub(super) first_wait: Option<Duration>,
    /// Accepting, so that children can wait there.
    pub(super) blocks: bool,
}

impl Timing {
    /// Lets accepting and connections block briefly. Not on sockets that the program or a service
    /// manager has opened: their options belong to their owner.
    pub(super) fn of(sockets: &OpenSockets, passes_timeouts_on: bool) -> Self {
        let mut timing = Self::default();
        if !sockets.are_its_own() {
            return timing;
        }
        if passes_timeouts_on {
            // If one socket refuses the timeout, no connection blocks.
            let mut all = sockets.iter();
            let all_can = all.all(|socket| sockets::block_briefly(socket, BRIEFLY).is_ok());
            timing.first_wait = all_can.then_some(BRIEFLY);
        }
        let mut all = sockets.iter();
        if let (Some(only), None) = (all.next(), all.next()) {
            timing.blocks =
                sockets::block_briefly(only, BRIEFLY).is_ok() && sockets::block(only).is_ok();
        }
        timing
    }

    /// Sets the timeout of the sockets again: a child may have removed it, so that others wait in
    /// accept(2) forever. The stop signal interrupts that wait, and the next one has the timeout.
    pub(super) fn restore(&self, sockets: &OpenSockets) {
        if self.blocks {
            for socket in sockets.iter() {
                // OK to ignore: it could be set before, so it can be now.
                let _ = sockets::block_briefly(socket, BRIEFLY);
            }
        }
    }
}
