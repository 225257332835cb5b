//! Tells observers what has happened, in order. Calls no hook, and does nothing in a child.

use super::{
    child::ChildSide,
    guarded::Callee,
    parent::ParentState,
    turn::{COUNT_EVERY, Loop},
};
use crate::{
    core::{event::Event, monitor::Monitor, system::System, time::Time},
    hooks::{ChildServer, PreForkHooks},
    observe::{Observer, Observers, status::Status},
};

impl<Y: System> ParentState<Y> {
    pub(super) fn set_status(&mut self, status: Status) {
        if status.is_on() {
            self.monitor.events.observe();
        }
        self.status = status;
    }

    pub(super) fn set_observers(&mut self, observers: Observers) {
        if !observers.is_empty() {
            self.monitor.events.observe();
        }
        self.observers = observers;
    }

    /// Tells observers `event`, after all earlier changes in the monitor.
    pub(super) fn emit(&mut self, event: &Event<'_>) {
        self.emit_pending();
        self.emit_one(event);
    }

    /// Tells observers the changes in the monitor: after a hook has returned, and before any other
    /// event.
    pub(super) fn emit_pending(&mut self) {
        while let Some(event) = self.monitor.events.pop() {
            self.emit_one(&event);
        }
    }

    /// Calls a hook about `event`. Observers are told the event after the hook has run, and before
    /// what the hook did.
    pub(super) fn call_and_emit(
        &mut self,
        name: &'static str,
        event: &Event<'_>,
        hook: impl FnOnce(&mut Monitor),
    ) {
        self.emit_pending();
        self.guarded(Callee::Hook(name), hook);
        self.emit_one(event);
        self.emit_pending();
    }

    /// When the log or the first of the observers wants to be told of a turn.
    pub(super) fn first_wake(&mut self) -> Option<Time> {
        let own = [self.log.wake_at(), self.status.wake_at()];
        let mut first = own.into_iter().flatten().min();
        let mut observers = std::mem::take(&mut self.observers);
        for (number, observer) in observers.iter_mut() {
            self.guarded(Callee::Observer(number), |_| {
                first = [first, observer.wake_at()].into_iter().flatten().min();
            });
        }
        self.observers = observers;
        first
    }

    fn emit_one(&mut self, event: &Event<'_>) {
        self.log.event(&self.monitor, event);
        #[cfg(feature = "usdt")]
        crate::observe::probes::event(&self.monitor, event);
        self.status.event(&self.monitor, event);
        // Taken out, so that the monitor can be lent. No event is lost: observers cannot cause
        // events.
        let mut observers = std::mem::take(&mut self.observers);
        for (number, observer) in observers.iter_mut() {
            self.guarded(Callee::Observer(number), |monitor| {
                observer.event(monitor, event);
            });
        }
        self.observers = observers;
        self.client_table.event(&self.monitor, event);
    }
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Tells observers the state at the end of a turn, and that the turn has ended.
    pub(super) fn emit_turn(&mut self) {
        if self.done {
            return;
        }
        if self.parent.monitor.is_in_saturation() {
            self.emit_waiting();
        }
        self.parent.wake_at = None;
        let next_in = self.longest_wait();
        self.parent.emit(&Event::Turn { next_in });
        self.parent.wake_at = self.parent.first_wake();
    }

    /// Tells observers the listeners, and that the server has started.
    pub(super) fn emit_start(&mut self) {
        let listeners = self.server.listeners().into_iter();
        self.listeners = listeners.map(|listener| listener.name).collect();
        for name in &self.listeners {
            self.parent.emit(&Event::ListenerOpened { name });
        }
        self.parent.emit(&Event::Started);
    }

    /// Asks the server object now and then how many connections were refused.
    pub(super) fn count_refusals(&mut self) {
        let now = self.parent.monitor.now();
        if self.count_refusals_at <= now {
            self.count_refusals_at = now + COUNT_EVERY;
            self.note_refusals();
        }
    }

    pub(super) fn note_refusals(&mut self) {
        self.parent.monitor.note_refusals(self.server.refusals());
        self.parent.emit_pending();
    }
}
