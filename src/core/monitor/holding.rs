//! What a parent that has a holder notes of its pool for the parent after it, and how that one takes
//! the pool over. Decides and converts; `core/journal.rs` has the records.

use super::*;
use crate::core::{
    journal::FailureNote,
    stop::{Manner, StopState},
    system::PoolNote,
};

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
        }
    }

    fn stop_state(&self) -> StopState {
        let is_patient = self.stop.is_patient();
        match (self.shutdown, self.stop.begins_at()) {
            (true, _) => StopState::Begun { is_patient },
            (false, Some(_)) => StopState::Announced { is_patient },
            (false, None) => StopState::None,
        }
    }

    /// In a parent whose holder has taken over children of an earlier program: the same children, reached
    /// as those of the holder.
    pub(crate) fn regain(&mut self, children: Vec<(Child, Box<Contact>)>) {
        let serial = self.pool.last_serial();
        self.pool.adopt(children, serial);
    }

    /// The upgrade by which this program has come is over, and so is the reload that was a part of it.
    pub(crate) fn forget_upgrade(&mut self) {
        self.upgrade.end();
        self.replacement.clear();
    }

    /// Goes on with what the parent before had begun: the stop, and the retirement of these children.
    /// Their time begins anew.
    pub(crate) fn go_on(&mut self, stop: StopState, told: &[ChildId]) {
        for child in told {
            self.stop(*child, Reason::Asked);
        }
        match stop {
            StopState::None => {}
            StopState::Announced { is_patient: true } => self.ask_stop(Manner::Patient),
            StopState::Announced { is_patient: false } => self.ask_stop(Manner::Bounded),
            StopState::Begun { is_patient } => {
                self.stop.go_on(is_patient);
                self.shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::stop::Wish;

    fn monitor() -> Monitor {
        let config = Config {
            pre_stop_delay: Duration::from_secs(1),
            ..Config::default()
        };
        Monitor::with_attributes(Attributes::from(config))
    }

    /// A stop that has been asked for is not forgotten with the parent that has heard of it, and one
    /// without a bound gets none.
    #[test]
    fn a_stop_goes_on_where_it_was() {
        for (manner, is_patient) in [(Manner::Bounded, false), (Manner::Patient, true)] {
            let mut first = monitor();
            assert_eq!(first.pool_note(false, None).stop, StopState::None);
            first.ask_stop(manner);
            assert_eq!(first.take_wish(), Wish::Announce);
            let announced = first.pool_note(false, None).stop;
            assert_eq!(announced, StopState::Announced { is_patient });
            let mut next = monitor();
            next.go_on(announced, &[]);
            assert_eq!(next.take_wish(), Wish::Announce);
            assert!(next.stop_begins_at().is_some());
            assert_eq!(next.stop.is_patient(), is_patient);
            first.begin_shutdown();
            let begun = first.pool_note(false, None).stop;
            assert_eq!(begun, StopState::Begun { is_patient });
            let mut last = monitor();
            last.go_on(begun, &[]);
            assert!(last.queue.has(&Posted::Shutdown));
            last.begin_shutdown();
            assert_eq!(last.stop.is_patient(), is_patient);
        }
    }
}
