//! The children and the system on which they run, in one type, so that neither outlives the other.
//! Calls no hook.

use crate::{
    core::{
        child::{Child, ChildId, Signal},
        control::ClientTable,
        event::Event,
        monitor::Monitor,
        slow_hooks::SlowHooks,
        system::System,
        time::Time,
    },
    listeners::socket_file::SocketFile,
    observe::{Observers, log::Log, status::Status},
};
use std::io;

/// A server without its hooks.
#[derive(Debug)]
pub(super) struct ParentState<Y: System> {
    pub(super) monitor: Monitor,
    pub(super) system: Y,
    pub(super) observers: Observers,
    pub(super) log: Log,
    /// The clients of the control socket.
    pub(super) client_table: ClientTable,
    /// The file of the control socket.
    pub(super) control_file: Option<SocketFile>,
    pub(super) status: Status,
    /// When an observer wants to be told of a turn.
    pub(super) wake_at: Option<Time>,
    pub(super) slow: SlowHooks,
}

impl<Y: System> ParentState<Y> {
    pub(super) fn new(monitor: Monitor, system: Y) -> Self {
        Self {
            monitor,
            system,
            observers: Observers::default(),
            log: Log::default(),
            client_table: ClientTable::default(),
            control_file: None,
            status: Status::default(),
            wake_at: None,
            slow: SlowHooks::default(),
        }
    }

    /// Tells the monitor the time, when it is used between two turns.
    pub(super) fn update_time(&mut self) {
        self.monitor.is_now(self.system.now());
    }

    pub(super) fn ids(&self) -> Vec<ChildId> {
        self.monitor.children().map(Child::id).collect()
    }

    /// Collects the status helper if it has ended.
    pub(super) fn reap_status(&mut self) {
        self.status.reap(&mut self.monitor);
    }

    /// Sends a signal now, unless the child is dead.
    pub(super) fn signal(&mut self, child: ChildId, signal: Signal) -> io::Result<()> {
        #[cfg(feature = "holder")]
        self.note_retirement(child);
        let contact = self.monitor.pool.contact(child);
        let Some(contact) = contact.filter(|contact| !contact.is_dead()) else {
            return Ok(());
        };
        // Where it was stuck can be seen only as long as it lives.
        let stuck = (signal == Signal::Kill).then(|| contact.process.stuck());
        if self.monitor.tells_to_stop(signal) {
            contact
                .process
                .tell_to_leave(self.monitor.queued_clients(child));
        }
        let sent = contact.process.signal(signal);
        if let Some(stuck) = stuck.flatten() {
            self.monitor.note_stuck(child, stuck);
        }
        self.emit(&Event::Signalled {
            child,
            signal,
            error: sent.as_ref().err(),
        });
        sent
    }
}
