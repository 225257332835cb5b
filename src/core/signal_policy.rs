//! The signals of the parent: a table of what the parent and a child do with each, and what the
//! signals of a turn ask for. Decides; installs no handler and sends no signal.

use crate::core::child::Signal;
use std::collections::BTreeMap;

/// What the parent does with a signal from the start of a server to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum InParent {
    /// Counted, and the loop is woken.
    Handled,
    /// Ignored, unless the program has a handler of its own.
    Ignored,
    /// Handled if the attribute `resize_signals` is on, otherwise ignored.
    Resizing,
    /// Set to the default, if it was ignored.
    NotIgnored,
    /// Left as the program has it.
    Left,
}

/// What a handled signal leads to, unless a subclass has it post a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SignalEffect {
    /// A stop within `shutdown_timeout`; SIGKILL to the remaining children at the next one.
    Stop,
    /// A stop without a bound.
    UnboundedStop,
    /// The state `reload`.
    Reload,
    /// The state `reopen_logs`.
    Reopen,
    /// An upgrade.
    Upgrade,
    /// One child more in `max_clients`.
    Raise,
    /// One child less in `max_clients`.
    Lower,
    /// A check for children that have ended.
    Deaths,
    /// Nothing.
    Nothing,
}

impl SignalEffect {
    /// Whether it asks for a stop of the server.
    #[cfg(test)]
    pub(crate) const fn stops(self) -> bool {
        matches!(self, Self::Stop | Self::UnboundedStop)
    }
}

/// The disposition that a child has in place of the parent's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum InChild {
    /// A handler of the child's own, which tells it to stop.
    Stop,
    /// The same, if the parent handles the signal.
    StopIfHandled,
    /// A handler of the child's own, which has it reopen its logs, if the parent handles the
    /// signal.
    ReopenIfHandled,
    /// No effect, if the parent handles the signal and the program had the default.
    NothingIfHandled,
    /// Ignored, if the parent has changed it and the program had the default. A program that the
    /// child becomes has the default.
    IgnoredIfChanged,
    /// The default.
    Default,
    /// The default, if the parent has changed it.
    DefaultIfChanged,
    /// What the program had before the server started.
    AsBefore,
    /// The same as in the parent.
    AsInParent,
}

impl InChild {
    /// Whether it tells the child to stop.
    pub(crate) const fn stops(self) -> bool {
        matches!(self, Self::Stop | Self::StopIfHandled)
    }
}

/// What the holder of a server does with a signal that comes to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(feature = "holder"),
    allow(dead_code, reason = "there is no holder")
)]
pub(crate) enum InHolder {
    /// Hears it, and passes it on to the parent.
    PassesOn,
    /// Hears it, and reaps who has ended.
    Reaps,
    /// Leaves it: it comes from what a process does itself.
    Left,
}

/// The table's row of one signal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignalRow {
    pub(crate) signal: Signal,
    pub(crate) parent: InParent,
    pub(crate) lead: SignalEffect,
    pub(crate) child: InChild,
    #[cfg_attr(
        not(feature = "holder"),
        allow(dead_code, reason = "there is no holder")
    )]
    pub(crate) holder: InHolder,
}

macro_rules! table {
    ($($signal:ident: $parent:ident, $lead:ident, $child:ident, $holder:ident;)*) => {
        /// Every signal that the parent acts on or that can post a state of a subclass. The others
        /// (SIGKILL, SIGSTOP, faults of the program) cannot.
        pub(crate) const TABLE: [SignalRow; [$(Signal::$signal),*].len()] = [$(
            SignalRow {
                signal: Signal::$signal,
                parent: InParent::$parent,
                lead: SignalEffect::$lead,
                child: InChild::$child,
                holder: InHolder::$holder,
            },
        )*];
    };
}

