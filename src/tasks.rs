//! What hooks have asked for and the loop has not done yet, first in, first out. Holds requests;
//! performs none.

use crate::{
    child::{ChildId, Signal},
    states::{Event, Watch, WatchId},
};
use std::collections::VecDeque;

/// One of the parent's own outputs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// An effect, performed by the loop when the hook that asked for it has returned.
#[derive(Debug)]
pub(crate) enum Task {
    Event(Event),
    Fork,
    Signal { child: ChildId, signal: Signal },
    Print { stream: Stream, bytes: Vec<u8> },
    Watch(Watch),
    Unwatch(WatchId),
}

impl Task {
    /// Whether this leads to a fork: plans count it as one.
    fn is_fork(&self) -> bool {
        matches!(self, Self::Fork | Self::Event(Event::ServerFork))
    }
}

/// The queue of tasks.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    tasks: VecDeque<Task>,
    forks: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, task: Task) {
        self.forks += usize::from(task.is_fork());
        self.tasks.push_back(task);
    }

    pub(crate) fn pop(&mut self) -> Option<Task> {
        let task = self.tasks.pop_front()?;
        self.forks -= usize::from(task.is_fork());
        Some(task)
    }

    /// How many forks have been decided on and not performed.
    pub(crate) fn forks(&self) -> usize {
        self.forks
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether `event` waits in the queue already.
    pub(crate) fn has(&self, event: &Event) -> bool {
        self.tasks
            .iter()
            .any(|task| matches!(task, Task::Event(queued) if queued == event))
    }
}
