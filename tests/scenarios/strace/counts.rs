//! System calls per connection, by kind, and their comparison with what was recorded. Writes the
//! record when asked to, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::log::{Call, Log};

/// How far a count may be above the recorded one unless its line says otherwise. The runs are made so
/// that they leave nothing to chance; this is for an interruption now and then.
const TOLERANCE: f64 = 0.1;
/// The parent hears two words that follow on each other in one turn or in two.
const TOLERANCE_OF_THE_PARENT: f64 = 1.5;

fn tolerance(kind: &str) -> f64 {
    if kind.starts_with("parent ") {
        TOLERANCE_OF_THE_PARENT
    } else {
        TOLERANCE
    }
}

/// Calls of one run, by who made them and which they are.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<String, f64>);

impl Counts {
    /// Counts what lies between the first connection and the order to stop: `parent read`,
    /// `child accept4-in-vain`, and so on.
    pub fn of(log: &Log, parent: u32) -> Self {
        let accepted = |call: &Call| call.name == "accept4" && !call.text.contains("= -1 ");
        let first = log.calls.iter().position(accepted);
        let first = first.expect("a connection");
        let mut counts = BTreeMap::new();
        for call in &log.calls[first..log.until_stopped] {
            // In a debug build std asks of each descriptor that it closes whether it is open.
            if call.text.contains("F_GETFD") {
                continue;
            }
            let who = if call.pid == parent {
                "parent"
            } else {
                "child"
            };
            // Calls that find nothing are what a regression in waiting shows in.
            let vain = if call.failed_with("EAGAIN") {
                "-in-vain"
            } else {
                ""
            };
            *counts
                .entry(format!("{who} {}{vain}", call.name))
                .or_default() += 1.0;
        }
        Self(counts)
    }

    /// What each of `connections` more has added to `few`.
    pub fn per_connection(&self, few: &Self, connections: usize) -> Self {
        let kinds: BTreeSet<&String> = self.0.keys().chain(few.0.keys()).collect();
        let count = |counts: &Self, kind: &String| counts.0.get(kind).copied().unwrap_or(0.0);
        let added = |kind| (count(self, kind) - count(few, kind)) / connections as f64;
        let all = kinds.into_iter().map(|kind| (kind.clone(), added(kind)));
        Self(all.filter(|(_, count)| *count > 0.0).collect())
    }
}

/// Panics if a count of the run `name` is above what was recorded; records it if `RECORD` is set.
pub fn compare(name: &str, counts: &Counts) {
    let mut table = String::new();
    for (kind, count) in &counts.0 {
        let tolerance = tolerance(kind);
        let _ = writeln!(table, "{name} {kind} {count:.2} {tolerance}");
    }
    eprintln!("{table}");
    let text = fs::read_to_string(path()).unwrap_or_default();
    if std::env::var_os("RECORD").is_some() {
        return record(name, &text, &table);
    }
    let recorded = recorded(name, &text);
    assert!(!recorded.is_empty(), "nothing recorded for {name}");
    let mut faults = Vec::new();
    for (kind, count) in &counts.0 {
        let (was, tolerance) = recorded
            .get(kind)
            .copied()
            .unwrap_or((0.0, tolerance(kind)));
        if *count > was + tolerance {
            faults.push(format!(
                "{kind}: {count:.2} a connection, recorded {was:.2}"
            ));
        }
    }
    for (kind, (was, tolerance)) in &recorded {
        let now = counts.0.get(kind).copied().unwrap_or(0.0);
        if now < was - tolerance {
            eprintln!("{kind}: {now:.2} a connection, recorded {was:.2}: record it again");
        }
    }
    assert!(
        faults.is_empty(),
        "{name} takes more than it did:\n{}\n(tests/guard.rs says how to record it again)",
        faults.join("\n")
    );
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/counts/recorded.txt")
}

/// Who and which call, with the count and the tolerance, of the lines that begin with `name`.
fn recorded(name: &str, text: &str) -> BTreeMap<String, (f64, f64)> {
    let lines = text.lines().filter_map(|line| {
        let [run, who, call, count, tolerance] = line
            .split_whitespace()
            .collect::<Vec<_>>()
            .try_into()
            .ok()?;
        let numbers = (count.parse().ok()?, tolerance.parse().ok()?);
        (run == name).then(|| (format!("{who} {call}"), numbers))
    });
    lines.collect()
}

/// Puts the lines of this run in the place of its old ones.
fn record(name: &str, text: &str, table: &str) {
    let of_others = text
        .lines()
        .filter(|line| line.split_whitespace().next() != Some(name));
    let others: String = of_others.map(|line| format!("{line}\n")).collect();
    fs::write(path(), others + table).expect("the record to be written");
}
