//! Asks children for their stacks, and passes on the answers. A dead child whose stack is being read
//! keeps its record until the answer has come or is overdue. A living one goes on.

use super::{child::ChildSide, parent::ParentState, turn::Loop};
use crate::{
    core::{
        child::{Child, ChildId},
        monitor::looks::NoStack,
        stack::Frame,
    },
    hooks::{ChildServer, PreForkHooks},
};

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    pub(super) fn ask_stack(&mut self, child: ChildId) {
        let monitor = &mut self.parent.monitor;
        let lives = monitor.pool.contact(child).is_some_and(|it| !it.is_dead());
        let Some(pid) = monitor.child(child).filter(|_| lives).map(|it| it.pid()) else {
            return;
        };
        if let Err(error) = self.parent.system.ask_stack(child, pid) {
            log::debug!("{child} cannot be asked for its stack: {error}");
            monitor.note_stack(child, Vec::new());
        }
    }

    /// For a client that wants to see it. Where the child stands in the kernel is read before it is
    /// asked: the question wakes it.
    pub(super) fn look_at_stack(&mut self, child: ChildId) {
        let monitor = &mut self.parent.monitor;
        let contact = monitor.pool.contact(child);
        let Some(contact) = contact.filter(|contact| !contact.is_dead()) else {
            return;
        };
        let place = contact.process.stuck();
        monitor.looks.note_place(child, place);
        if let Some(why) = monitor.why_no_stack() {
            return monitor.looks.end(child, || Err(why));
        }
        self.clear_stack_of_a_look(child);
        self.ask_for_a_look(child);
    }

    fn ask_for_a_look(&mut self, child: ChildId) {
        let ParentState {
            monitor, system, ..
        } = &mut self.parent;
        let pid = monitor.child(child).map_or(0, Child::pid);
        if let Err(error) = system.ask_stack(child, pid) {
            log::debug!("{child} cannot be asked for its stack: {error}");
            monitor.looks.end(child, || Err(NoStack::NotAsked));
        }
    }

    /// A later answer must not be taken for the one to a later question.
    fn clear_stack_of_a_look(&mut self, child: ChildId) {
        if !self.parent.monitor.is_asked_for_its_death(child) {
            self.parent.system.clear_stack(child);
        }
    }

    /// Takes the answers, and removes the dead children that waited for theirs.
    pub(super) fn take_stacks(&mut self) {
        self.parent.monitor.forget_looks();
        for (child, frames) in self.parent.system.stacks() {
            self.settle_stack(child, frames);
        }
        for child in self.parent.monitor.stacks_overdue() {
            self.settle_stack(child, Vec::new());
        }
        self.end_overdue_looks();
    }

    fn end_overdue_looks(&mut self) {
        let now = self.parent.monitor.now();
        for child in self.parent.monitor.looks.overdue(now) {
            let looks = &mut self.parent.monitor.looks;
            looks.end(child, || Err(NoStack::Late));
            self.clear_stack_of_a_look(child);
        }
    }

    fn settle_stack(&mut self, child: ChildId, frames: Vec<Frame>) {
        let monitor = &mut self.parent.monitor;
        let is_looked_at = monitor.looks.of(child).is_some();
        monitor.note_stack(child, frames);
        if is_looked_at {
            self.clear_stack_of_a_look(child);
        }
        self.finish_if_read(child);
    }

    /// A child that has ended before it answered will not answer.
    pub(super) fn expect_no_stack_but_a_left_one(&mut self, child: ChildId) {
        if self.parent.monitor.awaits_stack(child) && !self.parent.system.has_left_stack(child) {
            self.parent.monitor.note_stack(child, Vec::new());
        }
    }
}
