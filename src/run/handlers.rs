//! The documented handlers as methods of the loop, in the order of the document. Each calls its
//! hook; `perform.rs` does what the hook requests.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{
        child::ChildId,
        error::{self, Error, Operation},
        states::PostedState,
    },
    hooks::{ChildServer, PreForkHooks, defaults},
};
use std::io;

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Runs `act` between two turns, with the present time, and performs what it has queued.
    pub(super) fn by_hand(&mut self, act: impl FnOnce(&mut Self)) {
        // After the end no child may be forked: the loop would not reap it.
        if self.done || !self.is_here() {
            return;
        }
        self.parent.update_time();
        act(self);
        self.perform();
    }

    /// Whether this is the process that the server lives in, and not a copy that the program has forked.
    pub(super) fn is_here(&mut self) -> bool {
        self.settle();
        self.parent.system.is_owner()
    }

    pub(super) fn call_child(&mut self, error: &io::Error) {
        let ended = || {
            Error::new(
                Operation::Accept,
                "on the server's socket",
                error::copy(error),
            )
        };
        self.may_end_for(ended, |this| {
            this.call("handler_child", |hooks, monitor| {
                hooks.handler_child(monitor, error)
            });
        });
    }

    pub(super) fn call_stop(&mut self) {
        self.call_with_server("handler_stop", |hooks, monitor, server| {
            hooks.handler_stop(monitor, server)
        });
    }

    pub(super) fn call_run_error(
        &mut self,
        operation: Operation,
        error: &io::Error,
        child: Option<ChildId>,
    ) {
        let record = child.and_then(|child| self.parent.monitor.child(child));
        let object = record.map(|child| format!("child {}", child.pid()));
        let object = object.unwrap_or_default();
        let ended = || Error::new(operation, object, error::copy(error));
        self.may_end_for(ended, |this| {
            this.call("handler_run_error", |hooks, monitor| {
                hooks.handler_run_error(monitor, operation, error, child);
            });
        });
    }

    /// Notes why the server ends, if the called hook ends it.
    fn may_end_for(&mut self, why: impl FnOnce() -> Error, call: impl FnOnce(&mut Self)) {
        let ended_before = self.is_ending();
        call(self);
        if !ended_before && self.is_ending() {
            self.failure.get_or_insert_with(why);
        }
    }

    fn is_ending(&self) -> bool {
        let monitor = &self.parent.monitor;
        monitor.is_shutdown() || monitor.queue.has(&PostedState::Shutdown)
    }

    pub(super) fn call_shutdown(&mut self) {
        if !self.parent.monitor.is_shutdown() {
            let panics = self.parent.monitor.report.hook_panics;
            self.call("handler_shutdown", |hooks, monitor| {
                hooks.handler_shutdown(monitor)
            });
            // A hook that panics must not make the server one that cannot be stopped.
            if self.parent.monitor.report.hook_panics > panics {
                self.call("handler_shutdown", |hooks, monitor| {
                    defaults::handler_shutdown(hooks, monitor);
                });
            }
        }
        if self.parent.monitor.is_shutdown() {
            self.begin_drain();
        }
    }

    pub(super) fn call_server_closed(&mut self, child: ChildId) {
        self.call("handler_server_closed", |hooks, monitor| {
            hooks.handler_server_closed(monitor, child);
        });
    }

    pub(super) fn call_timeout_check(&mut self) {
        self.call("handler_server_timeout_check", |hooks, monitor| {
            hooks.handler_server_timeout_check(monitor);
        });
        self.note_intervals();
    }

    /// Notes which children keep the interval that `timeout` asks for. This comes after the check:
    /// the ACK that a child sent before it noted the interval may not have been read yet.
    fn note_intervals(&mut self) {
        for child in self.parent.ids() {
            if let Some(kept) = self.parent.system.kept_interval(child.slot()) {
                self.parent.monitor.note_interval(child, kept);
            }
        }
    }

    pub(super) fn call_forkoff(&mut self) {
        self.call("handler_forkoff", |hooks, monitor| {
            hooks.handler_forkoff(monitor)
        });
    }

    pub(super) fn call_server_fork(&mut self) {
        self.call("handler_server_fork", |hooks, monitor| {
            hooks.handler_server_fork(monitor)
        });
    }
}
