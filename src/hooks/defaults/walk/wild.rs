//! Hooks that sometimes leave out a default.

use super::*;

/// Hooks that sometimes leave out a default, unless `behaved` is set.
pub(super) struct Wild {
    pub(super) random: WalkRandom,
    pub(super) behaved: bool,
}

impl Wild {
    fn obeys(&mut self) -> bool {
        self.behaved || !self.random.one_in(8)
    }
}

impl PreForkHooks for Wild {
    fn server_timeout(&mut self, monitor: &mut Monitor, child: ChildId) {
        if self.obeys() {
            defaults::server_timeout(self, monitor, child);
        }
    }
    fn server_timeout_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        if self.obeys() {
            defaults::server_timeout_busy(self, monitor, child);
        }
    }
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        if self.obeys() {
            defaults::server_ack(self, monitor, child);
        }
    }
    fn handler_forkoff(&mut self, monitor: &mut Monitor) {
        if self.obeys() {
            defaults::handler_forkoff(self, monitor);
        }
    }
    fn handler_server_fork(&mut self, monitor: &mut Monitor) {
        let again = 1 + usize::from(!self.obeys());
        (0..again).for_each(|_| defaults::handler_server_fork(self, monitor));
    }
    fn handler_server_closed(&mut self, monitor: &mut Monitor, child: ChildId) {
        if self.obeys() {
            defaults::handler_server_closed(self, monitor, child);
        }
    }
}
