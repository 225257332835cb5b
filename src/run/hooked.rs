//! Calling hooks with the monitor: a panic in one goes no further, and one that takes long is spoken
//! of. Decides nothing.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{child::ChildId, monitor::Monitor, slow_hooks::SLOW, system::Pipe, wire::Output},
    hooks::{ChildServer, PreForkHooks},
};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

/// Words heard.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Since the turn began.
    pub(super) in_turn: usize,
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Calls a hook. A panic in it is logged and counted, and goes no further; and so is a hook that
    /// keeps the parent from everything else for long. (Two readings of the clock, which is no system
    /// call, are a small part of what a word costs.)
    pub(super) fn call(&mut self, name: &'static str, hook: impl FnOnce(&mut H, &mut Monitor)) {
        self.call_with_server(name, |hooks, monitor, _| hook(hooks, monitor));
    }

    /// As [`call`](Self::call), for a hook that is given the server object.
    pub(super) fn call_with_server(
        &mut self,
        name: &'static str,
        hook: impl FnOnce(&mut H, &mut Monitor, &mut S),
    ) {
        let before = self.parent.system.now();
        self.call_caught(name, hook);
        let took = self.parent.system.now().since(before);
        if took >= SLOW {
            self.was_slow(name, took);
        }
    }

    fn call_caught(&mut self, name: &'static str, hook: impl FnOnce(&mut H, &mut Monitor, &mut S)) {
        let (hooks, server) = (&mut self.hooks, &mut self.server);
        let monitor = &mut self.parent.monitor;
        // The queue and the tables are changed in steps that do not panic half-way, so what a hook
        // has asked for before it panicked stands.
        let call =
            AssertUnwindSafe(|| monitor.naming(name, |monitor| hook(hooks, monitor, server)));
        if let Err(payload) = catch_unwind(call) {
            log::error!("hook {} panicked: {}", monitor.hook, panic_text(&*payload));
            monitor.report.hook_panics += 1;
        }
    }

    fn was_slow(&mut self, name: &'static str, took: Duration) {
        self.parent.monitor.report.slow_hooks += 1;
        if let Some(unsaid) = self.slow.note(self.parent.system.now()) {
            let inner = self.parent.monitor.last_hook;
            let inner = (inner != name).then(|| format!(", and in it {inner},"));
            log::warn!(
                "hook {name}{} took {} ms, in which the parent did nothing else \
                 ({unsaid} more were slow since the last warning)",
                inner.unwrap_or_default(),
                took.as_millis()
            );
        }
    }

    pub(super) fn note_requests(&mut self, child: ChildId) {
        let requests = self.parent.system.requests(child.slot());
        self.parent.monitor.note_requests(child, requests);
    }

    /// Hands on what was found in a child's output.
    pub(super) fn deliver(&mut self, child: ChildId, from: Pipe, found: Output<'_>) {
        self.reading.delivered += 1;
        if let Output::Word(word) = found {
            self.words.in_turn += 1;
            self.parent.monitor.report.count_word(word);
            self.parent.monitor.heard(child);
            self.note_requests(child);
        }
        match (from, found) {
            (Pipe::Comm, Output::Line(line)) => {
                log::debug!("{child} said {:?}, which is no word", line.bytes());
            }
            (Pipe::Stderr, Output::Line(line)) => {
                if let Some(record) = self.parent.monitor.pool.get_mut(child) {
                    record.note_stderr(line.bytes());
                }
                self.call("handler_server_stderr", |hooks, monitor| {
                    hooks.handler_server_stderr(monitor, child, line);
                });
            }
            _ => self.call("handler_server_ack", |hooks, monitor| {
                hooks.handler_server_ack(monitor, child, found);
            }),
        }
    }
}

/// What a panic said.
fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}
