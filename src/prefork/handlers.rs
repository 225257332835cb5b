//! The documented handlers as methods of the loop: each calls its hook, and the public ones perform
//! what it queued. In the order of the document.

use super::PreFork;
use crate::{
    child::{Child, ChildId, Signal},
    error::Operation,
    hooks::PreForkHooks,
    server::ChildServer,
};
use std::io;

/// The documented handlers. The loop calls them by itself; they are public for programs that drive
/// the server by [`turn`](Self::turn) and want something done between two turns.
impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// `_child`: the server has ended in the parent. Calls `handler_child`.
    pub fn child(&mut self, error: &io::Error) {
        self.core.call("handler_child", |hooks, monitor| {
            hooks.handler_child(monitor, error)
        });
        self.perform();
    }

    /// `_stop`: the end. Calls `handler_stop` and gives the signals back.
    pub(super) fn stop(&mut self) {
        let Self { core, server, .. } = self;
        core.call("handler_stop", |hooks, monitor| {
            hooks.handler_stop(monitor, server)
        });
        self.shell.close();
        self.done = true;
    }

    /// `run_error`: an operation on a child has failed. Calls `handler_run_error`.
    pub fn run_error(&mut self, operation: Operation, error: &io::Error, child: Option<ChildId>) {
        self.core.call("handler_run_error", |hooks, monitor| {
            hooks.handler_run_error(monitor, operation, error, child);
        });
    }

    /// `shutdown`: calls `handler_shutdown`, unless the shutdown has begun.
    pub fn shutdown(&mut self) {
        self.begin_shutdown();
        self.perform();
    }

    pub(super) fn begin_shutdown(&mut self) {
        if !self.core.monitor.is_shutdown() {
            self.core.call("handler_shutdown", |hooks, monitor| {
                hooks.handler_shutdown(monitor)
            });
        }
    }

    /// `server_closed`: a child has closed its outputs or was reaped. Calls
    /// `handler_server_closed`.
    pub(super) fn server_closed(&mut self, child: ChildId) {
        self.core.call("handler_server_closed", |hooks, monitor| {
            hooks.handler_server_closed(monitor, child);
        });
    }

    /// `server_timeout_check`: calls `handler_server_timeout_check`.
    pub fn timeout_check(&mut self) {
        self.check_timeouts();
        self.perform();
    }

    pub(super) fn check_timeouts(&mut self) {
        self.core
            .call("handler_server_timeout_check", |hooks, monitor| {
                hooks.handler_server_timeout_check(monitor);
            });
    }

    /// `forkoff`: calls `handler_forkoff`. Children are forked inside of this call and never return
    /// from it.
    pub fn forkoff(&mut self) {
        self.decide_forkoff();
        self.perform();
    }

    pub(super) fn decide_forkoff(&mut self) {
        self.core.call("handler_forkoff", |hooks, monitor| {
            hooks.handler_forkoff(monitor)
        });
    }

    /// `server_fork`: calls `handler_server_fork`. A child is forked inside of this call and never
    /// returns from it.
    pub fn server_fork(&mut self) {
        self.want_fork();
        self.perform();
    }

    pub(super) fn want_fork(&mut self) {
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
