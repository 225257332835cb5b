//! Doing what hooks have asked for, in the order in which they asked.

use super::PreFork;
use crate::{
    core::{
        child::{ChildId, Signal},
        error::Operation,
        queue::Task,
        states::Event,
    },
    hooks::{PreForkHooks, server::ChildServer},
};

/// How many forks one turn performs: in a burst of them, the first children are heard meanwhile.
const FORKS: usize = 32;
/// How many tasks one turn performs beyond those that stood in the queue at its beginning: hooks
/// that post without end must not keep the loop from the children, nor must the queue grow when a
/// child floods it with lines.
const MORE_TASKS: usize = 1024;

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// Performs what is queued, as far as the budget of a turn goes.
    pub(super) fn perform(&mut self) {
        self.perform_some();
        if self.core.monitor.queue.forks() == 0 {
            self.shell.wires.fetch_all();
        }
    }

    fn perform_some(&mut self) {
        let mut forks = 0;
        for _ in 0..self.core.monitor.queue.len() + MORE_TASKS {
            let Some(task) = self.core.monitor.queue.pop() else {
                return;
            };
            match task {
                Task::Event(event) => self.dispatch(event),
                Task::Fork => {
                    if forks == 0 {
                        let due = 1 + self.core.monitor.queue.forks();
                        self.shell.wires.make_way(due);
                    }
                    self.fork();
                    forks += 1;
                }
                Task::Signal { child, signal } => self.signal(child, signal),
                Task::Print { stream, bytes } => self.shell.outputs.push(stream, &bytes),
                Task::Lead(signal) => {
                    if let Err(error) = self.shell.lead(signal) {
                        log::error!("{error}");
                        self.call_run_error(error.operation(), error.io_error(), None);
                    }
                }
                Task::Watch(watch) => {
                    let state = watch.state.clone();
                    if let Err(error) = self.shell.watch(watch) {
                        log::error!("cannot watch the descriptor of state {state}: {error}");
                        self.call_run_error(Operation::Register, &error, None);
                    }
                }
                Task::Unwatch(id) => self.shell.unwatch(id),
            }
            if forks == FORKS {
                return;
            }
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Forkoff => self.call_forkoff(),
            Event::ServerFork => self.call_server_fork(),
            Event::ServerTimeoutCheck => self.call_timeout_check(),
            Event::Shutdown => self.call_shutdown(),
            Event::State(state) => self.core.call("handler_state", |hooks, monitor| {
                hooks.handler_state(monitor, &state);
            }),
        }
    }

    fn signal(&mut self, child: ChildId, signal: Signal) {
        // A child that has ended and was not reaped yet takes a signal without an error; what fails
        // is a child that has changed its user.
        if let Err(error) = self.shell.kill(child, signal) {
            log::warn!("cannot send {signal:?} to {child}: {error}");
        }
    }
}
