//! Signals of the parent that post states of a subclass. Knows the states; installs no handler.

use super::*;
use crate::core::signal_policy::{self, Arrived, Leads, Wish};

impl Monitor {
    /// Posts `state` at each `signal` from now on: see [`States::signal`].
    pub fn signal(&mut self, signal: Signal, state: &str) {
        self.states.signal(signal, state);
        self.queue.push(Task::Lead(signal));
    }

    /// The signals that post states.
    pub(crate) fn leads(&self) -> &Leads {
        self.states.leads()
    }

    /// Posts the states of the signals that have `arrived`.
    ///
    /// Returns what else the signals ask for, and whether a child may have ended.
    pub(crate) fn act_on_signals(&mut self, arrived: &Arrived) -> (Wish, bool) {
        let leads = self.states.leads();
        let demands = signal_policy::demands(arrived, leads, self.is_shutdown());
        let rest = (demands.wish, demands.deaths);
        let states: Vec<String> = demands.states.into_iter().map(str::to_owned).collect();
        for state in states {
            self.post(&state);
        }
        rest
    }
}
