//! Why a child leaves: it was told to stop, its parent is gone, or it wants to. Runs the callbacks for
//! that; ends no process.

use super::{Comm, CommShared};
use std::{
    cell::{Cell, RefCell},
    io,
    sync::atomic::Ordering,
};

/// What the child knows of its end.
#[derive(Default)]
pub(super) struct LeaveState {
    /// Whether the child itself has asked to leave after the connection in hand.
    wants_to_leave: Cell<bool>,
    is_orphan: Cell<bool>,
    when_orphaned: RefCell<Vec<Box<dyn FnOnce()>>>,
    when_told_to_stop: RefCell<Vec<Box<dyn FnOnce()>>>,
}

impl Comm {
    /// Whether the child should leave after the connection in hand.
    ///
    /// That is so if it was told to stop, if the parent is gone, or if
    /// [`leave_after_this`](Self::leave_after_this) was called.
    pub fn shutdown_requested(&self) -> bool {
        let leaving = self.shared.link.stop_requested() || self.is_orphaned() || self.is_leaving();
        if leaving {
            self.shared.channel.leaving.store(true, Ordering::Relaxed);
        }
        self.shared.notice_stop();
        self.shared.notice_reopen();
        leaving
    }

    /// Makes the child leave after the connection in hand.
    ///
    /// The child takes no other connection, and the parent replaces it, as at `max_requests`. Use
    /// it for a child that cannot serve any more, such as one that has lost its database
    /// connection: the new child opens a new one.
    ///
    /// No word is sent now, and the call cannot be undone. From now on
    /// [`shutdown_requested`](Self::shutdown_requested) is true, also for a server with an accept
    /// loop of its own.
    pub fn leave_after_this(&self) {
        self.shared.leaving.wants_to_leave.set(true);
    }

    /// Whether [`leave_after_this`](Self::leave_after_this) was called.
    pub(crate) fn is_leaving(&self) -> bool {
        self.shared.leaving.wants_to_leave.get()
    }

    /// Asks the parent to replace this child.
    ///
    /// It is told to stop when its successor is ready.
    ///
    /// Use it for a child that still serves but should not for long: it has leaked, or its caches
    /// are stale. See [`leave_after_this`](Self::leave_after_this) for one that cannot serve any
    /// more. The child goes on taking connections until it is told to stop. It sends an ACK, so that
    /// the parent looks at its note in shared memory; children without a place there (beyond the
    /// `max_clients` of the start) are not replaced.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    pub fn ask_for_replacement(&self) -> io::Result<()> {
        self.shared.channel.sink().note_due();
        self.ack()
    }

    /// Whether the parent is gone, or has closed the pipe of this child.
    ///
    /// When this is found for the first time, the callbacks of
    /// [`when_orphaned`](Self::when_orphaned) are run, and the process has `kill_timeout` left.
    pub fn is_orphaned(&self) -> bool {
        self.shared.notice_orphaned();
        self.shared.leaving.is_orphan.get()
    }

    /// Looks whether the parent is gone, for a child that does not wait.
    pub(crate) fn look_for_parent(&self) {
        self.shared.link.look_for_parent();
    }

    /// Runs `close` as soon as the child finds that the parent is gone.
    ///
    /// That may be during a connection.
    ///
    /// Use it to close listening sockets, so that the address is free for the next server. If the
    /// parent is already known to be gone, `close` is run now.
    pub fn when_orphaned(&self, close: impl FnOnce() + 'static) {
        if self.shared.leaving.is_orphan.get() {
            return close();
        }
        self.shared
            .leaving
            .when_orphaned
            .borrow_mut()
            .push(Box::new(close));
    }

    /// Runs `signal_int` once, when the child notices that it was told to stop.
    ///
    /// This may be during a connection. It is the original's handler of that name. The callback
    /// cannot prevent the stop: the child leaves when it has served the connection in hand.
    ///
    /// Call this in your own [`resume_accept`](crate::ChildServer::resume_accept), or in
    /// [`server_start`](crate::PreForkHooks::server_start).
    pub fn when_told_to_stop(&self, signal_int: impl FnOnce() + 'static) {
        let mut callbacks = self.shared.leaving.when_told_to_stop.borrow_mut();
        callbacks.push(Box::new(signal_int));
    }
}

impl CommShared {
    /// Notices that the parent is gone or does not count this process as a child.
    ///
    /// If the parent lives but has closed the pipe, this process is a copy that a child has made of
    /// itself, as by daemon(3), and the parent has reaped that child.
    pub(super) fn notice_orphaned(&self) {
        let disowned = self.channel.unheard.load(Ordering::Relaxed);
        if self.leaving.is_orphan.get() || !(disowned || self.link.orphaned()) {
            return;
        }
        self.leaving.is_orphan.set(true);
        self.link.become_orphan();
        for close in self.leaving.when_orphaned.take() {
            close();
        }
    }

    /// Runs the callbacks of `when_told_to_stop`, once, if the child was told to stop.
    pub(super) fn notice_stop(&self) {
        // Mostly there is no callback, and then the check is not needed.
        if self.leaving.when_told_to_stop.borrow().is_empty() || !self.link.stop_requested() {
            return;
        }
        for signal_int in self.leaving.when_told_to_stop.take() {
            signal_int();
        }
    }
}
