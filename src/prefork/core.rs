//! The hooks and the books they are given, side by side, so that the one can be called with the
//! other while the loop holds everything else. Calls hooks; touches no system.

use crate::{child::ChildId, comm::Output, hooks::PreForkHooks, monitor::Monitor, os::poller};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

#[derive(Debug)]
pub(super) struct Core<H> {
    pub(super) hooks: H,
    pub(super) monitor: Monitor,
    /// Words heard since the loop last asked.
    pub(super) words: usize,
}

impl<H: PreForkHooks> Core<H> {
    pub(super) fn new(hooks: H, monitor: Monitor) -> Self {
        Self {
            hooks,
            monitor,
            words: 0,
        }
    }

    /// Calls a hook. A panic in it is logged and counted, and goes no further.
    pub(super) fn call(&mut self, name: &'static str, hook: impl FnOnce(&mut H, &mut Monitor)) {
        let Self { hooks, monitor, .. } = self;
        // The queue and the tables are changed in steps that do not panic half-way, so what a hook
        // has asked for before it panicked stands.
        let call = AssertUnwindSafe(|| monitor.naming(name, |monitor| hook(hooks, monitor)));
        if let Err(payload) = catch_unwind(call) {
            log::error!(
                "hook {} panicked: {}",
                self.monitor.hook,
                panic_text(&*payload)
            );
            self.monitor.report.hook_panics += 1;
        }
    }

    /// Hands on what was found in a child's output.
    pub(super) fn deliver(&mut self, child: ChildId, from: poller::Output, found: Output<'_>) {
        if let Output::Word(word) = found {
            self.words += 1;
            self.monitor.report.count_word(word);
            self.monitor.heard(child);
        }
        match (from, found) {
            (poller::Output::Comm, Output::Line(line)) => {
                log::debug!("{child} said {:?}, which is no word", line.bytes());
            }
            (poller::Output::Stderr, Output::Line(line)) => {
                if let Some(record) = self.monitor.pool.get_mut(child) {
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
pub(super) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}
