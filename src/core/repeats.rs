//! Which messages of the log are left out because they were logged a moment ago, and how many. Gets
//! the time as an argument; logs nothing.

use crate::core::time::Time;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt, mem,
    time::Duration,
};

/// The shortest time between two messages of one kind.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// How many kinds are told apart. A log must not need memory without a bound.
const KINDS: usize = 64;

/// When a message of a kind was logged last, how many were left out since, and the last of them.
#[derive(Debug)]
struct LastLogged {
    at: Time,
    left_out: u64,
    last: String,
}

/// The messages of a kind that were left out.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct LeftOut<K> {
    /// `None` for all kinds that were too many to be told apart.
    pub(crate) kind: Option<K>,
    pub(crate) count: u64,
    /// The text of the last one.
    pub(crate) last: String,
}

/// The messages of the last ten seconds, by kind. The kind `None` is that of all further ones.
#[derive(Debug)]
pub(crate) struct Repeats<K>(BTreeMap<Option<K>, LastLogged>);

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Clone + Ord> Repeats<K> {
    /// Notes a message of a kind. True if it is to be logged now, false if it is left out.
    #[must_use]
    pub(crate) fn note(&mut self, kind: K, text: fmt::Arguments<'_>, now: Time) -> bool {
        let kind = Some(kind);
        let known = self.0.len() < KINDS || self.0.contains_key(&kind);
        match self.0.entry(if known { kind } else { None }) {
            Entry::Occupied(mut said) => {
                let said = said.get_mut();
                said.left_out += 1;
                said.last = text.to_string();
                false
            }
            Entry::Vacant(place) => {
                place.insert(LastLogged::first(now));
                true
            }
        }
    }

    /// The kinds of which messages were left out, when their time is over. Each is to be logged now,
    /// which counts as a message.
    #[must_use]
    pub(crate) fn take_due(&mut self, now: Time) -> Vec<LeftOut<K>> {
        self.0
            .retain(|_, said| said.left_out > 0 || now < said.at + EVERY);
        let due = self.0.iter_mut();
        let due = due.filter(|(_, said)| said.at + EVERY <= now);
        due.map(|(kind, said)| {
            let said = mem::replace(said, LastLogged::first(now));
            let (kind, count, last) = (kind.clone(), said.left_out, said.last);
            LeftOut { kind, count, last }
        })
        .collect()
    }

    /// When something is due, if nothing else happens.
    pub(crate) fn next(&self) -> Option<Time> {
        let left_out = self.0.values().filter(|said| said.left_out > 0);
        left_out.map(|said| said.at + EVERY).min()
    }
}

impl LastLogged {
    const fn first(at: Time) -> Self {
        Self {
            at,
            left_out: 0,
            last: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn left_out<K>(kind: K, count: u64, last: &str) -> LeftOut<K> {
        LeftOut {
            kind: Some(kind),
            count,
            last: last.to_owned(),
        }
    }

    #[test]
    fn a_message_is_logged_once_in_ten_seconds_and_the_others_are_counted() {
        let mut repeats = Repeats::default();
        let note = |repeats: &mut Repeats<char>, kind, second: u64| {
            repeats.note(kind, format_args!("{kind} at {second}"), at(second))
        };
        assert!(note(&mut repeats, 'a', 1));
        assert_eq!(repeats.next(), None);
        assert!(!note(&mut repeats, 'a', 2));
        assert!(note(&mut repeats, 'b', 3), "another kind");
        assert!(!note(&mut repeats, 'a', 4));
        assert_eq!(repeats.next(), Some(at(11)));
        assert_eq!(repeats.take_due(at(10)), []);
        assert_eq!(repeats.take_due(at(11)), [left_out('a', 2, "a at 4")]);
        // The sum was a message of that kind.
        assert!(!note(&mut repeats, 'a', 12));
        assert_eq!(repeats.next(), Some(at(21)));
        assert_eq!(repeats.take_due(at(21)), [left_out('a', 1, "a at 12")]);
        assert_eq!(repeats.take_due(at(31)), []);
        assert!(note(&mut repeats, 'a', 31) && note(&mut repeats, 'b', 31));
    }

    #[test]
    fn kinds_without_end_are_one_kind() {
        let mut repeats = Repeats::default();
        let mut logged = 0;
        for kind in 0..10_000 {
            logged += usize::from(repeats.note(kind, format_args!("{kind}"), at(1)));
        }
        assert_eq!(logged, KINDS + 1);
        let others = LeftOut {
            kind: None,
            count: 10_000 - KINDS as u64 - 1,
            last: "9999".to_owned(),
        };
        assert_eq!(repeats.take_due(at(11)), [others]);
        assert!(repeats.note(10_000, format_args!("new"), at(12)));
    }

    /// Whatever comes when, two lines of one kind are ten seconds apart, and nothing is forgotten.
    #[test]
    fn every_message_is_logged_or_counted() {
        let mut repeats = Repeats::default();
        let (mut told, mut last) = (0, None::<u64>);
        let mut line = |second: u64, messages: u64| {
            assert!(last.is_none_or(|last| second - last >= 10), "{second}");
            last = Some(second);
            told += messages;
        };
        let mut sent = 0;
        for second in 0..1000_u64 {
            for left_out in repeats.take_due(at(second)) {
                line(second, left_out.count);
            }
            for _ in 0..second * second % 7 {
                sent += 1;
                if repeats.note("a", format_args!("a"), at(second)) {
                    line(second, 1);
                }
            }
        }
        let rest: u64 = repeats
            .take_due(at(2000))
            .iter()
            .map(|left_out| left_out.count)
            .sum();
        assert_eq!(told + rest, sent);
    }
}
