//! Performs what hooks have requested, in the order of the requests.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{
        child::{ChildId, Signal},
        error::Operation,
        notice::Notice,
        queue::Task,
        states::{PostedState, Watch},
    },
    hooks::{ChildServer, PreForkHooks},
};

/// How many forks one turn performs: in a burst of forks, the loop reads the first children between
/// turns.
const FORKS: usize = 32;
/// How many tasks one turn performs beyond those in the queue at its beginning. Hooks that post
/// without end must not keep the loop from the children, and the queue must not grow when a child
/// floods it with lines.
const MORE_TASKS: usize = 1024;

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Performs queued tasks, within the budget of a turn.
    pub(super) fn perform(&mut self) {
        let mut forks = 0;
        for _ in 0..self.parent.monitor.queue.len() + MORE_TASKS {
            let Some(task) = self.parent.monitor.queue.pop() else {
                return;
            };
            forks += usize::from(matches!(task, Task::Fork));
            self.perform_one(task);
            if forks == FORKS {
                return;
            }
        }
    }

    fn perform_one(&mut self, task: Task) {
        match task {
            Task::Posted(posted) => self.dispatch(posted),
            Task::Fork => self.fork(),
            Task::Signal { child, signal } => self.signal(child, signal),
            Task::AskStack(child) => self.ask_stack(child),
            Task::LookAtStack(child) => self.look_at_stack(child),
            Task::ReloadFailed(error) => self.children_failed(&error),
            Task::Print { to, bytes } => self.parent.system.print(to, &bytes),
            Task::ReopenChildren => self.reopen_children(),
            Task::Lead(signal) => self.lead(signal),
            Task::Watch(watch) => self.watch(watch),
            Task::Unwatch(id) => self.parent.system.unwatch(id),
        }
    }

    fn dispatch(&mut self, posted: PostedState) {
        match posted {
            PostedState::Forkoff => self.call_forkoff(),
            PostedState::ServerFork => self.call_server_fork(),
            PostedState::ServerTimeoutCheck => self.call_timeout_check(),
            PostedState::Shutdown => self.call_shutdown(),
            PostedState::ReopenLogs => self.call("reopen_logs", |hooks, monitor| {
                hooks.reopen_logs(monitor);
            }),
            PostedState::Reload => self.call_reload(),
            PostedState::Upgrade => self.begin_upgrade(),
            PostedState::State(state) => self.call("handler_state", |hooks, monitor| {
                hooks.handler_state(monitor, &state);
            }),
        }
    }

    fn reopen_children(&mut self) {
        if let Err(error) = self.server.reopen() {
            self.parent.monitor.notice(
                Notice::UnopenedLog,
                format_args!("a log cannot be reopened: {error}"),
            );
        }
        if let Some(signal) = self.server.reopen_signal() {
            for child in self.parent.ids() {
                self.signal(child, signal);
            }
        }
    }

    fn lead(&mut self, signal: Signal) {
        if let Err(error) = self.parent.system.lead(signal) {
            self.parent
                .monitor
                .notice(Notice::UnheardSignal, format_args!("{error}"));
            self.call_run_error(error.operation(), error.io_error(), None);
        }
    }

    fn watch(&mut self, watch: Watch) {
        let state = watch.state.clone();
        if let Err(error) = self.parent.system.watch(watch) {
            self.parent.monitor.notice(
                Notice::UnwatchedDescriptor,
                format_args!("cannot watch the descriptor of state {state}: {error}"),
            );
            self.call_run_error(Operation::Register, &error, None);
        }
    }

    fn signal(&mut self, child: ChildId, signal: Signal) {
        let contact = self.parent.monitor.pool.contact(child);
        let lives = contact.is_some_and(|contact| !contact.is_dead());
        if lives && signal == Signal::Interrupt {
            self.server.before_stop();
        }
        // A child that has ended and was not reaped yet accepts a signal without an error. The call
        // fails for a child that has changed its user, or that other code has reaped.
        if let Err(error) = self.parent.signal(child, signal)
            && !self.reap_one(child)
        {
            self.parent.monitor.notice(
                Notice::UnsentSignal,
                format_args!("cannot send {signal:?} to {child}: {error}"),
            );
        }
    }
}
