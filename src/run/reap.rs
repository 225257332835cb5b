//! The end of children: reaping, removing records, errors on one child. A reaped child stays in the
//! table until its pipes have been read, within the same budget as a living child's.

use super::{child::ChildSide, fork::EXIT_ACCEPT, parent::ParentState, turn::Loop};
use crate::{
    core::{
        child::{Child, ChildId, Collected, Reason},
        error::Operation,
        event::Event,
        say::say,
        states::PostedState,
        system::{ChildPipe, Reaped},
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::{io, time::Duration};

/// How often to check whether the rest of a dead child's group has ended: no signal reports that.
const CHECK_SURVIVORS: Duration = Duration::from_millis(50);

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Reaps every child that has ended.
    pub(super) fn reap(&mut self) {
        if std::mem::take(&mut self.deaths_unknown) {
            self.parent.reap_status();
            self.look_for_deaths();
        }
    }

    /// SIGCHLD does not say which child has ended.
    fn look_for_deaths(&mut self) {
        while let Some(pid) = self.parent.system.peek() {
            match self.living_by_pid(pid, None) {
                Some(child) if self.reap_one(child) => {}
                Some(_) => return,
                None if self.parent.system.reap_orphan(pid) => {}
                // A child of the program's own; it hides what has ended after it.
                None => return self.check_all(),
            }
        }
    }

    /// Checks every child, and every orphan that was adopted.
    pub(super) fn check_all(&mut self) {
        self.parent.reap_status();
        for child in self.parent.ids() {
            self.reap_one(child);
        }
        let ParentState {
            monitor, system, ..
        } = &mut self.parent;
        system.reap_orphans(&|pid| monitor.child_by_pid(pid).is_some());
    }

    /// The child with this pid that was not reaped: the pid of a reaped child may be another
    /// process's by now.
    fn living_by_pid(&self, pid: u32, but: Option<ChildId>) -> Option<ChildId> {
        let pool = &self.parent.monitor.pool;
        let lives = |id| pool.contact(id).is_some_and(|contact| !contact.is_dead());
        let mut found = pool
            .iter()
            .filter(|child| child.pid() == pid)
            .map(Child::id);
        found.find(|&id| Some(id) != but && lives(id))
    }

    /// Reaps a child if it has ended. True if it had.
    pub(super) fn reap_one(&mut self, child: ChildId) -> bool {
        let contact = self.parent.monitor.pool.contact_mut(child);
        let Some(contact) = contact.filter(|contact| !contact.is_dead()) else {
            return false;
        };
        match contact.process.reap() {
            Ok(Reaped::Ended(collected)) => {
                self.note_end(child, collected);
                true
            }
            Ok(Reaped::Outlived(collected)) => {
                self.note_survivors(child, collected);
                true
            }
            Ok(Reaped::Not) => false,
            Err(error) => {
                self.run_error_of(Operation::Wait, &error, child);
                false
            }
        }
    }

    /// A child was reaped: its pipes are read to their end.
    fn note_end(&mut self, child: ChildId, collected: Collected) {
        if collected.status.is_none() && !self.has_end_from_others(child) {
            self.warn_of_a_stolen_status(child);
        }
        if let Some(contact) = self.parent.monitor.pool.contact_mut(child) {
            contact.note_end(collected);
            self.parent.monitor.note_reaped(child);
        }
        self.expect_no_stack_but_a_left_one(child);
        for pipe in ChildPipe::ALL {
            self.set_unread(child, pipe, true);
        }
        self.finish_if_read(child);
    }

    /// Whether the end of a child is one that was told, even if not how it has ended.
    fn has_end_from_others(&self, child: ChildId) -> bool {
        let contact = self.parent.monitor.pool.contact(child);
        contact.is_some_and(|contact| contact.process.end_from_others().is_some())
    }

    /// A child has ended before the other processes of its group. It keeps its place until they
    /// have ended too, or turn out to be unkillable.
    fn note_survivors(&mut self, child: ChildId, collected: Collected) {
        let monitor = &mut self.parent.monitor;
        let give_up_at = monitor.child(child).and_then(Child::give_up_at);
        if give_up_at.is_some_and(|at| at <= monitor.now()) {
            return self.note_end(child, collected);
        }
        monitor.outlived(child);
        let soon = monitor.now() + CHECK_SURVIVORS;
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// Logged once: code that reaps one child does so for all of them.
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

    /// Handles a reused pid: a fork has returned it for `newcomer`. If an older child still has it,
    /// other code in the program has reaped that child, or the holder, and `newcomer` must not get the
    /// older child's signals.
    pub(super) fn note_reused_pid(&mut self, pid: u32, newcomer: ChildId) {
        if let Some(replaced) = self.living_by_pid(pid, Some(newcomer)) {
            let contact = self.parent.monitor.pool.contact(replaced);
            let end = contact.and_then(|contact| contact.process.end_from_others());
            self.note_end(replaced, end.unwrap_or_default());
            // The death is still to be told under the pid that is the newcomer's now.
            self.deaths_unknown = true;
        }
    }

    /// A child was dead when it was adopted: the poller reports what is in a pipe, but nothing of one that
    /// is empty.
    pub(super) fn finish_dead(&mut self, child: ChildId) {
        for pipe in ChildPipe::ALL {
            self.set_unread(child, pipe, true);
        }
        self.finish_if_read(child);
    }

    /// Removes a dead child once all its output has been read, and its stack, if it has left one.
    pub(super) fn finish_if_read(&mut self, child: ChildId) {
        let contact = self.parent.monitor.pool.contact(child);
        if let Some(collected) = contact.and_then(|contact| contact.read_to_its_end())
            && !self.parent.monitor.awaits_stack(child)
        {
            self.finish(child, collected);
        }
    }

    /// Removes a dead child whose output has been read: calls the hooks, then ends its record.
    fn finish(&mut self, child: ChildId, collected: Collected) {
        self.hear_board(child);
        self.note_board(child);
        self.log_connection_in_hand(child);
        if self.parent.monitor.close(child) {
            self.call_server_closed(child);
        }
        let ParentState {
            monitor, status, ..
        } = &mut self.parent;
        status.note_last_lines(child, monitor);
        if self.parent.system.close_slot(child.slot()) {
            self.parent.monitor.board = self.parent.system.view();
        }
        self.parent.system.clear_stack(child);
        let Some((record, death)) = self.parent.monitor.exited(child, collected) else {
            return;
        };
        let event = Event::Exited {
            child: &record,
            death: &death,
        };
        let hooks = self.hooks.current();
        self.parent
            .call_and_emit("server_exited", &event, |monitor| {
                hooks.server_exited(monitor, &record, &death);
            });
        if !self.parent.monitor.is_shutdown() {
            self.parent.monitor.post_known(PostedState::Forkoff);
        }
        if death.code() == Some(EXIT_ACCEPT) {
            self.check_for_lost_socket();
        }
    }

    /// For an operator that looks for the client that a child did not survive.
    fn log_connection_in_hand(&self, child: ChildId) {
        let system = &self.parent.system;
        let notes = system.notes(child.slot());
        if notes.entry.is_of(child.serial())
            && let Some(since) = notes.since
        {
            let took = system.now().since(since);
            let description = self
                .parent
                .monitor
                .board
                .0
                .description(child.slot())
                .unwrap_or_default();
            log::debug!("{child} ended after {took:?} with {description}");
        }
    }

    /// A child could not accept. If the socket is lost, the server ends, and says so once.
    fn check_for_lost_socket(&mut self) {
        if !self.lost
            && let Some(error) = self.server.lost()
        {
            self.lost = true;
            self.call_child(&error);
        }
    }

    /// Reports a failed operation on one child. Unless that shuts the server down, which is the
    /// hook's default, the child is killed and replaced.
    pub(super) fn run_error_of(&mut self, operation: Operation, error: &io::Error, child: ChildId) {
        self.call_run_error(operation, error, Some(child));
        let monitor = &mut self.parent.monitor;
        if !monitor.is_shutdown() && !monitor.queue.has(&PostedState::Shutdown) {
            monitor.stop(child, Reason::Faulty);
        }
    }
}
