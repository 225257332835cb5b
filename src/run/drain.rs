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
        let _ = check_drain(&mut self.draining, &mut self.server, &self.parent.monitor);
    }

    /// Ends the living children, outside the loop.
    pub(super) fn end_children(&mut self) {
        self.parent.tell_time();
        if self.parent.monitor.pool.len() > 0 {
            self.begin_drain();
        }
        let (draining, server) = (&mut self.draining, &mut self.server);
        self.parent
            .end_children(|monitor| check_drain(draining, server, monitor));
        self.parent.tell_time();
    }
}

/// Closes the listeners if the drain is over. True while they are open.
fn check_drain(draining: &mut Drain, server: &mut impl ChildServer, monitor: &Monitor) -> bool {
    if !draining.is_under_way() {
        return false;
    }
    let seen = Outlook {
        now: monitor.now(),
        queued: server.is_queued(),
        takers: Takers::of(monitor.children(), monitor.programs),
    };
    let closes = draining.closes(seen);
    if closes {
        server.close_listeners();
    }
    !closes
}
