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
    /// Set to the default, if it was ignored.
    NotIgnored,
    /// Left as the program has it.
    Left,
}

/// What a handled signal leads to, unless a subclass has it post a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lead {
    /// The state `shutdown`.
    Shutdown,
    /// The state `shutdown`; during a shutdown, SIGKILL to the remaining children.
    ShutdownOrKill,
    /// A check for children that have ended.
    Deaths,
    /// Nothing.
    Nothing,
}

/// The disposition that a child has in place of the parent's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum InChild {
    /// A handler of the child's own, which tells it to stop.
    Stop,
    /// The default.
    Default,
    /// The default, if the parent has changed it.
    DefaultIfChanged,
    /// What the program had before the server started.
    AsBefore,
    /// The same as in the parent.
    AsInParent,
}

/// The table's row of one signal.
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

/// Every signal that the parent acts on or that can post a state of a subclass. The others
/// (SIGKILL, SIGSTOP, faults of the program) cannot.
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

/// The index of the row of `signal`, if it has one.
pub(crate) fn index(signal: Signal) -> Option<usize> {
    TABLE.iter().position(|row| row.signal == signal)
}

/// How often each signal has come since the last look, by row of the table.
pub(crate) type Arrived = [u64; TABLE.len()];

/// The states that signals post, as a subclass has registered them.
pub(crate) type Leads = BTreeMap<Signal, String>;

/// How the signals ask the server to end. A more urgent value is greater.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Wish {
    #[default]
    Nothing,
    /// An orderly shutdown.
    Shutdown,
    /// SIGKILL for the remaining children.
    Kill,
}

/// What the signals of a turn ask for.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Demands<'a> {
    pub(crate) wish: Wish,
    /// Whether a child may have ended.
    pub(crate) deaths: bool,
    /// States of the subclass to be posted, each once.
    pub(crate) states: Vec<&'a str>,
}

/// Returns what the signals that have arrived ask for.
///
/// A signal that posts a state of a subclass asks for nothing else, except that SIGCHLD still leads
/// to a check for children that have ended.
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

/// The first SIGTERM or SIGINT asks for a shutdown, every SIGINT after that for SIGKILL.
///
/// The order of signals within one turn is not known: a SIGINT together with another signal counts
/// as the later one.
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
