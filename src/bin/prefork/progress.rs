//! What a server of the command says on stderr of a reload and of a stop: a line each. Changes nothing.

use prefork_server::{Event, Monitor, Observer};
use std::io::{self, Write};
use std::time::Duration;

/// Says when a reload is complete, and for whom a stop waits.
#[derive(Debug)]
pub(crate) struct ProgressNotes;

impl Observer for ProgressNotes {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        match event {
            Event::Reloaded { replaced, took, .. } => {
                let children = children(*replaced);
                say(&format!(
                    "reload: {children} replaced in {:.1} s",
                    took.as_secs_f64()
                ));
            }
            Event::ShuttingDown => stopping(serving(monitor)),
            _ => {}
        }
    }
}

/// A child that has a connection for less is about to answer, and the wait of a stop is not noticed.
const NOTICED: Duration = Duration::from_millis(500);

/// How many have had a connection in hand for some time. They have been told to stop by now, so none is
/// busy.
fn serving(monitor: &Monitor) -> u64 {
    let began = monitor.children().filter_map(|child| child.busy_since());
    began
        .filter(|began| monitor.now().since(*began) >= NOTICED)
        .count() as u64
}

fn stopping(busy: u64) {
    let (serve, them) = match busy {
        0 => return,
        1 => ("still serves", "it"),
        _ => ("still serve", "them"),
    };
    let children = children(busy);
    say(&format!(
        "stopping: {children} {serve}; a second Ctrl-C ends {them}"
    ));
}

fn children(count: u64) -> String {
    match count {
        1 => "1 child".to_owned(),
        _ => format!("{count} children"),
    }
}

/// OK to ignore errors: there is no other place to report it.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "prefork: {line}");
}
