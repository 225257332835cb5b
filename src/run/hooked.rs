//! The hooks and the books they are given, side by side, so that the one can be called with the
//! other while the loop holds everything else. Calls hooks, and looks at the clock for how long they
//! take; touches the system in no other way.

use crate::core::slow_hooks::{SLOW, SlowHooks};
use crate::{
    core::{child::ChildId, monitor::Monitor, wire::Output},
    hooks::PreForkHooks,
    sys::{clock::Clock, poller},
};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

#[derive(Debug)]
pub(super) struct Hooked<H> {
    pub(super) hooks: H,
    pub(super) monitor: Monitor,
    /// Words heard since the loop last asked.
    pub(super) words: usize,
    clock: Clock,
    slow: SlowHooks,
}

impl<H> Hooked<H> {
    /// Tells the books what time it is, when they are used between two turns.
    pub(super) fn tell_time(&mut self) {
        self.monitor.is_now(self.clock.now());
    }
}

impl<H: PreForkHooks> Hooked<H> {
    pub(super) fn new(hooks: H, monitor: Monitor, clock: Clock) -> Self {
        Self {
            hooks,
            monitor,
            words: 0,
            clock,
            slow: SlowHooks::default(),
        }
    }

    /// Calls a hook. A panic in it is logged and counted, and goes no further; and so is a hook that
    /// keeps the parent from everything else for long. (Two readings of the clock, which is no system
    /// call, are a small part of what a word costs.)
    pub(super) fn call(&mut self, name: &'static str, hook: impl FnOnce(&mut H, &mut Monitor)) {
        let before = self.clock.now();
        self.call_caught(name, hook);
        let took = self.clock.now().since(before);
        if took >= SLOW {
            self.was_slow(name, took);
        }
    }

    fn was_slow(&mut self, name: &'static str, took: Duration) {
        self.monitor.report.slow_hooks += 1;
        if let Some(unsaid) = self.slow.note(self.clock.now()) {
            let inner = self.monitor.last_hook;
            let inner = (inner != name).then(|| format!(", and in it {inner},"));
            log::warn!(
                "hook {name}{} took {} ms, in which the parent did nothing else \
                 ({unsaid} more were slow since the last warning)",
                inner.unwrap_or_default(),
                took.as_millis()
            );
        }
    }

    fn call_caught(&mut self, name: &'static str, hook: impl FnOnce(&mut H, &mut Monitor)) {
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
