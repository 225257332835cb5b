//! Runs the callbacks that reopen logs, when the child is told to. Opens nothing itself.

use super::{Comm, CommShared};
use std::cell::RefCell;

type ReopenLogs = Box<dyn FnMut()>;

/// The callbacks.
#[derive(Default)]
pub(super) struct Reopening {
    /// That of the program; empty by default and while it runs.
    users: RefCell<Option<ReopenLogs>>,
    /// Those for logs that the crate writes.
    own: RefCell<Vec<ReopenLogs>>,
}

impl Reopening {
    fn is_empty(&self) -> bool {
        self.users.borrow().is_none() && self.own.borrow().is_empty()
    }

    /// Runs all. Each is taken out while it runs, because it may wait and so come here again.
    fn run(&self) {
        let mut own = self.own.take();
        own.iter_mut().for_each(|reopen| reopen());
        self.own.borrow_mut().append(&mut own);
        if let Some(mut reopen_logs) = self.users.take() {
            reopen_logs();
            self.users.borrow_mut().get_or_insert(reopen_logs);
        }
    }
}

impl Comm {
    /// Runs `reopen_logs` whenever the child is told to reopen its logs.
    ///
    /// SIGUSR1 to the parent leads to it. The callback runs when the child next looks, which is at
    /// once while it waits for a connection or in one of the waits of this type, and may be during
    /// a connection. Orders that come close together may run it once. A second callback replaces
    /// the first.
    ///
    /// Call it where [`when_told_to_stop`](Self::when_told_to_stop) is called. A loop of your own
    /// that watches this object's descriptor then also wakes for this;
    /// [`shutdown_requested`](Self::shutdown_requested) runs the callback.
    pub fn when_told_to_reopen(&self, reopen_logs: impl FnMut() + 'static) {
        *self.shared.reopening.users.borrow_mut() = Some(Box::new(reopen_logs));
        self.shared.link.wake_to_reopen();
    }

    /// As [`when_told_to_reopen`](Self::when_told_to_reopen), for logs of the crate's own: it comes
    /// in addition to that.
    pub(crate) fn also_when_told_to_reopen(&self, reopen_logs: impl FnMut() + 'static) {
        let mut own = self.shared.reopening.own.borrow_mut();
        own.push(Box::new(reopen_logs));
        drop(own);
        self.shared.link.wake_to_reopen();
    }
}

impl CommShared {
    /// Runs the callbacks, if the child was told.
    pub(super) fn notice_reopen(&self) {
        // Mostly there is none, and then the check is not needed.
        if !self.reopening.is_empty() && self.link.take_reopen() {
            self.reopening.run();
        }
    }
}
