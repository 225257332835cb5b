//! The listeners in a shutdown: new clients are refused, the children serve the queued clients,
//! then the listeners are closed in all processes. `core/draining.rs` decides when; this file tells
//! the server object.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{
        draining::{Drain, Outlook, Takers},
        monitor::Monitor,
    },
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
        let monitor = &self.parent.monitor;
        let (_, lost) = check_drain(&mut self.draining, &mut self.server, monitor);
        self.parent.monitor.report.lost_connections += lost;
    }

    /// Ends the living children, outside the loop.
    pub(super) fn end_children(&mut self) {
        self.parent.tell_time();
        if self.parent.monitor.pool.len() > 0 {
            self.begin_drain();
        }
        let (draining, server) = (&mut self.draining, &mut self.server);
        let mut all_lost = 0;
        self.parent.end_children(|monitor| {
            let (is_open, lost) = check_drain(draining, server, monitor);
            all_lost += lost;
            is_open
        });
        self.parent.monitor.report.lost_connections += all_lost;
        self.parent.tell_time();
    }
}

/// Closes the listeners if the drain is over. True while they are open, and how many queued clients
/// the close has lost.
fn check_drain(
    draining: &mut Drain,
    server: &mut impl ChildServer,
    monitor: &Monitor,
) -> (bool, u64) {
    if !draining.is_under_way() {
        return (false, 0);
    }
    let seen = Outlook {
        now: monitor.now(),
        queued: server.is_queued(),
        takers: Takers::of(monitor.children(), monitor.programs),
    };
    if !draining.closes(seen) {
        return (true, 0);
    }
    let lost = if seen.queued { queued(server) } else { 0 };
    server.close_listeners();
    (false, lost)
}

/// How many clients are queued, where the system tells it.
fn queued(server: &mut impl ChildServer) -> u64 {
    let listeners = server.listeners().into_iter();
    listeners
        .filter_map(|listener| listener.queued)
        .map(u64::from)
        .sum()
}
