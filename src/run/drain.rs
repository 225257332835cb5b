//! The listeners in a shutdown: new clients are refused, the children serve the queued clients, or a
//! last child that is forked for them, then the listeners are closed in all processes.
//! `core/draining.rs` decides when; this file tells the server object.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::draining::{DrainStep, DrainView, Takers},
    hooks::{ChildServer, PreForkHooks},
};

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Begins the drain. No child has been told to stop yet: a client that connected before the
    /// last child leaves would be queued and then reset.
    pub(super) fn begin_drain(&mut self) {
        let monitor = &self.parent.monitor;
        let timeout = monitor.drain_timeout();
        if self.draining.begin(monitor.now(), timeout) {
            self.server.begin_drain();
        }
    }

    /// Closes the listeners if the drain is over.
    pub(super) fn drain(&mut self) {
        // A hook may have begun the shutdown by calling the default itself.
        if self.parent.monitor.is_shutdown() {
            self.begin_drain();
        }
        if !self.draining.is_under_way() {
            return;
        }
        let seen = self.drain_view();
        match self.draining.step(seen) {
            DrainStep::Wait => {}
            DrainStep::ForkLast => {
                self.fork_last();
                // If that has failed, nobody serves who is queued.
                self.drain();
            }
            DrainStep::Close => self.close_listeners(seen.queued),
        }
    }

    fn drain_view(&mut self) -> DrainView {
        // A child without the hooks of the program would not be one of the program's.
        let has_hooks = !self.hooks.uses_defaults();
        let monitor = &mut self.parent.monitor;
        DrainView {
            now: monitor.now(),
            queued: self.server.is_queued(),
            takers: Takers::of(monitor.children(), monitor.programs),
            may_fork: has_hooks && !self.lost && monitor.may_fork_last(),
        }
    }

    /// Closes the listeners, and counts the clients that this resets.
    fn close_listeners(&mut self, any_queued: bool) {
        if any_queued {
            let lost = queued(&mut self.server);
            self.parent.monitor.note_lost_queue(lost);
        }
        self.server.close_listeners();
    }
}

/// How many clients are queued, where the system tells it.
fn queued(server: &mut impl ChildServer) -> u64 {
    let listeners = server.listeners().into_iter();
    listeners
        .filter_map(|listener| listener.queued)
        .map(u64::from)
        .sum()
}
