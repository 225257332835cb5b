//! Targets, and whether what was measured has reached them. Measures nothing, and fails nothing: the
//! machine may have had other work.

use super::stats;
use std::cell::RefCell;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

thread_local! {
    static ROWS: RefCell<Vec<Vec<String>>> = const { RefCell::new(Vec::new()) };
}

/// Notes what was measured beside what was wanted.
pub(crate) fn hold(what: &str, target: Target, measured: f64) {
    let (wanted, reached) = match target {
        Target::AtMost(most) => (format!("≤ {most}"), measured <= most),
        Target::AtLeast(least) => (format!("≥ {least}"), measured >= least),
    };
    // No figure is no success.
    let verdict = if reached { "reached" } else { "missed" };
    let row = vec![
        what.to_owned(),
        wanted,
        format!("{measured:.3}"),
        verdict.to_owned(),
    ];
    ROWS.with_borrow_mut(|rows| rows.push(row));
}

/// Prints the verdicts of the whole run.
pub(crate) fn print() {
    ROWS.with_borrow(|rows| {
        if !rows.is_empty() {
            stats::table("Targets", &["", "target", "measured", ""], rows);
        }
    });
}
