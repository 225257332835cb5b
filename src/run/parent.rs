//! The children and the system on which they run, in one type, so that neither outlives the other.
//! Ends the children of a server that is stopped or dropped; calls no hook.

use crate::{
    core::{
        child::{AFTER_KILL, Child, ChildId, Collected, Reason, Signal},
        control::Desk,
        event::Event,
        monitor::Monitor,
        notice::Notice,
        slow_hooks::SlowHooks,
        system::{Found, Pipe, Process, Reaped, System, Wait},
        time::Time,
    },
    listeners::socket_file::SocketFile,
    observe::{Observers, log::Log, status::Status},
};
use std::{io, time::Duration};

/// A server without its hooks.
#[derive(Debug)]
pub(super) struct Parent<Y: System> {
    pub(super) monitor: Monitor,
    pub(super) system: Y,
    pub(super) observers: Observers,
    pub(super) log: Log,
    /// The clients of the control socket.
    pub(super) desk: Desk,
    /// The file of the control socket.
    pub(super) control_file: Option<SocketFile>,
    pub(super) status: Status,
    /// When an observer wants to be told of a turn.
    pub(super) wake_at: Option<Time>,
    pub(super) slow: SlowHooks,
}

impl<Y: System> Parent<Y> {
    pub(super) fn new(monitor: Monitor, system: Y) -> Self {
        Self {
            monitor,
            system,
            observers: Observers::default(),
            log: Log::default(),
            desk: Desk::default(),
            control_file: None,
            status: Status::default(),
            wake_at: None,
            slow: SlowHooks::default(),
        }
    }

    /// Tells the monitor the time, when it is used between two turns.
    pub(super) fn tell_time(&mut self) {
        self.monitor.is_now(self.system.now());
    }

    pub(super) fn ids(&self) -> Vec<ChildId> {
        self.monitor.children().map(Child::id).collect()
    }

    /// Ends the children outside the loop.
    ///
    /// They are told to stop, given `kill_timeout`, then killed. Their output is read and dropped
    /// meanwhile, so that no child blocks on a full pipe. While `drains` returns true, they may
    /// serve queued clients; after that they see the parent's end, and accept no more.
    pub(super) fn end_children(&mut self, drains: impl FnMut(&Monitor) -> bool) {
        if self.monitor.pool.len() == 0 {
            return self.system.end_death_watch();
        }
        self.tell_all(Signal::Interrupt);
        let patience = self.system.now() + self.monitor.kill_timeout();
        self.await_deaths(patience, drains);
        self.system.end_death_watch();
        self.await_deaths(patience, |_| true);
        self.tell_all(Signal::Kill);
        self.await_deaths(self.system.now() + AFTER_KILL, |_| true);
        for child in self.ids() {
            self.monitor.notice(
                Notice::Unkillable,
                format_args!("child {child} cannot be killed"),
            );
        }
    }

    fn tell_all(&mut self, signal: Signal) {
        for id in self.ids() {
            self.monitor.retire(id, Reason::Shutdown);
            if let Err(error) = self.signal(id, signal) {
                log::debug!("{signal:?} to {id}: {error}");
            }
        }
    }

    /// Collects the status helper if it has ended.
    pub(super) fn reap_status(&mut self) {
        self.status.reap(&mut self.monitor);
    }

    /// Sends a signal now, unless the child is dead.
    pub(super) fn signal(&mut self, child: ChildId, signal: Signal) -> io::Result<()> {
        let contact = self.monitor.pool.contact(child);
        let Some(contact) = contact.filter(|contact| !contact.is_dead()) else {
            return Ok(());
        };
        // Where it was stuck can be seen only as long as it lives.
        let stuck = (signal == Signal::Kill).then(|| contact.process.stuck());
        if matches!(signal, Signal::Interrupt | Signal::Terminate) {
            contact
                .process
                .tell_to_leave(self.monitor.queued_clients(child));
        }
        let sent = contact.process.signal(signal);
        if let Some(stuck) = stuck.flatten() {
            self.monitor.note_stuck(child, stuck);
        }
        self.tell(&Event::Signalled {
            child,
            signal,
            error: sent.as_ref().err(),
        });
        sent
    }

    /// Waits until all children have been reaped, `until` has come, or `goes_on` returns false.
    fn await_deaths(&mut self, until: Time, mut goes_on: impl FnMut(&Monitor) -> bool) {
        /// How often to check for deaths that no event reports.
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        let mut ready = Vec::new();
        loop {
            let ids = self.ids();
            ids.into_iter().for_each(|id| self.end_one(id));
            self.tell_time();
            let goes_on = goes_on(&self.monitor);
            let now = self.monitor.now();
            if self.monitor.pool.len() == 0 || until <= now || !goes_on {
                return;
            }
            let wait = Wait::ForAnything(Some(until.since(now).min(LOOK_EVERY)));
            // OK to go on after a failure: the deaths are found by checking.
            let _ = self.system.wait(wait, &mut ready);
            self.system.signals(true);
        }
    }

    /// Reads what one child has written, and removes the child if it has ended.
    fn end_one(&mut self, id: ChildId) {
        let Some(contact) = self.monitor.pool.contact_mut(id) else {
            return;
        };
        for pipe in Pipe::ALL {
            self.monitor.report.output_dropped += discard(&mut contact.process, pipe);
        }
        match contact.collected() {
            Some(collected) => self.forget(id, collected),
            None => {
                if let Ok(Reaped::Ended(collected)) = contact.process.reap() {
                    self.forget(id, collected);
                }
            }
        }
    }

    fn forget(&mut self, id: ChildId, collected: Collected) {
        self.system.close_slot(id.slot());
        if let Some((child, death)) = self.monitor.exited(id, collected) {
            self.tell(&Event::Exited {
                child: &child,
                death: &death,
            });
        }
    }
}

/// Reads what a pipe holds, at most its default capacity, and returns the count of bytes.
fn discard(process: &mut dyn Process, pipe: Pipe) -> u64 {
    let mut buffer = [0; 4096];
    let mut total = 0;
    for _ in 0..16 {
        match process.read(pipe, &mut buffer) {
            Ok(Found::Bytes(count)) => total += count as u64,
            Ok(Found::Nothing | Found::End) | Err(_) => break,
        }
    }
    total
}

/// Ends a server that is dropped while children live, as in a panic of the program around it.
impl<Y: System> Drop for Parent<Y> {
    fn drop(&mut self) {
        if self.system.is_owner() {
            // What is queued is served, as in a stop, though new clients are let in meanwhile.
            let until = self.system.now() + self.monitor.drain_timeout();
            self.end_children(|monitor| monitor.now() < until);
            self.monitor.end_notices();
            self.status.end();
            self.system.close();
        }
    }
}
