//! The end of the server, in the parent and in a child: the shutdown begins, queued clients are served,
//! and the records are dropped. Tells no child to stop.

use super::*;

/// The end of the server.
impl Monitor {
    pub(crate) fn begin_shutdown(&mut self) {
        self.stop.has_begun();
        if !std::mem::replace(&mut self.shutdown, true) {
            self.happened(Event::ShuttingDown);
        }
        self.owed = 0;
        self.replacement.clear();
    }

    /// What a child that is told to leave now does with the clients that are queued.
    pub(crate) fn queued_clients(&self, child: ChildId) -> QueuedClients {
        let reason = self.pool.get(child).and_then(Child::reason);
        if self.shutdown || reason == Some(Reason::Shutdown) {
            QueuedClients::Serve
        } else {
            QueuedClients::LeaveToOthers
        }
    }

    pub(crate) fn become_child(&mut self) {
        self.child = true;
    }

    /// Drops the children, the alarms and everything queued.
    pub(crate) fn forget_all(&mut self) {
        let pool = std::mem::take(&mut self.pool);
        let alarms = std::mem::take(&mut self.alarms);
        let mut queue = std::mem::take(&mut self.queue);
        if self.child {
            queue.close_watches();
            // Freeing them would write to memory that is shared with the parent, so each child
            // would copy it: in a large pool that costs more than the fork itself.
            std::mem::forget((pool, alarms, queue));
        }
        self.owed = 0;
    }
}
