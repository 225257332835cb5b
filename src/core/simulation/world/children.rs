//! The children and their clients: what each does next, as in the stock servers. Injects no fault.

use super::{ModelEvent, Reachability, World, ms, us};
use crate::core::{
    child::ChildId,
    simulation::{
        kernel::KernelEntry,
        model::{Fault, ModelActivity},
    },
    time::Time,
};
use std::time::Duration;

/// How long a client may take at most, in microseconds: longer than any timeout, while the child
/// keeps saying ACK.
const SLOW_CLIENT: u64 = 20_000_000;

/// How much the clock lags at most by which a child notes when a connection begins, in microseconds.
pub(super) const CLOCK_LAG: u64 = 4_000;

/// After how many connections a child asks to be replaced, and after how many it leaves if it was not
/// replaced it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplaceAfter {
    pub(super) due_after: u32,
    pub(super) leaves_after: u32,
}

impl World {
    /// Whether the child of a slot has noted that it is to be replaced.
    pub(super) fn is_due(&mut self, slot: usize) -> bool {
        let has_place = slot < self.board.entries.len();
        let entry = self.kernel.in_slot(slot);
        has_place && entry.is_some_and(|entry| entry.model.due)
    }

    /// The private memory of a child: each connection leaks a mebibyte.
    pub(super) fn memory_of(&self, id: ChildId) -> Option<u64> {
        let model = self.kernel.get(id)?;
        (!model.is_dead()).then(|| u64::from(model.served) << 20)
    }

    pub(super) fn plan_step(&mut self, id: ChildId, after: Duration) {
        if let Some(model) = self.kernel.get_mut(id) {
            model.plan += 1;
            let plan = model.plan;
            self.at(after, ModelEvent::Step(id, plan));
        }
    }

    pub(super) fn step_of(&mut self, id: ChildId, plan: u32) {
        let fail = self.now < self.starts_fail_until;
        let Some(model) = self.kernel.get_mut(id) else {
            return;
        };
        if !model.acts() || model.plan != plan {
            return;
        }
        match model.activity {
            ModelActivity::Starting if fail => return self.fail_to_start(id),
            ModelActivity::Starting => {
                model.activity = ModelActivity::Waiting;
                model.say_ack();
                self.said(id);
                self.plan_ack(id);
                self.begin_free(id);
            }
            ModelActivity::Serving => {
                model.served += 1;
                model.client_since = None;
                self.board.end(id);
                let ReplaceAfter {
                    due_after,
                    leaves_after,
                } = self.recycling;
                if model.served >= leaves_after && !model.is_leaving() {
                    return self.end(id, 0);
                }
                if model.served == due_after {
                    model.due = true;
                    model.say_ack();
                    self.said(id);
                }
                self.after_a_connection(id);
            }
            ModelActivity::Waiting | ModelActivity::Dead(_) => {}
        }
        self.go_on(id);
    }

    /// Some starts fail in `server_start`, some in `resume_accept`, after the first ACK; a few of
    /// the latter because the socket was shut down for all children.
    fn fail_to_start(&mut self, id: ChildId) {
        let Some(model) = self.kernel.get_mut(id) else {
            return;
        };
        let accepts = model.pid.is_multiple_of(2);
        if accepts {
            model.say_ack();
        }
        self.socket_lost |= accepts && !self.faultless && self.random.one_in(500);
        let code = if accepts { 103 } else { 102 };
        self.end(id, code << 8);
    }

    /// A new child says NOT_BUSY before it waits for the first time, but not when a client is
    /// queued or when it is to leave.
    fn begin_free(&mut self, id: ChildId) {
        let no_client = self.queued_clients == 0;
        if let Some(model) = self.kernel.get_mut(id)
            && no_client
            && !model.is_leaving()
        {
            self.say_state(id);
        }
    }

    /// Says NOT_BUSY if no client is queued, or after each connection if words are not coalesced;
    /// never when the child is leaving.
    fn after_a_connection(&mut self, id: ChildId) {
        let no_client = self.queued_clients == 0 || !self.coalesces;
        let Some(model) = self.kernel.get_mut(id) else {
            return;
        };
        if model.is_leaving() || no_client {
            model.activity = ModelActivity::Waiting;
            if !model.is_leaving() {
                self.say_state(id);
            }
        }
    }

    /// A child without a client takes one, leaves if it was told to, or waits.
    pub(super) fn go_on(&mut self, id: ChildId) {
        let (now, drain) = (self.now, self.drain_timeout);
        let Some(model) = self.kernel.get_mut(id) else {
            return;
        };
        if !model.acts() || model.activity == ModelActivity::Starting {
            return;
        }
        let leaving = model.is_leaving();
        if self.queued_clients > 0 && !model.reserved && !(leaving && model.has_drained(now, drain))
        {
            self.take_client(id);
        } else if leaving {
            self.end(id, 0);
        }
    }