// What the parent does, what that leads to there, what a child does, what the holder does.
table! {
    Terminate:       Handled,    Stop,        Stop,             PassesOn;
    Interrupt:       Handled,    Stop,        Stop,             PassesOn;
    Quit:            Handled,    UnboundedStop, StopIfHandled,    PassesOn;
    Hangup:          Handled,    Reload,      NothingIfHandled, PassesOn;
    User1:           Handled,    Reopen,      ReopenIfHandled,  PassesOn;
    User2:           Handled,    Upgrade,     NothingIfHandled, PassesOn;
    BackgroundRead:  Resizing,   Raise,       IgnoredIfChanged, PassesOn;
    BackgroundWrite: Resizing,   Lower,       IgnoredIfChanged, PassesOn;
    Child:           NotIgnored, Deaths,      DefaultIfChanged, Reaps;
    Pipe:            Ignored,    Nothing,     AsInParent,       Left;
    FileSize:        Ignored,    Nothing,     AsBefore,         Left;
    Window:          Ignored,    Nothing,     AsBefore,         PassesOn;
    Alarm:           Left,       Nothing,     Default,          PassesOn;
}

/// Which signals a server takes over, by its attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenSignals {
    pub(crate) handle_signals: bool,
    pub(crate) resize_signals: bool,
}

impl TakenSignals {
    /// What the parent does with the signal of `row`, unless a subclass handles it.
    pub(crate) fn action(self, row: &SignalRow) -> InParent {
        match row.parent {
            InParent::NotIgnored => InParent::NotIgnored,
            _ if !self.handle_signals => InParent::Left,
            InParent::Resizing if self.resize_signals => InParent::Handled,
            InParent::Resizing => InParent::Ignored,
            action => action,
        }
    }
}

/// The index of the row of `signal`, if it has one.
pub(crate) fn index(signal: Signal) -> Option<usize> {
    TABLE.iter().position(|row| row.signal == signal)
}

/// Whether the signal tells a child to stop, where signals are handled or are not.
pub(crate) fn stops_a_child(signal: Signal, handled: bool) -> bool {
    let mut rows = TABLE.iter().filter(|row| row.signal == signal);
    rows.any(|row| match row.child {
        InChild::Stop => true,
        InChild::StopIfHandled => handled,
        _ => false,
    })
}

/// How often each signal has come since the last look, by row of the table.
pub(crate) type Arrived = [u64; TABLE.len()];

/// The states that signals post, as a subclass has registered them.
pub(crate) type SignalStates = BTreeMap<Signal, String>;

/// What the signals of a turn ask for.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Demands {
    /// How often a stop was asked for, within `shutdown_timeout` and without a bound.
    pub(crate) stops: u64,
    pub(crate) unbounded_stops: u64,
    /// Whether a reload was asked for.
    pub(crate) reload: bool,
    /// Whether the logs are to be reopened.
    pub(crate) reopen: bool,
    /// Whether an upgrade was asked for.
    pub(crate) upgrade: bool,
    /// By how much `max_clients` is to be raised and lowered.
    pub(crate) raise: u64,
    pub(crate) lower: u64,
    /// Whether a child may have ended.
    pub(crate) deaths: bool,
    /// States of the subclass to be posted, each once.
    pub(crate) states: Vec<String>,
}

/// Returns what the signals that have arrived ask for.
///
/// A signal that posts a state of a subclass asks for nothing else, except that SIGCHLD still leads
/// to a check for children that have ended.
pub(crate) fn demands(arrived: &Arrived, leads: &SignalStates) -> Demands {
    let come = || TABLE.iter().zip(arrived).filter(|(_, count)| **count > 0);
    let count = |lead| -> u64 {
        let untaken = come().filter(|(row, _)| !leads.contains_key(&row.signal));
        let of_it = untaken.filter(|(row, _)| row.lead == lead);
        of_it.map(|(_, count)| count).sum()
    };
    Demands {
        stops: count(SignalEffect::Stop),
        unbounded_stops: count(SignalEffect::UnboundedStop),
        reload: count(SignalEffect::Reload) > 0,
        reopen: count(SignalEffect::Reopen) > 0,
        upgrade: count(SignalEffect::Upgrade) > 0,
        raise: count(SignalEffect::Raise),
        lower: count(SignalEffect::Lower),
        deaths: come().any(|(row, _)| row.lead == SignalEffect::Deaths),
        states: come()
            .filter_map(|(row, _)| leads.get(&row.signal).cloned())
            .collect(),
    }
}

#[cfg(test)]
mod tests;
