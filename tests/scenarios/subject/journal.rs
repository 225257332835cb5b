//! What the program writes down, as lines, and how a scenario reads it.
//!
//! The times are those of the parent's loop, so that two of them compare without the delays of the
//! scenario's own looking.

use std::time::Duration;

use crate::support::{SOON, Server, until};

/// One thing that happened in the parent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    pub at: Duration,
    pub event: String,
    /// The child that it happened to; 0 for none.
    pub pid: u32,
    pub rest: String,
}

/// The line for an entry.
pub(super) fn line(at: Duration, event: &str, pid: u32, rest: &str) -> String {
    format!("@{} {event} {pid} {rest}", at.as_micros())
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.strip_prefix('@')?.splitn(4, ' ');
    Some(Entry {
        at: Duration::from_micros(words.next()?.parse().ok()?),
        event: words.next()?.to_owned(),
        pid: words.next()?.parse().ok()?,
        rest: words.next()?.to_owned(),
    })
}

/// Everything that the server has written down so far.
#[track_caller]
pub fn journal(server: &Server) -> Vec<Entry> {
    let text = server.stdout();
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete.lines().filter_map(parse).collect()
}

/// The children to which `event` has happened, in that order.
#[track_caller]
pub fn pids(server: &Server, event: &str) -> Vec<u32> {
    let mut entries = journal(server);
    entries.retain(|entry| entry.event == event);
    entries.iter().map(|entry| entry.pid).collect()
}

/// Waits until `event` has happened to `pid`.
#[track_caller]
pub fn expect_entry(server: &Server, event: &str, pid: u32) -> Entry {
    until(&format!("{event} {pid} in the journal"), SOON, || {
        let mut entries = journal(server).into_iter();
        entries.find(|entry| entry.event == event && entry.pid == pid)
    })
}

/// Waits until `pid` has been reaped, and compares the cause and the status with `how`.
#[track_caller]
pub fn expect_exit(server: &Server, pid: u32, how: &str) -> Entry {
    let entry = expect_entry(server, "exited", pid);
    assert_eq!(entry.rest, how, "the end of {pid}");
    entry
}

/// The report that the server has printed at its end.
#[track_caller]
pub fn report(server: &Server) -> String {
    let text = server.stdout();
    let line = text.lines().find(|line| line.contains(" failed forks, "));
    line.unwrap_or_else(|| panic!("no report in {text}"))
        .to_owned()
}

/// How many deaths of that cause the report counts.
#[track_caller]
pub fn deaths(server: &Server, cause: &str) -> u64 {
    let report = report(server);
    let (deaths, _) = report.split_once(';').expect("the end of the deaths");
    let words: Vec<&str> = deaths.split_whitespace().collect();
    let pair = words.windows(2).find(|pair| pair[1] == cause);
    pair.map_or(0, |pair| pair[0].parse().expect("a number of deaths"))
}

/// The warning at the end of a stop, with what it has lost, and the number in the report.
#[track_caller]
pub fn expect_losses(server: &Server, losses: &str) {
    let warning = format!("the stop has lost {losses}\n");
    let stderr = server.stderr();
    assert!(stderr.contains(&warning), "{stderr}");
    let (count, _) = losses.split_once(' ').expect("a count");
    let counted = format!("; {count} connections lost, ");
    assert!(report(server).contains(&counted), "{}", report(server));
}

/// Waits until as many more checks for silence have been made.
#[track_caller]
pub fn await_checks(server: &Server, count: usize) {
    let wanted = pids(server, "check").len() + count;
    until("more timeout checks", SOON, || {
        (pids(server, "check").len() >= wanted).then_some(())
    });
}

/// No child was taken for silent, and none is dead.
#[track_caller]
pub fn nobody_was_blamed(server: &Server) {
    for event in ["silent-free", "silent-busy", "overtime", "exited"] {
        assert_eq!(pids(server, event), [], "{event}");
    }
}
