//! The built-in log: one line for each thing that an operator wants to know, and, while the program
//! has no logger, all warnings and errors on stderr. Never waits for a reader.

mod saturation;
#[cfg(test)]
mod tests;

use self::saturation::{SaturationLines, seconds};
use super::Observer;
use crate::{
    core::{
        child::{Cause, Child, ChildId, Death},
        config::Config,
        event::Event,
        monitor::Monitor,
        repeats::{EVERY, LeftOut, Repeats},
        say::{self, say},
        time::Time,
    },
    sys::output,
};
use log::Level;
use std::fmt;

/// The observer that every server has. It skips what has a message elsewhere: failed starts, errors
/// on children, failed forks, the end of a reload.
#[derive(Debug, Default)]
pub(crate) struct Log {
    listeners: Vec<String>,
    is_ready: bool,
    deaths: Repeats<String>,
    replacements: Repeats<()>,
    /// The youngest child that was there when the last reload began. It goes for the reload, and so do
    /// those that are older.
    before_reload: Option<ChildId>,
    saturation: SaturationLines,
}

impl Observer for Log {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        match *event {
            Event::ListenerOpened { name } => self.listeners.push(name.to_owned()),
            Event::Started => self.started(monitor),
            Event::Ready { .. } if !std::mem::replace(&mut self.is_ready, true) => ready(monitor),
            Event::Exited { child, death } => self.exited(monitor, child, death),
            Event::ReloadBegan { epoch } => self.reload_began(monitor, epoch),
            Event::Replaced { old, new } => self.replaced(monitor, old, new),
            // Settings that cannot be read leave an earlier reload under way.
            Event::ReloadFailed { .. } if !monitor.is_reloading() => self.before_reload = None,
            Event::Saturated { waiting, oldest } => {
                self.saturation.begin(monitor, waiting, oldest);
            }
            Event::Waiting { clients, oldest } => self.saturation.note(monitor, clients, oldest),
            Event::Relieved { after } => self.saturation.end(after),
            Event::StopAnnounced { begins_in } => {
                log::info!("a stop is announced, and begins in {begins_in:?}");
            }
            Event::ShuttingDown => self.stopping(monitor),
            Event::Ended => self.ended(monitor),
            Event::Turn { .. } => self.turn(monitor),
            _ => {}
        }
    }

    fn wake_at(&self) -> Option<Time> {
        let repeats = [self.deaths.next(), self.replacements.next()];
        let due = repeats.into_iter().chain([self.saturation.next()]);
        due.flatten().min()
    }
}

impl Log {
    fn started(&mut self, monitor: &Monitor) {
        let sockets = std::mem::take(&mut self.listeners).join(", ");
        let attributes = set_attributes(monitor.config());
        log::info!("started: listening on [{sockets}], with {attributes}");
    }

    fn exited(&mut self, monitor: &Monitor, child: &Child, death: &Death) {
        let Some(how) = unexpected(death) else {
            return;
        };
        let (kind, now) = (format!("{how}: {death}"), monitor.now());
        if self.deaths.note(kind.clone(), format_args!("{kind}"), now) {
            say!(Warn, "{}", death_message(child, death, how));
        }
    }

    fn reload_began(&mut self, monitor: &Monitor, epoch: u32) {
        let children = monitor.children().map(Child::id);
        self.before_reload = children.max_by_key(|child| child.serial());
        log::info!("reload: epoch {epoch} begins");
    }

    /// A reload replaces all children, and has lines of its own.
    fn replaced(&mut self, monitor: &Monitor, old: ChildId, new: ChildId) {
        let before = self.before_reload;
        let reloads = before.is_some_and(|youngest| old.serial() <= youngest.serial());
        let (old, new) = (name(monitor, old), name(monitor, new));
        let text = format_args!("child {old} is replaced by child {new}");
        if reloads {
            log::debug!("{text}");
        } else if self.replacements.note((), text, monitor.now()) {
            log::info!("{text}");
        }
    }

    fn turn(&mut self, monitor: &Monitor) {
        self.log_left_out(monitor.now());
        self.saturation.say_if_due(monitor, "");
    }

    fn log_left_out(&mut self, now: Time) {
        for LeftOut { count, last, .. } in self.deaths.take_due(now) {
            say!(Warn, "{count} more children: the child {last}");
        }
        for LeftOut { count, last, .. } in self.replacements.take_due(now) {
            log::info!("{last} ({count} times more)");
        }
    }

    fn stopping(&mut self, monitor: &Monitor) {
        let census = monitor.pool.census();
        log::info!("stopping: {} children, {} busy", census.live(), census.busy);
    }

    fn ended(&mut self, monitor: &Monitor) {
        // What is still counted would never be said.
        self.log_left_out(monitor.now() + EVERY);
        if monitor.losses().any() {
            say!(Warn, "the stop has lost {}", monitor.losses());
        }
        log::info!("stopped: {}", monitor.report());
    }
}

fn ready(monitor: &Monitor) {
    log::info!("ready after {}", seconds(monitor.now().since_start()));
}

/// The process id of a child; its name, if it has gone.
fn name(monitor: &Monitor, child: ChildId) -> String {
    let pid = monitor.child(child).map(|child| child.pid().to_string());
    pid.unwrap_or_else(|| child.to_string())
}

/// The attributes that differ from their defaults, as they were asked for.
fn set_attributes(config: &Config) -> String {
    let rows = Config::attributes().iter();
    let set = rows.filter(|row| row.value(config) != row.default());
    let set: Vec<String> = set
        .map(|row| format!("{} {}", row.name, row.value(config)))
        .collect();
    match set.is_empty() {
        true => "the defaults".to_owned(),
        false => set.join(", "),
    }
}

/// How a child has ended that was not told to by a hook, a cull or a shutdown.
fn unexpected(death: &Death) -> Option<&'static str> {
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
