//! The loop of the reserved child as a state machine: while all others are busy it takes what is too
//! old from the queues. Decides; holds no socket and reads no clock.

use super::{queue_log::QueueLook, shedding::AgeLimits, sweep::Sweep};
use crate::core::time::Time;
use std::time::Duration;

/// How many connections it takes from a queue at most between two looks at its orders.
const AT_ONCE: usize = 256;
/// For how long it keeps what it knows of the queues while another child is free. Near the capacity
/// of a server one is free again and again, and a new view takes a tenth of a second.
const REMEMBERS: Duration = Duration::from_secs(1);

/// What the reserved child is to do next.
///
/// The caller answers each with one of the observations that it names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReserveAction {
    /// Find out what it was told and whether all others are busy: [`ReserveSaw::ToldToStop`],
    /// [`ReserveSaw::AllBusy`] or [`ReserveSaw::OneFree`].
    CheckIn,
    /// Sleep until all others are busy, or there are orders: [`ReserveSaw::Woken`].
    Sleep,
    /// Wait until the next look at the queues: [`ReserveSaw::Woken`].
    Pause(Duration),
    /// Look at the queue of a listener: [`ReserveSaw::Looked`] or [`ReserveSaw::Unknown`].
    Look {
        listener: usize,
    },
    /// Find out how many connections have been taken from it: another child may have been faster.
    /// [`ReserveSaw::Taken`] or [`ReserveSaw::Unknown`].
    Count {
        listener: usize,
    },
    /// Take a connection: [`ReserveSaw::Found`] or [`ReserveSaw::NothingQueued`].
    Accept {
        listener: usize,
    },
    /// Refuse the connection, or serve it if it is not old at all: [`ReserveSaw::Done`].
    TurnAway {
        is_old: bool,
    },
    Leave,
}

/// What the reserved child has observed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReserveSaw {
    ToldToStop,
    AllBusy,
    OneFree,
    Woken,
    Looked(QueueLook),
    Taken(u64),
    /// The age of the connections is not known, or they are not counted.
    Unknown,
    /// A connection was accepted that had been queued for this time.
    Found {
        queued: Duration,
    },
    NothingQueued,
    Done,
}

/// What it is doing: the action that `step` returned last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ReserveActivity {
    CheckingIn,
    Sleeping {
        since: Time,
    },
    Pausing,
    Looking(usize),
    /// With how many it may still take from this queue.
    Counting(usize, usize),
    Accepting(usize, usize),
    TurningAway(usize, usize),
    Leaving,
}

/// The loop of the reserved child.
#[derive(Debug)]
pub(crate) struct ReserveMachine {
    doing: ReserveActivity,
    limits: Option<AgeLimits>,
    /// What it knows of each queue.
    sweeps: Vec<Sweep>,
    at_once: usize,
}

impl ReserveMachine {
    /// Makes the machine of a new child, which is to check in. Without limits nothing is too old.
    pub(crate) fn new(limits: Option<AgeLimits>, listeners: usize) -> Self {
        let sweeps = limits.map(|limits| (0..listeners).map(move |_| Sweep::new(limits)));
        Self {
            doing: ReserveActivity::CheckingIn,
            limits,
            sweeps: sweeps.into_iter().flatten().collect(),
            at_once: AT_ONCE,
        }
    }

    /// Returns the next action. An observation that does not answer the last one begins a new pass.
    pub(crate) fn step(&mut self, seen: ReserveSaw, now: Time) -> ReserveAction {
        use ReserveSaw as Saw;
        match (self.doing, seen) {
            (ReserveActivity::Leaving, _) | (ReserveActivity::CheckingIn, Saw::ToldToStop) => {
                self.leave()
            }
            (ReserveActivity::CheckingIn, Saw::AllBusy) => self.look(0),
            (ReserveActivity::CheckingIn, Saw::OneFree) => self.sleep(now),
            (ReserveActivity::Sleeping { since }, Saw::Woken) => self.slept(now.since(since)),
            (ReserveActivity::Looking(listener), Saw::Looked(look)) => self.looked(listener, look),
            (ReserveActivity::Counting(listener, left), Saw::Taken(taken)) => {
                self.counted(listener, left, taken, now)
            }
            (ReserveActivity::Accepting(listener, left), Saw::Found { queued }) => {
                self.found(listener, left, queued, now)
            }
            (ReserveActivity::TurningAway(listener, left), Saw::Done) => {
                self.count(listener, left - 1)
            }
            (
                ReserveActivity::Looking(listener) | ReserveActivity::Counting(listener, _),
                Saw::Unknown,
            )
            | (ReserveActivity::Accepting(listener, _), Saw::NothingQueued) => {
                self.look(listener + 1)
            }
            _ => self.check_in(),
        }
    }

    fn leave(&mut self) -> ReserveAction {
        self.doing = ReserveActivity::Leaving;
        ReserveAction::Leave
    }

    fn check_in(&mut self) -> ReserveAction {
        self.doing = ReserveActivity::CheckingIn;
        ReserveAction::CheckIn
    }

    fn sleep(&mut self, now: Time) -> ReserveAction {
        self.doing = ReserveActivity::Sleeping { since: now };
        ReserveAction::Sleep
    }

    fn slept(&mut self, time: Duration) -> ReserveAction {
        if time > REMEMBERS
            && let Some(limits) = self.limits
        {
            self.sweeps.fill_with(|| Sweep::new(limits));
        }
        self.check_in()
    }

    /// The queue of this listener is next; after the last one comes a pause.
    fn look(&mut self, listener: usize) -> ReserveAction {
        if listener < self.sweeps.len() {
            self.doing = ReserveActivity::Looking(listener);
            ReserveAction::Look { listener }
        } else {
            self.doing = ReserveActivity::Pausing;
            let every = self.limits.map(AgeLimits::look_every);
            ReserveAction::Pause(every.unwrap_or(Duration::MAX))
        }
    }

    fn looked(&mut self, listener: usize, look: QueueLook) -> ReserveAction {
        self.sweeps[listener].note(look);
        self.count(listener, self.at_once)
    }

    fn count(&mut self, listener: usize, left: usize) -> ReserveAction {
        if left == 0 {
            return self.look(listener + 1);
        }
        self.doing = ReserveActivity::Counting(listener, left);
        ReserveAction::Count { listener }
    }

    fn counted(&mut self, listener: usize, left: usize, taken: u64, now: Time) -> ReserveAction {
        if !self.sweeps[listener].takes_next(taken, now) {
            return self.look(listener + 1);
        }
        self.doing = ReserveActivity::Accepting(listener, left);
        ReserveAction::Accept { listener }
    }

    fn found(
        &mut self,
        listener: usize,
        left: usize,
        queued: Duration,
        now: Time,
    ) -> ReserveAction {
        self.doing = ReserveActivity::TurningAway(listener, left);
        let is_old = !self.sweeps[listener].is_young(queued, now);
        ReserveAction::TurnAway { is_old }
    }
}

#[cfg(test)]
mod tests;
