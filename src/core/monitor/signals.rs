//! Signals of the parent that lead to states of a subclass. Knows where they lead; installs nothing.

use super::*;
use crate::core::signal_policy::{self, Arrived, Leads, Wish};

impl Monitor {
    /// Has `signal` lead to `state` from now on: see [`States::signal`].
    pub fn signal(&mut self, signal: Signal, state: &str) {
        self.states.signal(signal, state);
        self.queue.push(Task::Lead(signal));
    }

    /// Which signals lead to states.
    pub(crate) fn leads(&self) -> &Leads {
        self.states.leads()
    }

    /// Posts the states that `arrived` leads to. Says what else it asks for, and whether some child
    /// may have ended.
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