    fn take_client(&mut self, id: ChildId) {
        self.queued_clients -= 1;
        let now = self.now;
        // The cheap clock lags.
        let lag = us(self.random.below(CLOCK_LAG));
        let noted = Time::at(now.since_start().saturating_sub(lag));
        if let Some(model) = self.kernel.get_mut(id) {
            model.client_since = Some(now);
            let is_first = model.activity != ModelActivity::Serving;
            self.board.begin(id, noted);
            if is_first {
                model.activity = ModelActivity::Serving;
                self.say_state(id);
            }
        }
        let longest = if self.random.one_in(200) {
            SLOW_CLIENT
        } else {
            5_000
        };
        let work = us(100 + self.random.below(longest));
        self.plan_step(id, work);
    }

    /// Says whether it is busy: on the board, and on the pipe unless the parent will look.
    fn say_state(&mut self, id: ChildId) {
        let Some(model) = self.kernel.get_mut(id) else {
            return;
        };
        let silent = self.board.note(id, model.is_busy());
        if silent {
            model.stated = true;
        } else {
            model.say_state();
            self.said(id);
        }
    }

    /// Wakes the parent if one of its pipes has new bytes; the pipe may have had no room.
    pub(super) fn said(&mut self, id: ChildId) {
        if self.kernel.get(id).is_some_and(|model| model.unsaid) {
            self.at(ms(100), ModelEvent::SayAgain(id));
        }
        self.wake_for_words();
    }

    pub(super) fn say_again(&mut self, id: ChildId) {
        let Some(model) = self.kernel.get_mut(id) else {
            return;
        };
        let closed = model.is_mute();
        if model.acts() && model.unsaid && !closed && !model.is_leaving() {
            model.say_ack();
            self.said(id);
        }
    }

    fn plan_ack(&mut self, id: ChildId) {
        let interval = self.ack_interval;
        if let Some(model) = self.kernel.get_mut(id)
            && !interval.is_zero()
        {
            model.next_ack = Some(self.now + interval);
            self.at(interval, ModelEvent::Ack(id));
        }
    }

    pub(super) fn ack_of(&mut self, id: ChildId) {
        let now = self.now;
        let Some(model) = self.kernel.get_mut(id) else {
            return;
        };
        if !model.acts() || model.next_ack.is_none_or(|due| now < due) {
            return;
        }
        model.say_ack();
        self.said(id);
        self.plan_ack(id);
        self.go_on_if_waiting(id);
    }

    pub(super) fn go_on_if_waiting(&mut self, id: ChildId) {
        let waits = |activity| matches!(activity, ModelActivity::Waiting);
        if self
            .kernel
            .get(id)
            .is_some_and(|model| waits(model.activity))
        {
            self.go_on(id);
        }
    }

    /// Runs again after it was stopped: with the client in hand, and with all that is overdue.
    pub(super) fn resume(&mut self, id: ChildId) {
        let Some(model) = self.kernel.get_mut(id) else {
            return;
        };
        let (activity, acks) = (model.activity, model.next_ack.is_some());
        if matches!(activity, ModelActivity::Starting | ModelActivity::Serving) {
            self.plan_step(id, us(100));
        }
        if acks {
            self.at(us(50), ModelEvent::Ack(id));
        }
        self.go_on_if_waiting(id);
    }

    pub(super) fn clients(&mut self) {
        if !self.calm && self.reachability == Reachability::Open {
            self.queued_clients += self.random.below(6);
            let pause = us(500 + self.random.below(20_000));
            self.at(pause, ModelEvent::Clients);
        }
        self.offer_clients();
    }

    fn offer_clients(&mut self) {
        for slot in 0..self.kernel.slots() {
            if self.queued_clients == 0 {
                return;
            }
            if let Some(process) = self.kernel.in_slot(slot) {
                let id = process.id;
                self.go_on_if_waiting(id);
            }
        }
    }

    /// Whether a reserved child is of use here.
    pub(crate) fn can_shed(&self) -> bool {
        self.sheds
    }

    /// All children are busy: the reserved one turns some of the queued clients away.
    pub(crate) fn set_all_busy(&mut self, all_busy: bool) {
        let acts = |entry: &KernelEntry| entry.model.reserved && entry.model.acts();
        if all_busy && self.kernel.iter().any(acts) {
            self.queued_clients = self.random.below(1 + self.queued_clients);
        }
    }

    /// No further client is queued.
    pub(crate) fn refuse_clients(&mut self) {
        assert_eq!(self.reachability, Reachability::Open, "it is refused twice");
        self.reachability = Reachability::Shut { since: self.now };
    }

    /// The listeners are closed: queued clients are reset.
    pub(crate) fn close_listeners(&mut self) {
        self.check_close();
        self.reachability = Reachability::Closed;
        self.queued_clients = 0;
    }

    pub(crate) fn is_queued(&self) -> bool {
        self.queued_clients > 0
    }

    /// A child ends with a wait status. The kernel signals the parent a little later.
    pub(super) fn end(&mut self, id: ChildId, status: i32) {
        if let Some(model) = self.kernel.get_mut(id) {
            model.die(status);
            self.announce_death();
            self.wake_soon();
        }
    }

    pub(super) fn hurt(&mut self, id: ChildId, fault: Fault) {
        if let Some(model) = self.kernel.get_mut(id) {
            model.fault = Some(fault);
        }
    }
}
