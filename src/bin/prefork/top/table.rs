//! The table of children: its columns, its order, and which rows a filter leaves. Pure: rows in, rows
//! out.

use crate::snapshot::{ChildEntry, plain, time};
use std::cmp::Ordering;

/// A column, by which the table can be sorted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Column {
    Pid,
    State,
    Age,
    Connections,
    Busy,
    Queued,
    Peer,
    Text,
}

impl Column {
    pub(super) const ALL: [Self; 8] = [
        Self::Pid,
        Self::State,
        Self::Age,
        Self::Connections,
        Self::Busy,
        Self::Queued,
        Self::Peer,
        Self::Text,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pid => "PID",
            Self::State => "STATE",
            Self::Age => "AGE",
            Self::Connections => "CONNS",
            Self::Busy => "BUSY",
            Self::Queued => "QUEUED",
            Self::Peer => "PEER",
            Self::Text => "DOES",
        }
    }

    /// Its width; the last takes what is left.
    pub(super) fn width(self) -> u16 {
        match self {
            Self::Pid => 8,
            Self::State => 9,
            Self::Age | Self::Busy | Self::Queued => 8,
            Self::Connections => 9,
            Self::Peer => 22,
            Self::Text => 0,
        }
    }

    /// The column that is so many columns away, around the ends.
    pub(super) fn next(self, by: isize) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self);
        let count = Self::ALL.len() as isize;
        let at = (at.unwrap_or(0) as isize + by).rem_euclid(count);
        Self::ALL.get(at as usize).copied().unwrap_or(self)
    }

    /// What a child has in this column.
    pub(super) fn text(self, slot: &ChildEntry) -> String {
        let optional = |seconds: Option<f64>| seconds.map_or(String::new(), time);
        let text = |text: &Option<String>| text.as_deref().map_or(String::new(), plain);
        match self {
            Self::Pid => slot.pid.to_string(),
            Self::State => plain(&slot.state),
            Self::Age => time(slot.age_seconds),
            Self::Connections => slot.connections.to_string(),
            Self::Busy => optional(slot.busy_seconds),
            Self::Queued => optional(slot.queued_seconds),
            Self::Peer => text(&slot.peer),
            Self::Text => text(&slot.text),
        }
    }

    /// The order of two children by this column: large numbers first, texts by their letters.
    fn compare(self, one: &ChildEntry, other: &ChildEntry) -> Ordering {
        let number = |one: f64, other: f64| other.total_cmp(&one);
        let optional = |one: Option<f64>, other: Option<f64>| {
            number(one.unwrap_or(-1.0), other.unwrap_or(-1.0))
        };
        match self {
            Self::Pid => one.pid.cmp(&other.pid),
            Self::State => rank(&one.state).cmp(&rank(&other.state)),
            Self::Age => number(one.age_seconds, other.age_seconds),
            Self::Connections => other.connections.cmp(&one.connections),
            Self::Busy => optional(one.busy_seconds, other.busy_seconds),
            Self::Queued => optional(one.queued_seconds, other.queued_seconds),
            Self::Peer => one.peer.cmp(&other.peer),
            Self::Text => one.text.cmp(&other.text),
        }
    }
}

/// Those who work come first.
fn rank(state: &str) -> usize {
    const STATES: [&str; 5] = ["busy", "stopping", "starting", "reserved", "free"];
    let at = STATES.iter().position(|known| *known == state);
    at.unwrap_or(STATES.len())
}

/// The children that the filter leaves, in this order.
pub(super) fn rows<'a>(
    slots: &'a [ChildEntry],
    filter: &str,
    by: Column,
    reversed: bool,
) -> Vec<&'a ChildEntry> {
    let mut rows: Vec<_> = slots.iter().filter(|slot| has(slot, filter)).collect();
    rows.sort_by(|one, other| {
        let order = by.compare(one, other);
        let order = if reversed { order.reverse() } else { order };
        // A table that is drawn twice a second must not dance.
        order.then(one.pid.cmp(&other.pid))
    });
    rows
}

/// Whether a child has each word of the filter in some column, whatever the case of its letters.
fn has(slot: &ChildEntry, filter: &str) -> bool {
    let row: Vec<_> = Column::ALL.iter().map(|column| column.text(slot)).collect();
    let row = row.join(" ").to_lowercase();
    let filter = filter.to_lowercase();
    filter.split_whitespace().all(|word| row.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    fn pids(filter: &str, by: Column, reversed: bool) -> Vec<u32> {
        let snapshot = snapshot();
        let rows = rows(&snapshot.slots, filter, by, reversed);
        rows.iter().map(|slot| slot.pid).collect()
    }

    #[test]
    fn each_column_has_its_order_and_the_other_way_round() {
        for (by, expected) in [
            (Column::Pid, [4712, 4713, 4799]),
            (Column::State, [4712, 4713, 4799]),
            (Column::Age, [4713, 4712, 4799]),
            (Column::Connections, [4713, 4712, 4799]),
            (Column::Busy, [4713, 4712, 4799]),
            (Column::Queued, [4712, 4713, 4799]),
            (Column::Peer, [4713, 4799, 4712]),
            (Column::Text, [4713, 4799, 4712]),
        ] {
            assert_eq!(pids("", by, false), expected, "{by:?}");
        }
        assert_eq!(pids("", Column::Age, true), [4799, 4712, 4713]);
    }

    #[test]
    fn a_filter_leaves_what_has_all_its_words() {
        assert_eq!(pids("reports", Column::Pid, false), [4712]);
        assert_eq!(pids("get BUSY", Column::Pid, false), [4712]);
        assert_eq!(pids("47 stopping", Column::Pid, false), [4713]);
        assert_eq!(pids("nothing", Column::Pid, false), [0; 0]);
    }

    #[test]
    fn columns_are_a_ring() {
        assert_eq!(Column::Pid.next(-1), Column::Text);
        assert_eq!(Column::Text.next(1), Column::Pid);
        assert_eq!(Column::Pid.next(2), Column::Age);
    }
}
