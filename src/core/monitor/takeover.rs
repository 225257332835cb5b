//! What a parent that has a holder notes of its pool for the parent after it, and how that one takes
//! the pool over. Decides and converts; `core/journal.rs` has the records.

use super::*;
use crate::core::{
    notes::{FailureNote, PoolNote, RetirementNote},
    stop::StopState,
    upgrade::UpgradeNote,
};

/// A child that the parent before has told to stop, or was about to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetiredBefore {
    pub(crate) child: ChildId,
    /// Whether that parent has begun to send it a signal.
    pub(crate) was_sent: bool,
    /// `None` if a hook has sent the signal, which does not make the child retire.
    pub(crate) why: Option<RetirementNote>,
}

impl RetiredBefore {
    /// The signal that has told it; `None` for one that has closed its outputs and is told later.
    fn signal(&self) -> Option<Signal> {
        match self.why.map(|why| why.reason) {
            Some(Reason::Closed) if !self.was_sent => None,
            Some(Reason::Faulty) => Some(Signal::Kill),
            _ => Some(Signal::Interrupt),
        }
    }
}

impl Monitor {
    /// What is noted at the end of each turn.
    pub(crate) fn pool_note(&self, renewed: bool, failure: Option<FailureNote>) -> PoolNote {
        PoolNote {
            epoch: self.replacement.epoch(),
            serial: self.pool.last_serial(),
            owed: self.owed as u64,
            stop: self.stop_state(),
            failure,
            renewed,
            reload_asked: self.queue.has(&PostedState::Reload),
            upgrade: self.upgrade.note(),
        }
    }

    fn stop_state(&self) -> StopState {
        let terms = self.stop.terms();
        match (self.shutdown, self.stop.begins_at()) {
            (true, _) => StopState::Begun(terms),
            (false, Some(_)) => StopState::Announced(terms),
            (false, None) => StopState::None,
        }
    }

    /// In a parent whose holder has taken over children of an earlier program: the same children, reached
    /// as those of the holder.
    pub(crate) fn regain(&mut self, children: Vec<(Child, Box<Contact>)>) {
        let serial = self.pool.last_serial();
        self.pool.adopt(children, serial);
    }

    /// Goes on with the upgrade by which this program has come, as the parent before has left it. It is
    /// over if the program before cannot be executed again. Returns how far it is now.
    pub(crate) fn go_on_with_upgrade(
        &mut self,
        left: UpgradeNote,
        may_return: bool,
    ) -> UpgradeNote {
        match left {
            UpgradeNote::Proving if may_return => {}
            UpgradeNote::Returning if may_return => self.returns_still(),
            _ => {
                self.forget_upgrade();
                return UpgradeNote::Over;
            }
        }
        left
    }

    /// The upgrade is over, together with the reload that was a part of it.
    fn forget_upgrade(&mut self) {
        self.upgrade.end();
        self.replacement.clear();
    }

    /// Goes on with the way back of the parent before: the children of this program have failed.
    fn returns_still(&mut self) {
        self.replacement.clear();
        self.upgrade.come_back(self.now);
    }

    /// Goes on with what the parent before had begun: the stop, a reload, and the retirement of these
    /// children, for whom it is as if that parent had lived on.
    pub(crate) fn go_on(&mut self, stop: StopState, told: &[RetiredBefore]) {
        if let StopState::Begun(terms) = stop {
            // The time of those who were told to stop depends on it.
            self.stop.was_begun(terms);
        }
        told.iter().for_each(|it| self.retires_still(it));
        match stop {
            StopState::None => {
                self.repeat_stop_signals(told);
                self.reloads_still();
            }
            StopState::Announced(terms) => {
                self.repeat_stop_signals(told);
                self.reloads_still();
                self.ask_stop(terms.manner());
                self.stop.go_on(terms);
            }
            // That tells all children.
            StopState::Begun(_) => self.shutdown(),
        }
    }

    /// Takes over why a child was told to stop, and when; also of one that has ended since.
    fn retires_still(&mut self, before: &RetiredBefore) {
        let retirement = before.why.map(|why| Retirement {
            at: why.at,
            ..self.retirement(why.reason)
        });
        let Some(child) = self.pool.get_mut(before.child) else {
            return;
        };
        if before.signal().is_some() {
            child.flags |= ChildFlags::INT_SENT;
        }
        if retirement.is_none() {
            child.flags |= ChildFlags::ASKED;
            return;
        }
        child.retirement = retirement;
        if child.state == State::Busy {
            child.flags |= ChildFlags::BUSY_WHEN_TOLD;
        }
        self.pool.set_state(before.child, State::Retiring);
        self.observe_surplus();
    }

    /// The parent before may have been killed before it had sent the signal.
    fn repeat_stop_signals(&mut self, told: &[RetiredBefore]) {
        for before in told {
            if let Some(signal) = before.signal() {
                self.send(before.child, signal);
            }
        }
    }

    /// What a parent after this one is to know of a child that was told to stop.
    pub(crate) fn retirement_note(&self, child: ChildId) -> Option<RetirementNote> {
        let Retirement { reason, at, .. } = self.pool.get(child)?.retirement?;
        Some(RetirementNote { reason, at })
    }
}

#[cfg(test)]
mod tests;
