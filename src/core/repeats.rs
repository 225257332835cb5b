//! Which messages of the log are left out because they were logged a moment ago, and how many. Gets
//! the time as an argument; logs nothing.

use crate::core::time::Time;
use std::{collections::BTreeMap, time::Duration};

/// The shortest time between two messages of one kind.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// How many kinds are told apart. A log must not need memory without a bound.
const KINDS: usize = 32;
/// The kind of all others.
const OTHERS: &str = "other messages";

/// When a message of a kind was logged last, and how many were left out since.
#[derive(Debug)]
struct Said {
    at: Time,
    unsaid: u64,
}

/// The messages of the last ten seconds, by kind.
#[derive(Debug, Default)]
pub(crate) struct Repeats(BTreeMap<String, Said>);

impl Repeats {
    /// Notes a message of a kind. True if it is to be logged now, false if it is left out.
    #[must_use]
    pub(crate) fn note(&mut self, kind: &str, now: Time) -> bool {
        let known = self.0.len() < KINDS || self.0.contains_key(kind);
        let kind = if known { kind } else { OTHERS };
        match self.0.get_mut(kind) {
            Some(said) => {
                said.unsaid += 1;
                false
            }
            None => {
                let said = Said { at: now, unsaid: 0 };
                self.0.insert(kind.to_owned(), said);
                true
            }
        }
    }

    /// The kinds of which messages were left out, with their number, when their time is over. Each
    /// is to be logged now, which counts as a message.
    #[must_use]
    pub(crate) fn take_due(&mut self, now: Time) -> Vec<(String, u64)> {
        self.0
            .retain(|_, said| said.unsaid > 0 || now < said.at + EVERY);
        let due = self.0.iter_mut();
        let due = due.filter(|(_, said)| said.at + EVERY <= now);
        due.map(|(kind, said)| {
            said.at = now;
            (kind.clone(), std::mem::take(&mut said.unsaid))
        })
        .collect()
    }

    /// When something is due, if nothing else happens.
    pub(crate) fn next(&self) -> Option<Time> {
        let unsaid = self.0.values().filter(|said| said.unsaid > 0);
        unsaid.map(|said| said.at + EVERY).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_message_is_logged_once_in_ten_seconds_and_the_others_are_counted() {
        let mut repeats = Repeats::default();
        assert!(repeats.note("a", at(1)));
        assert_eq!(repeats.next(), None);
        assert!(!repeats.note("a", at(2)));
        assert!(repeats.note("b", at(3)), "another kind");
        assert!(!repeats.note("a", at(4)));
        assert_eq!(repeats.next(), Some(at(11)));
        assert_eq!(repeats.take_due(at(10)), []);
        assert_eq!(repeats.take_due(at(11)), [("a".to_owned(), 2)]);
        // The sum was a message of that kind.
        assert!(!repeats.note("a", at(12)));
        assert_eq!(repeats.next(), Some(at(21)));
        assert_eq!(repeats.take_due(at(21)), [("a".to_owned(), 1)]);
        assert_eq!(repeats.take_due(at(31)), []);
        assert!(repeats.note("a", at(31)) && repeats.note("b", at(31)));
    }

    #[test]
    fn kinds_without_end_are_one_kind() {
        let mut repeats = Repeats::default();
        let mut logged = 0;
        for kind in 0..10_000 {
            logged += usize::from(repeats.note(&kind.to_string(), at(1)));
        }
        assert_eq!(logged, KINDS + 1);
        let due = repeats.take_due(at(11));
        assert_eq!(due, [(OTHERS.to_owned(), 10_000 - KINDS as u64 - 1)]);
        assert!(repeats.note("new", at(12)));
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
            for (_, count) in repeats.take_due(at(second)) {
                line(second, count);
            }
            for _ in 0..second * second % 7 {
                sent += 1;
                if repeats.note("a", at(second)) {
                    line(second, 1);
                }
            }
        }
        let rest: u64 = repeats
            .take_due(at(2000))
            .iter()
            .map(|(_, count)| count)
            .sum();
        assert_eq!(told + rest, sent);
    }
}
