//! The end of the server, in the parent and in a child: the shutdown begins, queued clients are served,
//! if need be by a last child, and the records are dropped. Tells no child to stop.

use super::*;

/// The end of the server.
impl Monitor {
    pub(crate) fn begin_shutdown(&mut self) {
        self.stop.has_begun(self.now);
        if !std::mem::replace(&mut self.shutdown, true) {
            self.happened(Event::ShuttingDown);
        }
        self.owed = 0;
        self.replacement.clear();
    }

    /// Whether a last child may be forked in the shutdown, if clients are queued and no child is left.
    ///
    /// Not when all were killed or the time of the stop is over, nor while failures delay forks, nor in
    /// a parent that goes on with the stop of one that was killed. A program that is told to stop in
    /// its start serves nobody.
    pub(crate) fn may_fork_last(&mut self) -> bool {
        let timeout = self.attributes.shutdown_timeout;
        let time_left = self.stop.time_left(timeout, self.now);
        let has_time = time_left.is_none_or(|left| !left.is_zero());
        let is_stop = self.shutdown && !self.child && self.stop.may_fork_last();
        is_stop && has_time && !self.programs && self.room(0) > 0 && !self.delays_forks()
    }

    /// For how long a child that is forked now serves the queue of a stop.
    pub(crate) fn drain_time(&self) -> Duration {
        let timeout = self.attributes.drain_timeout;
        match self.shutdown {
            true => self.stop.drain_left(timeout, self.now),
            false => timeout,
        }
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

#[cfg(test)]
mod tests;
