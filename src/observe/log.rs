//! What a server says by itself: the deaths that nobody asked for, to the log; and, while the program has
//! no logger, all warnings and errors to stderr. Never waits for a reader.

use super::Observer;
use crate::{
    core::{
        child::{Cause, Child, Death},
        event::Event,
        monitor::Monitor,
        say::{self, say},
    },
    sys::output,
};
use log::Level;
use std::fmt;

/// The observer that is always there. What has a warning of its own elsewhere (a start that failed, an
/// error on a child, a fork that failed) is not said twice.
#[derive(Debug)]
pub(crate) struct Log;

impl Observer for Log {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        if let Event::Exited { child, death } = event
            && let Some(how) = unasked(death)
        {
            say!(Warn, "{}", death_message(child, death, how));
        }
    }
}

/// How a child came to die that nobody had asked to.
fn unasked(death: &Death) -> Option<&'static str> {
    match death.cause() {
        Cause::Killed | Cause::Failed => Some("has died"),
        Cause::TimedOut => Some("has timed out and was ended"),
        Cause::Closed => Some("has closed its outputs and was ended"),
        _ => None,
    }
}

fn death_message(child: &Child, death: &Death, how: &str) -> String {
    let last_words = String::from_utf8_lossy(child.last_stderr());
    let pid = child.pid();
    format!("child {pid} {how}: {death}, last words {last_words:?}")
}

/// From now on what no logger hears goes to stderr.
pub(crate) fn stand_in() {
    say::set_fallback(to_stderr);
}

fn to_stderr(level: Level, text: fmt::Arguments<'_>) {
    let line = format!(
        "prefork-server: {}: {text}\n",
        level.as_str().to_lowercase()
    );
    output::write_stderr(line.as_bytes());
}
