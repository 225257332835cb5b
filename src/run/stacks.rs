//! Asks children for their stacks, and passes on the answers. A dead child whose stack is being read
//! keeps its record until the answer has come or is overdue.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{child::ChildId, stack::Frame},
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

    /// Takes the answers, and removes the dead children that waited for theirs.
    pub(super) fn take_stacks(&mut self) {
        for (child, frames) in self.parent.system.stacks() {
            self.settle_stack(child, frames);
        }
        for child in self.parent.monitor.stacks_overdue() {
            self.settle_stack(child, Vec::new());
        }
    }

    fn settle_stack(&mut self, child: ChildId, frames: Vec<Frame>) {
        self.parent.monitor.note_stack(child, frames);
        self.finish_if_read(child);
    }

    /// A child that has ended before it answered will not answer.
    pub(super) fn expect_no_stack_but_a_left_one(&mut self, child: ChildId) {
        if self.parent.monitor.awaits_stack(child) && !self.parent.system.has_left_stack(child) {
            self.parent.monitor.note_stack(child, Vec::new());
        }
    }
}
