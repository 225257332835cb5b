//! The status helper, as the loop keeps it: forked beside the children, reaped, and told what only
//! the loop knows. It does not count as a child; `observe/status` has the rest.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::config::ThreadCheck,
    hooks::{ChildServer, PreForkHooks},
};

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Forks the helper if a status is configured and no helper runs.
    pub(super) fn tend_status(&mut self) {
        let now = self.parent.system.now();
        if self.parent.status.wants_fork(now) && self.has_one_thread() {
            self.parent.update_time();
            let parent = &mut self.parent;
            parent
                .system
                .fork_status(&mut parent.status, &mut parent.monitor);
        }
    }

    /// What is said about threads is said when a child is forked.
    fn has_one_thread(&self) -> bool {
        let warns = self.parent.monitor.thread_check() == ThreadCheck::Warn;
        warns || self.parent.system.check_threads().is_ok()
    }

    /// Tells the record the sockets and their queues, once a second.
    pub(super) fn record_listeners(&mut self) {
        if self
            .parent
            .status
            .wants_listeners(self.parent.monitor.now())
        {
            let listeners = self.server.listeners();
            self.parent.status.note_listeners(listeners);
        }
    }
}
