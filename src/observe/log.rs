//! The built-in log: warnings of children that ended by themselves and, while the program has no
//! logger, all warnings and errors on stderr. Never waits for a reader.

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

/// The observer that every server has. It skips what has a warning elsewhere: failed starts, errors
/// on children, failed forks.
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

/// How a child has ended that was not told to by a hook, a cull or a shutdown.
fn unasked(death: &Death) -> Option<&'static str> {
    match death.cause() {
        Cause::Killed | Cause::Failed | Cause::Lost => Some("has died"),
        Cause::OutOfMemory => Some("was ended by the kernel for lack of memory"),
        Cause::TimedOut => Some("has timed out and was ended"),
        Cause::Overtime => Some("has exceeded busy_timeout and was ended"),
        Cause::Closed => Some("has closed its outputs and was ended"),
        _ => None,
    }
}

fn death_message(child: &Child, death: &Death, how: &str) -> String {
    let details = death.details();
    format!("child {} {how}: {death} {details}", child.pid())
}

/// Writes to stderr the messages for which there is no logger, from now on.
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
