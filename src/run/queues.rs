//! The clients that wait at the sockets while all children are busy: when they are counted, and who is
//! told. Opens and reads no socket itself.

use super::{
    child::ChildSide,
    turn::{COUNT_EVERY, Loop},
};
use crate::{
    core::{
        event::Event,
        monitor::Monitor,
        saturation::{Change, Saturation},
        time::Time,
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::time::Duration;

/// How often the loop looks at the queues when all children have just become busy, and while they
/// are for longer: the ages of clients follow from the looks before.
const LOOK_AHEAD_EVERY: Duration = Duration::from_millis(20);
const LOOK_ON_EVERY: Duration = Duration::from_millis(100);

/// What is known of the clients that wait.
#[derive(Debug, Default)]
pub(super) struct WaitingClients {
    /// The clients that observers were told to be waiting, and when to count them again.
    waiting: u32,
    count_at: Time,
    /// When the queues were looked at for the ages of their clients, and when they are again.
    looked_at: Time,
    look_at: Option<Time>,
    /// Whether the system does not tell how many clients wait.
    unknown: bool,
}

impl WaitingClients {
    /// When they are to be looked at, if nothing happens before.
    pub(super) fn look_at(&self) -> Option<Time> {
        self.look_at
    }
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Calls the hook and tells observers when the server has become saturated, and when that is
    /// over.
    pub(super) fn watch_saturation(&mut self) {
        match self.parent.monitor.observe_saturation() {
            Some(Change::Begins { since }) => self.begin_saturation(since),
            Some(Change::Ends { after }) => self.parent.emit(&Event::Relieved { after }),
            None => {}
        }
    }

    fn begin_saturation(&mut self, since: Time) {
        let (waiting, oldest) = self.look_at_queues();
        self.queues.count_at = self.parent.monitor.now() + COUNT_EVERY;
        self.queues.waiting = waiting.unwrap_or(0);
        let event = Event::Saturated { waiting, oldest };
        let episode = Saturation {
            since,
            waiting,
            oldest,
        };
        let hooks = self.hooks.current();
        let hook = |monitor: &mut Monitor| hooks.saturated(monitor, &episode);
        self.parent.call_and_emit("saturated", &event, hook);
    }

    /// How many clients wait, which the system is asked now and then.
    pub(super) fn emit_waiting(&mut self) {
        if self.parent.monitor.now() < self.queues.count_at {
            return;
        }
        self.queues.count_at = self.parent.monitor.now() + COUNT_EVERY;
        let (clients, oldest) = self.look_at_queues();
        let clients = clients.unwrap_or(0);
        if clients != std::mem::replace(&mut self.queues.waiting, clients) {
            self.parent.emit(&Event::Waiting { clients, oldest });
        }
    }

    /// How many clients are queued at all sockets, and for how long the first has been, at least;
    /// `None` if that is not known of any.
    fn look_at_queues(&mut self) -> (Option<u32>, Option<Duration>) {
        self.queues.looked_at = self.parent.monitor.now();
        let listeners = self.server.listeners();
        let queued = listeners.iter().filter_map(|listener| listener.queued);
        let oldest = listeners.iter().filter_map(|listener| listener.oldest);
        let queued = queued.reduce(u32::saturating_add);
        self.queues.unknown = queued.is_none();
        (queued, oldest.max())
    }

    /// Looks at the queues from when a saturation may be about to begin, until it is over.
    pub(super) fn look_ahead(&mut self) {
        let now = self.parent.monitor.now();
        self.queues.look_at = self.next_look_ahead();
        if self.queues.look_at.is_some_and(|at| at <= now) {
            self.look_at_queues();
            self.queues.look_at = self.next_look_ahead();
        }
    }

    fn next_look_ahead(&self) -> Option<Time> {
        let monitor = &self.parent.monitor;
        let every = if monitor.saturation_comes() {
            LOOK_AHEAD_EVERY
        } else if monitor.is_in_saturation() {
            LOOK_ON_EVERY
        } else {
            return None;
        };
        (!self.queues.unknown).then_some(self.queues.looked_at + every)
    }
}
