//! The documented handlers as methods of the loop, in the order of the document. Each calls its
//! hook; the public ones perform what it queued as well.

use super::PreFork;
use crate::{
    core::{
        child::{Child, ChildId, Signal},
        error::Operation,
        wire::{Line, Output},
    },
    hooks::{PreForkHooks, server::ChildServer},
    sys::poller,
};
use std::io;

/// The documented handlers, by hand. The loop calls them by itself; they are public for programs that
/// drive the server by [`turn`](Self::turn) and want something done between two turns.
///
/// Each is done at the time at which it is called, and performs what its hook has queued: where that is a fork, the child is forked inside of the
/// call and never returns from it.
impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// `_child`: the server has ended in the parent. Calls `handler_child`.
    pub fn child(&mut self, error: &io::Error) {
        self.core.tell_time();
        self.call_child(error);
        self.perform();
    }

    /// `_stop`: the end, now. Children that live are told to stop, given `kill_timeout` and killed,
    /// as when the server is dropped; then `handler_stop` is called. [`shutdown`](Self::shutdown) is
    /// the orderly way.
    pub fn stop(&mut self) {
        if !self.done {
            self.shell.end_children();
            self.core.tell_time();
            let Self { core, server, .. } = self;
            core.call("handler_stop", |hooks, monitor| {
                hooks.handler_stop(monitor, server)
            });
            // Signals last: one more SIGTERM must not end the process before the server has cleared up.
            self.shell.close();
            self.done = true;
        }
    }

    /// `run_error`: an operation on a child has failed. Calls `handler_run_error`.
    pub fn run_error(&mut self, operation: Operation, error: &io::Error, child: Option<ChildId>) {
        self.core.tell_time();
        self.call_run_error(operation, error, child);
        self.perform();
    }

    /// `shutdown`: calls `handler_shutdown`, unless the shutdown has begun.
    pub fn shutdown(&mut self) {
        self.core.tell_time();
        self.call_shutdown();
        self.perform();
    }

    /// `server_closed`: a child has closed its outputs or was reaped. Calls
    /// `handler_server_closed`.
    pub fn server_closed(&mut self, child: ChildId) {
        self.core.tell_time();
        self.call_server_closed(child);
        self.perform();
    }

    /// `server_stderr`: a line from a child's stderr. Calls `handler_server_stderr`.
    pub fn server_stderr(&mut self, child: ChildId, line: &Line) {
        self.core.tell_time();
        self.core
            .deliver(child, poller::Output::Stderr, Output::Line(line));
        self.perform();
    }

    /// `server_ack`: a word or a line from a child's stdout. Calls `handler_server_ack`.
    pub fn server_ack(&mut self, child: ChildId, output: Output<'_>) {
        self.core.tell_time();
        self.core.deliver(child, poller::Output::Stdout, output);
        self.perform();
    }

    /// `server_timeout_check`: calls `handler_server_timeout_check`, which sets its timer anew.
    pub fn timeout_check(&mut self) {
        self.core.tell_time();
        self.call_timeout_check();
        self.perform();
    }

    /// `forkoff`: calls `handler_forkoff`.
    pub fn forkoff(&mut self) {
        self.core.tell_time();
        self.call_forkoff();
        self.perform();
    }

    /// `server_fork`: calls `handler_server_fork`.
    pub fn server_fork(&mut self) {
        self.core.tell_time();
        self.call_server_fork();
        self.perform();
    }
}

/// The calls alone, for the loop, which performs later.
impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    pub(super) fn call_child(&mut self, error: &io::Error) {
        self.core.call("handler_child", |hooks, monitor| {
            hooks.handler_child(monitor, error)
        });
    }

    pub(super) fn call_run_error(
        &mut self,
        operation: Operation,
        error: &io::Error,
        child: Option<ChildId>,
    ) {
        self.core.call("handler_run_error", |hooks, monitor| {
            hooks.handler_run_error(monitor, operation, error, child);
        });
    }

    pub(super) fn call_shutdown(&mut self) {
        if !self.core.monitor.is_shutdown() {
            self.core.call("handler_shutdown", |hooks, monitor| {
                hooks.handler_shutdown(monitor)
            });
        }
    }

    pub(super) fn call_server_closed(&mut self, child: ChildId) {
        self.core.call("handler_server_closed", |hooks, monitor| {
            hooks.handler_server_closed(monitor, child);
        });
    }

    pub(super) fn call_timeout_check(&mut self) {
        self.core
            .call("handler_server_timeout_check", |hooks, monitor| {
                hooks.handler_server_timeout_check(monitor);
            });
    }

    pub(super) fn call_forkoff(&mut self) {
        self.core.call("handler_forkoff", |hooks, monitor| {
            hooks.handler_forkoff(monitor)
        });
    }

    pub(super) fn call_server_fork(&mut self) {
        self.core.call("handler_server_fork", |hooks, monitor| {
            hooks.handler_server_fork(monitor)
        });
    }

    /// The second SIGINT: whoever is left gets SIGKILL.
    pub(super) fn kill_what_is_left(&mut self) {
        let children: Vec<_> = self.core.monitor.children().map(Child::id).collect();
        for child in children {
            self.core.monitor.kill(child, Signal::Kill);
        }
    }
}
