//! The child that is kept for the time when all others are busy: whether there is to be one, and
//! when it goes. Serves nobody.

use super::*;

/// The reserved child.
impl Monitor {
    /// Whether one child is to be kept for the time when all others are busy.
    pub(super) fn wants_reserve(&self) -> bool {
        self.sheds && self.attributes.reserved_shedder && self.attributes.max_clients > 1
    }

    /// Why there is no reserved child though one is asked for, if that is so.
    pub(crate) fn why_no_reserve(&self) -> Option<&'static str> {
        if !self.sheds {
            Some(
                "it needs a max_queue_age, and sockets that tell how old connections are (TCP, on \
                 Linux)",
            )
        } else if !self.wants_reserve() {
            Some("with max_clients 1 nobody would serve")
        } else {
            None
        }
    }

    /// Whether the child that is forked next is the reserved one. It finds that out by itself, in its
    /// copy of the monitor.
    pub(crate) fn forks_reserve(&self) -> bool {
        self.wants_reserve() && pool::is_reserve_due(self.pool.census(), &self.attributes)
    }

    /// How many children can be busy: all but the reserved one.
    pub(crate) fn max_busy(&self) -> usize {
        self.attributes.max_clients - usize::from(self.wants_reserve())
    }

    /// Tells the reserved child to stop if it is of no use any more, or is to be replaced: it has
    /// no client, so no client waits for its successor.
    pub(super) fn release_reserve(&mut self) {
        let Some(reserved) = self.pool.reserved() else {
            return;
        };
        let unwanted = !self.wants_reserve();
        let reason = if reserved.epoch != self.replacement.epoch() {
            Reason::Reloaded
        } else if reserved.is_due() {
            Reason::Recycled
        } else if unwanted || pool::is_reserve_idle(self.pool.census(), &self.attributes) {
            Reason::Culled
        } else {
            return;
        };
        self.stop(reserved.id, reason);
    }
}
