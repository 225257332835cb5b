//! The signals of the parent: one table of what the parent does with each and what a child has
//! instead, and what the signals of a turn ask for. Decides; installs nothing and kills nobody.

use crate::core::child::Signal;
use std::collections::BTreeMap;

/// What the parent does with a signal from the start of a server to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum InParent {
    /// Counted, and the loop is woken.
    Handled,
    /// Ignored, unless the program has a handler of its own.
    Ignored,
    /// The default, if it was ignored.
    NotIgnored,
    /// What the program has.
    Left,
}

/// What a signal that is handled leads to, unless a subclass leads it to a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lead {
    /// The state `shutdown`.
    Shutdown,
    /// The state `shutdown`; during one, SIGKILL to the children that are left.
    ShutdownOrKill,
    /// A look for children that have ended.
    Deaths,
    /// Nothing.
    Nothing,
}

/// What a child has in place of the parent's disposition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum InChild {
    /// A handler of its own: it is told to stop.
    Stop,
    /// The default.
    Default,
    /// The default, if the parent has changed it.
    DefaultIfChanged,
    /// What the program had before the server started.
    AsBefore,
    /// The same as the parent.
    AsInParent,
}

/// One signal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) signal: Signal,
    pub(crate) parent: InParent,
    pub(crate) lead: Lead,
    pub(crate) child: InChild,
}

const fn row(signal: Signal, parent: InParent, lead: Lead, child: InChild) -> Row {
    Row {
        signal,
        parent,
        lead,
        child,
    }
}

/// Every signal that the parent does something about or that a subclass can lead to a state. The
/// others (SIGKILL, SIGSTOP, faults of the program) cannot be led anywhere.
pub(crate) const TABLE: [Row; 13] = [
    row(
        Signal::Terminate,
        InParent::Handled,
        Lead::Shutdown,
        InChild::Stop,
    ),
    row(
        Signal::Interrupt,
        InParent::Handled,
        Lead::ShutdownOrKill,
        InChild::Stop,
    ),
    row(
        Signal::Child,
        InParent::NotIgnored,
        Lead::Deaths,
        InChild::DefaultIfChanged,
    ),
    row(
        Signal::Pipe,
        InParent::Ignored,
        Lead::Nothing,
        InChild::AsInParent,
    ),
    row(
        Signal::FileSize,
        InParent::Ignored,
        Lead::Nothing,
        InChild::AsBefore,
    ),
    row(
        Signal::Alarm,
        InParent::Left,
        Lead::Nothing,
        InChild::Default,
    ),
    left(Signal::Quit),
    left(Signal::Hangup),
    left(Signal::User1),
    left(Signal::User2),
    left(Signal::BackgroundRead),
    left(Signal::BackgroundWrite),
    left(Signal::Window),
];

const fn left(signal: Signal) -> Row {
    row(signal, InParent::Left, Lead::Nothing, InChild::AsBefore)
}

/// The number of the row of `signal`, if it has one.
pub(crate) fn index(signal: Signal) -> Option<usize> {
    TABLE.iter().position(|row| row.signal == signal)
}

/// How often each signal has come since the last look, by row of the table.
pub(crate) type Arrived = [u64; TABLE.len()];

/// Signals that a subclass leads to states.
pub(crate) type Leads = BTreeMap<Signal, String>;

/// What whoever sent them wants, the more urgent the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Wish {
    #[default]
    Nothing,
    /// An orderly shutdown.
    Shutdown,
    /// SIGKILL for whoever is left.
    Kill,
}

/// What the signals of a turn ask for.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Demands<'a> {
    pub(crate) wish: Wish,
    /// Whether some child may have ended.
    pub(crate) deaths: bool,
    /// States of the subclass's, each once.
    pub(crate) states: Vec<&'a str>,
}

/// Says what the signals that have arrived ask for. A signal that a subclass leads to a state asks
/// for nothing else, but that a death is looked for all the same.
pub(crate) fn demands<'a>(arrived: &Arrived, leads: &'a Leads, is_shutdown: bool) -> Demands<'a> {
    let come = || TABLE.iter().zip(arrived).filter(|(_, count)| **count > 0);
    let count = |lead| -> u64 {
        let untaken = come().filter(|(row, _)| !leads.contains_key(&row.signal));
        let of_it = untaken.filter(|(row, _)| row.lead == lead);
        of_it.map(|(_, count)| count).sum()
    };
    Demands {
        wish: wish(
            count(Lead::Shutdown),
            count(Lead::ShutdownOrKill),
            is_shutdown,
        ),
        deaths: come().any(|(row, _)| row.lead == Lead::Deaths),
        states: come()
            .filter_map(|(row, _)| leads.get(&row.signal).map(String::as_str))
            .collect(),
    }
}

/// The first SIGTERM or SIGINT asks for a shutdown, every SIGINT after that for the end of patience. In
/// which order those of one turn came is not known: a SIGINT beside another signal is taken for the later.
fn wish(terminations: u64, interrupts: u64, is_shutdown: bool) -> Wish {
    let asked_already = is_shutdown || terminations > 0;
    match (asked_already, interrupts) {
        (true, 1..) | (false, 2..) => Wish::Kill,
        _ if terminations + interrupts > 0 => Wish::Shutdown,
        _ => Wish::Nothing,
    }
}

#[cfg(test)]
mod tests;
