//! Signals of the parent: those that post states of a subclass, and what the others ask for. Knows
//! the states and the stop; installs no handler.

use super::*;
use crate::core::{
    signal_policy::{self, Arrived, SignalStates},
    stop::{Manner, Moment, StopEffect, StopSignals},
};

impl Monitor {
    /// Posts `state` at each `signal` from now on: see [`States::signal`].
    pub fn signal(&mut self, signal: Signal, state: &str) {
        self.states.signal(signal, state);
        self.queue.push(Task::Lead(signal));
    }

    /// Posts `reopen_logs`, as SIGUSR1 to the parent does.
    pub fn reopen_logs(&mut self) {
        self.post_known(PostedState::ReopenLogs);
    }

    /// Tells every child to reopen its logs.
    ///
    /// A child of the framework gets SIGUSR1 and runs the callbacks of
    /// [`Comm::when_told_to_reopen`](crate::Comm::when_told_to_reopen). A program that
    /// [`ExecServer`](crate::ExecServer) runs gets its `reopen_signal`, if one is set.
    pub fn reopen_children(&mut self) {
        self.queue.push(Task::ReopenChildren);
    }

    /// When a stop that a signal has announced begins; `None` if none is announced.
    ///
    /// See the attribute `pre_stop_delay`.
    pub fn stop_begins_at(&self) -> Option<Time> {
        self.stop.begins_at()
    }

    /// The signals that post states.
    pub(crate) fn leads(&self) -> &SignalStates {
        self.states.leads()
    }

    /// Does what the signals that have `arrived` ask for, except for the stop.
    ///
    /// Returns what they make of the stop, and whether a child may have ended.
    pub(crate) fn act_on_signals(&mut self, arrived: &Arrived) -> (StopEffect, bool) {
        let demands = signal_policy::demands(arrived, self.states.leads());
        let signals = StopSignals {
            stops: demands.stops,
            unbounded_stops: demands.unbounded_stops,
        };
        for state in &demands.states {
            self.post(state);
        }
        if demands.reload {
            self.reload();
        }
        if demands.reopen {
            self.reopen_logs();
        }
        if demands.upgrade {
            self.upgrade();
        }
        self.resize(demands.raise, demands.lower);
        (self.take_stop_signals(signals), demands.deaths)
    }

    /// SIGTTIN and SIGTTOU.
    fn resize(&mut self, raise: u64, lower: u64) {
        let signed = |number: u64| isize::try_from(number).unwrap_or(isize::MAX);
        let change = signed(raise).saturating_sub(signed(lower));
        if change == 0 {
            return;
        }
        let clients = self.max_clients().saturating_add_signed(change).max(1);
        log::info!("max_clients is {clients} now");
        self.set_max_clients(clients);
        self.post_known(PostedState::Forkoff);
    }

    /// Asks for a stop that does not come from a signal; the loop [takes](Self::take_stop_effect) what
    /// follows.
    pub(crate) fn ask_stop(&mut self, manner: Manner) {
        let effect = self.stop.ask(manner, self.moment());
        self.announce(effect);
        self.effect = self.effect.max(effect);
    }

    /// What stops that do not come from signals ask for, once.
    #[must_use]
    pub(crate) fn take_stop_effect(&mut self) -> StopEffect {
        std::mem::take(&mut self.effect)
    }

    fn take_stop_signals(&mut self, signals: StopSignals) -> StopEffect {
        let effect = self.stop.take(signals, self.moment());
        self.announce(effect);
        effect
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            delay: self.attributes.pre_stop_delay,
            is_shutdown: self.shutdown,
        }
    }

    fn announce(&mut self, effect: StopEffect) {
        if effect == StopEffect::Announce {
            let begins_in = self.attributes.pre_stop_delay;
            self.happened(Event::StopAnnounced { begins_in });
        }
    }

    /// The second signal to stop: all children get SIGKILL.
    pub(crate) fn kill_all(&mut self) {
        self.stop.kill();
        let children: Vec<_> = self.children().map(Child::id).collect();
        for child in children {
            self.send(child, Signal::Kill);
            self.retire(child, Reason::Shutdown);
        }
    }

    /// Gives the children `shutdown_timeout` from now on, which had no bound before.
    ///
    /// One that was told to stop for another reason may have had more time left than that.
    pub(crate) fn bound_stop(&mut self) {
        let children: Vec<_> = self.children().map(Child::id).collect();
        for child in children {
            self.retire(child, Reason::Shutdown);
        }
    }
}

#[cfg(test)]
mod tests;
