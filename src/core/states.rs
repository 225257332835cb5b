//! The states that can be posted: the documented ones and those that a subclass registers in
//! `create_states`. Knows names; calls no hook.

use crate::core::{child::Signal, signal_policy::SignalStates};
use std::{any::Any, collections::BTreeSet};

/// The documented states, in the order of the original's documentation.
pub const DOCUMENTED_STATES: [&str; 11] = [
    "_start",
    "_child",
    "_stop",
    "run_error",
    "shutdown",
    "server_closed",
    "server_stderr",
    "server_ack",
    "server_timeout_check",
    "forkoff",
    "server_fork",
];

/// The state of ours that reloads, unless the subclass has one of that name.
const RELOAD: &str = "reload";
/// The same for the one that upgrades.
const UPGRADE: &str = "upgrade";

/// A state that was posted, by the loop itself or by a hook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum PostedState {
    Forkoff,
    ServerFork,
    ServerTimeoutCheck,
    Shutdown,
    ReopenLogs,
    Reload,
    Upgrade,
    /// A state of the subclass.
    State(String),
}

/// What a posted name leads to.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Resolved {
    Posted(PostedState),
    /// A documented state that cannot be posted: the loop calls it with arguments.
    NeedsArguments,
    Unknown,
}

/// Names a watched descriptor, to remove it later. No name is used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WatchId(u64);

impl WatchId {
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WatchInterest {
    Read,
    Write,
}

/// A descriptor of the subclass in the loop: the crate's duplicate and the state that it posts.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) id: WatchId,
    /// The descriptor, opaque here; the modules above pass it to the system.
    pub(crate) descriptor: Box<dyn Any>,
    pub(crate) readiness: WatchInterest,
    pub(crate) state: String,
}

/// The registry that `create_states` fills.
#[derive(Debug, Default)]
pub struct States {
    names: BTreeSet<String>,
    watches: Vec<Watch>,
    last_watch: u64,
    leads: SignalStates,
}

impl States {
    /// Registers `state`. When it is posted, `handler_state` is called.
    pub fn add(&mut self, state: &str) {
        self.names.insert(state.to_owned());
    }

    /// Whether `state` has been registered.
    pub fn contains(&self, state: &str) -> bool {
        self.names.contains(state)
    }

    /// All registered names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> + '_ {
        self.names.iter().map(String::as_str)
    }

    /// Registers `state`, and posts it when `signal` comes to the parent.
    ///
    /// It is POE's `sig`.
    ///
    /// The state is posted once for all signals of that kind since the last turn.
    ///
    /// The framework's own action for the signal is left out: a SIGTERM that posts a state does not
    /// shut the server down, unless the state is `shutdown`. Children have what the table of signals
    /// in `docs/handlers.md` says. It also lists the signals that can post a state; with another one
    /// the start fails.
    pub fn signal(&mut self, signal: Signal, state: &str) {
        if ![RELOAD, UPGRADE].contains(&state) {
            self.add(state);
        }
        self.leads.insert(signal, state.to_owned());
    }

    /// The signals that post states.
    pub(crate) fn leads(&self) -> &SignalStates {
        &self.leads
    }

    /// Registers `state`, to be posted whenever `descriptor` is ready.
    pub(crate) fn select(
        &mut self,
        descriptor: Box<dyn Any>,
        readiness: WatchInterest,
        state: &str,
    ) -> WatchId {
        self.add(state);
        self.last_watch += 1;
        let id = WatchId(self.last_watch);
        self.watches.push(Watch {
            id,
            descriptor,
            readiness,
            state: state.to_owned(),
        });
        id
    }

    pub(crate) fn take_watches(&mut self) -> Vec<Watch> {
        std::mem::take(&mut self.watches)
    }

    pub(crate) fn resolve(&self, state: &str) -> Resolved {
        Resolved::Posted(match state {
            "forkoff" => PostedState::Forkoff,
            "server_fork" => PostedState::ServerFork,
            "server_timeout_check" => PostedState::ServerTimeoutCheck,
            "shutdown" => PostedState::Shutdown,
            "reopen_logs" => PostedState::ReopenLogs,
            own if self.contains(own) && !DOCUMENTED_STATES.contains(&own) => {
                PostedState::State(own.to_owned())
            }
            RELOAD => PostedState::Reload,
            UPGRADE => PostedState::Upgrade,
            documented if DOCUMENTED_STATES.contains(&documented) => {
                return Resolved::NeedsArguments;
            }
            _ => return Resolved::Unknown,
        })
    }
}

#[cfg(test)]
mod tests;
