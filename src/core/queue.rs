//! The tasks that hooks have asked for and the loop has not performed yet, first in, first out.
//! Performs none.

use crate::core::{
    child::{ChildId, Signal},
    error::Error,
    states::{PostedState, Watch, WatchId},
};
use std::collections::VecDeque;

/// One of the parent's own outputs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PrintTo {
    Stdout,
    Stderr,
}

/// An effect, performed by the loop when the hook that asked for it has returned.
#[derive(Debug)]
pub(crate) enum Task {
    Posted(PostedState),
    Fork,
    Signal {
        child: ChildId,
        signal: Signal,
    },
    Print {
        to: PrintTo,
        bytes: Vec<u8>,
    },
    /// A child is asked for its stack.
    AskStack(ChildId),
    /// A child is asked for its stack, by a client that wants to see it.
    LookAtStack(ChildId),
    /// Every child is to reopen its logs.
    ReopenChildren,
    /// A reload has failed: the hook is called.
    ReloadFailed(Error),
    /// A signal posts a state from now on.
    Lead(Signal),
    Watch(Watch),
    Unwatch(WatchId),
}

impl Task {
    fn is_forkoff(&self) -> bool {
        matches!(self, Self::Posted(PostedState::Forkoff))
    }

    /// Whether this task leads to a fork, and counts as one in plans.
    fn is_fork(&self) -> bool {
        matches!(self, Self::Fork | Self::Posted(PostedState::ServerFork))
    }
}

/// The queue of tasks.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    tasks: VecDeque<Task>,
    forks: usize,
    forkoffs: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, task: Task) {
        self.forks += usize::from(task.is_fork());
        self.forkoffs += usize::from(task.is_forkoff());
        self.tasks.push_back(task);
    }

    pub(crate) fn pop(&mut self) -> Option<Task> {
        let task = self.tasks.pop_front()?;
        self.forks -= usize::from(task.is_fork());
        self.forkoffs -= usize::from(task.is_forkoff());
        Some(task)
    }

    /// How many forks have been decided on and not performed.
    pub(crate) fn forks(&self) -> usize {
        self.forks
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Drops the tasks that watch descriptors, and so closes the duplicates: a child does not need
    /// them.
    pub(crate) fn close_watches(&mut self) {
        self.tasks.retain(|task| !matches!(task, Task::Watch(_)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether a `forkoff` waits in the queue already.
    ///
    /// This is asked at each word, when the queue may be long, so a count is kept.
    pub(crate) fn has_forkoff(&self) -> bool {
        self.forkoffs > 0
    }

    /// Whether `posted` waits in the queue already.
    pub(crate) fn has(&self, posted: &PostedState) -> bool {
        self.tasks
            .iter()
            .any(|task| matches!(task, Task::Posted(queued) if queued == posted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_and_forkoffs_are_counted_as_they_come_and_go() {
        let mut queue = Queue::default();
        queue.push(Task::Posted(PostedState::Forkoff));
        queue.push(Task::Fork);
        queue.push(Task::Posted(PostedState::ServerFork));
        queue.push(Task::Posted(PostedState::Shutdown));
        assert_eq!((queue.forks(), queue.has_forkoff()), (2, true));
        assert!(queue.pop().is_some());
        assert_eq!((queue.forks(), queue.has_forkoff()), (2, false));
        while queue.pop().is_some() {}
        assert_eq!((queue.forks(), queue.len()), (0, 0));
    }
}
