//! When children are asked for their stacks, and until when an answer is waited for. Sends nothing;
//! does nothing where stacks are not collected.

use super::looks::NoStack;
use super::*;
use crate::core::stack::Frame;

impl Monitor {
    /// Asks a child for its stack, once: what it does when it is found to be over its time.
    pub(crate) fn ask_stack(&mut self, id: ChildId) {
        self.ask_stack_if(id, |child, now| child.stack.ask(now));
    }

    fn ask_stack_if(&mut self, id: ChildId, asks: impl FnOnce(&mut Child, Time) -> bool) {
        let now = self.now;
        if self.collects_stacks
            && !self.programs
            && let Some(child) = self.pool.get_mut(id)
            && !child.is_reaped()
            && asks(child, now)
        {
            self.queue.push(Task::AskStack(id));
        }
    }

    /// Asks the children that get SIGKILL soon and have not answered.
    pub(crate) fn ask_last_stacks(&mut self) {
        let due: Vec<_> = self
            .stuck()
            .filter(|child| {
                self.last_question_at(child)
                    .is_some_and(|at| at <= self.now)
            })
            .map(Child::id)
            .collect();
        for id in due {
            self.ask_stack_if(id, |child, now| child.stack.ask_last(now));
        }
    }

    /// Notes the answer of a child; no frames if there will be none.
    pub(crate) fn note_stack(&mut self, id: ChildId, frames: Vec<Frame>) {
        self.looks.end(id, || match frames.is_empty() {
            true => Err(NoStack::NoAnswer),
            false => Ok(frames.clone()),
        });
        if let Some(child) = self.pool.get_mut(id) {
            child.stack.answered(frames);
        }
    }

    /// Whether a dead child keeps its record, because its stack is being read.
    pub(crate) fn awaits_stack(&self, id: ChildId) -> bool {
        let until = self.pool.get(id).and_then(awaited_until);
        until.is_some_and(|until| self.now < until)
    }

    /// The dead children whose stacks are waited for no longer.
    pub(crate) fn stacks_overdue(&self) -> Vec<ChildId> {
        let is_over = |child: &&Child| awaited_until(child).is_some_and(|until| until <= self.now);
        let dead = self.stuck().filter(|child| child.is_reaped());
        dead.filter(is_over).map(Child::id).collect()
    }

    /// When the loop must turn because of a stack.
    pub(super) fn stack_deadlines(&self) -> impl Iterator<Item = Time> + '_ {
        let deaths = self.stuck().filter_map(|child| match child.is_reaped() {
            true => awaited_until(child),
            false => self.last_question_at(child),
        });
        deaths.chain(self.looks.next())
    }

    /// The children that may have to be asked, or may have been.
    fn stuck(&self) -> impl Iterator<Item = &Child> + '_ {
        let any = self.collects_stacks && !self.programs && self.pool.census().retiring > 0;
        let children = any.then(|| self.pool.iter()).into_iter().flatten();
        children.filter(|child| child.state == State::Retiring)
    }

    fn last_question_at(&self, child: &Child) -> Option<Time> {
        let told = child.retirement?;
        let (at, signal) = self.next_signal(child)?;
        let kills = signal == Signal::Kill && !child.is_reaped();
        kills.then(|| child.stack.last_at(told.at, at))?
    }
}

/// Looks at living children.
impl Monitor {
    /// Begins a look at a child, unless one is under way.
    pub(crate) fn look_at_stack(&mut self, id: ChildId) {
        if self.looks.begin(id, self.now) {
            self.queue.push(Task::LookAtStack(id));
        }
    }

    /// Why no child can be asked, if so.
    pub(crate) fn why_no_stack(&self) -> Option<NoStack> {
        match (self.collects_stacks, self.programs) {
            (_, true) => Some(NoStack::OtherProgram),
            (false, false) => Some(NoStack::NotCollected),
            (true, false) => None,
        }
    }

    /// Whether what a child leaves may be for its death, and not for a look alone.
    pub(crate) fn is_asked_for_its_death(&self, id: ChildId) -> bool {
        self.pool.get(id).is_some_and(|child| child.stack.is_open())
    }

    /// Forgets the looks that were told in the turn before, and those at children that have ended.
    pub(crate) fn forget_looks(&mut self) {
        let pool = &self.pool;
        let lives = |id| pool.get(id).is_some_and(|child: &Child| !child.is_reaped());
        self.looks.forget_ended(lives);
    }
}

/// Until when the stack of a child is waited for. One that has left in time takes it along.
fn awaited_until(child: &Child) -> Option<Time> {
    child.stack.awaited_until().filter(|_| child.was_stuck())
}
