//! How children end: reaping, the end of a record, errors on one child. A child that was reaped stays in
//! the table until what stood in its pipes has been read, within the same budget as a living one's.

use super::{child::ChildSide, fork::EXIT_ACCEPT, turn::Loop};
use crate::{
    core::{
        child::{Child, ChildId, Reason, WaitStatus},
        error::Operation,
        event::Event,
        say::say,
        states::Posted,
        system::{Pipe, Reaped},
        wire::Entry,
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::{io, time::Duration};

/// How often is looked whether what has outlived a child has ended: no signal tells of that.
const LOOK_FOR_THE_REST: Duration = Duration::from_millis(50);

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Reaps every child that has ended.
    pub(super) fn reap(&mut self) {
        if std::mem::take(&mut self.deaths_unknown) {
            self.look_for_deaths();
        }
    }

    /// SIGCHLD says that somebody has ended, and not who.
    fn look_for_deaths(&mut self) {
        while let Some(pid) = self.parent.system.peek() {
            let Some(child) = self.living_by_pid(pid, None) else {
                // A child of the program's own, and it hides whoever has ended after it.
                return self.look_at_everybody();
            };
            if !self.reap_one(child) {
                return;
            }
        }
    }

    pub(super) fn look_at_everybody(&mut self) {
        for child in self.parent.ids() {
            self.reap_one(child);
        }
    }

    /// The child of that pid that was not reaped: the number of one that was may be another's by now.
    fn living_by_pid(&self, pid: u32, but: Option<ChildId>) -> Option<ChildId> {
        let pool = &self.parent.monitor.pool;
        let lives = |id| pool.contact(id).is_some_and(|contact| !contact.is_dead());
        let mut found = pool
            .iter()
            .filter(|child| child.pid() == pid)
            .map(Child::id);
        found.find(|&id| Some(id) != but && lives(id))
    }

    /// Reaps a child if it has ended, and says whether it had.
    pub(super) fn reap_one(&mut self, child: ChildId) -> bool {
        let contact = self.parent.monitor.pool.contact_mut(child);
        let Some(contact) = contact.filter(|contact| !contact.is_dead()) else {
            return false;
        };
        match contact.process.reap() {
            Ok(Reaped::Ended(status)) => {
                self.note_end(child, status);
                true
            }
            Ok(Reaped::Outlived(status)) => {
                self.note_rest(child, status);
                true
            }
            Ok(Reaped::Not) => false,
            Err(error) => {
                self.run_error_of(Operation::Wait, &error, child);
                false
            }
        }
    }

    /// A child was reaped: what stands in its pipes is to be read.
    fn note_end(&mut self, child: ChildId, status: Option<WaitStatus>) {
        if status.is_none() {
            self.warn_of_a_stolen_status(child);
        }
        if let Some(contact) = self.parent.monitor.pool.contact_mut(child) {
            contact.note_end(status);
        }
        for pipe in Pipe::ALL {
            self.set_unread(child, pipe, true);
        }
        self.bury_if_read(child);
    }

    /// A child has ended before what it has started: that has its place until it has ended too, or cannot be
    /// killed.
    fn note_rest(&mut self, child: ChildId, status: Option<WaitStatus>) {
        let monitor = &mut self.parent.monitor;
        let give_up_at = monitor.child(child).and_then(Child::give_up_at);
        if give_up_at.is_some_and(|at| at <= monitor.now()) {
            return self.note_end(child, status);
        }
        monitor.outlived(child);
        let soon = monitor.now() + LOOK_FOR_THE_REST;
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// Once: whoever does it does it to all of them.
    fn warn_of_a_stolen_status(&mut self, child: ChildId) {
        if !std::mem::replace(&mut self.warned_of_stolen_statuses, true) {
            let pid = self.parent.monitor.child(child).map_or(0, Child::pid);
            say!(
                Warn,
                "child {pid} was reaped by somebody else: its end is known late, and how it ended is not. \
                 Code in this process waits for any child, or ignores SIGCHLD"
            );
        }
    }

    /// A fork has returned this pid for `newcomer`. If a child has it already, somebody else in the program
    /// has reaped that one; the newcomer must not be sent its signals.
    pub(super) fn lay_ghost(&mut self, pid: u32, newcomer: ChildId) {
        if let Some(ghost) = self.living_by_pid(pid, Some(newcomer)) {
            self.note_end(ghost, None);
        }
    }

    /// Buries a dead child once all that it has written has been read.
    pub(super) fn bury_if_read(&mut self, child: ChildId) {
        let contact = self.parent.monitor.pool.contact(child);
        if let Some(status) = contact.and_then(|contact| contact.read_to_its_end()) {
            self.bury(child, status);
        }
    }

    /// A child is dead, and has been read: the hooks, then the end of its record.
    fn bury(&mut self, child: ChildId, status: Option<WaitStatus>) {
        self.hear_board(child);
        self.note_requests(child);
        if self.parent.monitor.close(child) {
            self.call_server_closed(child);
        }
        self.parent.system.set_noted(child.slot(), Entry::default());
        let Some((record, death)) = self.parent.monitor.exited(child, status) else {
            return;
        };
        let event = Event::Exited {
            child: &record,
            death: &death,
        };
        let hooks = &mut self.hooks;
        self.parent
            .call_and_tell("server_exited", &event, |monitor| {
                hooks.server_exited(monitor, &record, &death);
            });
        if !self.parent.monitor.is_shutdown() {
            self.parent.monitor.post_known(Posted::Forkoff);
        }
        if death.code() == Some(EXIT_ACCEPT) {
            self.look_whether_lost();
        }
    }

    /// A child could not accept: that may be the end of the server, which is said once.
    fn look_whether_lost(&mut self) {
        if !self.lost
            && let Some(error) = self.server.lost()
        {
            self.lost = true;
            self.call_child(&error);
        }
    }

    /// An operation on one child has failed. Unless that shuts the server down, as the default of
    /// the hook does, that child is killed and replaced.
    pub(super) fn run_error_of(&mut self, operation: Operation, error: &io::Error, child: ChildId) {
        self.call_run_error(operation, error, Some(child));
        let monitor = &mut self.parent.monitor;
        if !monitor.is_shutdown() && !monitor.queue.has(&Posted::Shutdown) {
            monitor.stop(child, Reason::Faulty);
        }
    }
}
