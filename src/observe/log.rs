//! The built-in log: one line for each thing that an operator wants to know, and, while the program
//! has no logger, all warnings and errors on stderr. Never waits for a reader.

use super::Observer;
use crate::{
    core::{
        child::{Cause, Child, ChildId, Death},
        config::Config,
        event::Event,
        monitor::Monitor,
        repeats::{EVERY, Repeats},
        say::{self, say},
        time::Time,
    },
    sys::output,
};
use log::Level;
use std::{fmt, time::Duration};

/// The observer that every server has. It skips what has a message elsewhere: failed starts, errors
/// on children, failed forks, the end of a reload.
#[derive(Debug, Default)]
pub(crate) struct Log {
    listeners: Vec<String>,
    is_ready: bool,
    deaths: Repeats,
    saturation: SaturationLines,
}

/// The two lines of an episode of saturation: when clients are known to wait, and at its end. An
/// episode has none within ten seconds of the last one that had.
#[derive(Debug, Default)]
struct SaturationLines {
    lasts: bool,
    said_at: Option<Time>,
    /// Whether the begin of the present episode was logged.
    is_said: bool,
    /// The most clients that have waited in it.
    most: u32,
}

impl Observer for Log {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        match *event {
            Event::ListenerOpened { name } => self.listeners.push(name.to_owned()),
            Event::Started => self.started(monitor),
            Event::Ready { .. } if !std::mem::replace(&mut self.is_ready, true) => ready(monitor),
            Event::Exited { child, death } => self.exited(monitor, child, death),
            Event::ReloadBegan { epoch } => log::info!("reload: epoch {epoch} begins"),
            Event::Replaced { old, new } => replaced(monitor, old, new),
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
        self.deaths.next()
    }
}

impl Log {
    fn started(&mut self, monitor: &Monitor) {
        let sockets = std::mem::take(&mut self.listeners).join(", ");
        let attributes = set_attributes(monitor.config());
        log::info!("started: listening on [{sockets}], with {attributes}");
    }

    fn exited(&mut self, monitor: &Monitor, child: &Child, death: &Death) {
        let Some(how) = unasked(death) else {
            return;
        };
        if self.deaths.note(&format!("{how}: {death}"), monitor.now()) {
            say!(Warn, "{}", death_message(child, death, how));
        }
    }

    fn turn(&mut self, monitor: &Monitor) {
        self.say_unsaid(monitor.now());
    }

    fn say_unsaid(&mut self, now: Time) {
        for (kind, count) in self.deaths.take_due(now) {
            say!(Warn, "{count} more children: the child {kind}");
        }
    }

    fn stopping(&mut self, monitor: &Monitor) {
        let census = monitor.pool.census();
        log::info!("stopping: {} children, {} busy", census.live(), census.busy);
    }

    fn ended(&mut self, monitor: &Monitor) {
        // What is still counted would never be said.
        self.say_unsaid(monitor.now() + EVERY);
        log::info!("stopped: {}", monitor.report());
    }
}

impl SaturationLines {
    fn begin(&mut self, monitor: &Monitor, waiting: Option<u32>, oldest: Option<Duration>) {
        (self.lasts, self.most) = (true, 0);
        self.note(monitor, waiting.unwrap_or(0), oldest);
    }

    fn note(&mut self, monitor: &Monitor, waiting: u32, oldest: Option<Duration>) {
        self.most = self.most.max(waiting);
        let now = monitor.now();
        let due = self.said_at.is_none_or(|at| at + EVERY <= now);
        if self.lasts && due && waiting > 0 && !self.is_said {
            (self.is_said, self.said_at) = (true, Some(now));
            let children = monitor.max_clients();
            let since = oldest.map(first_for).unwrap_or_default();
            say!(
                Warn,
                "saturated: all {children} children are busy, {waiting} clients wait{since}"
            );
        }
    }

    fn end(&mut self, lasted: Duration) {
        self.lasts = false;
        if std::mem::take(&mut self.is_said) {
            let (lasted, most) = (seconds(lasted), self.most);
            say!(
                Warn,
                "no longer saturated: it lasted {lasted}, and at most {most} clients waited"
            );
        }
    }
}

/// For how long the first client has waited, unless that is next to nothing.
fn first_for(time: Duration) -> String {
    const LEAST: Duration = Duration::from_millis(50);
    match time {
        time if time < LEAST => String::new(),
        time => format!(", the first for {} or more", seconds(time)),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn ready(monitor: &Monitor) {
    log::info!("ready after {}", seconds(monitor.now().since_start()));
}

fn replaced(monitor: &Monitor, old: ChildId, new: ChildId) {
    let pid = |child| monitor.child(child).map_or(0, Child::pid);
    log::debug!("child {} is replaced by child {}", pid(old), pid(new));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::child::State;
    use crate::core::testing::{at, child, ended_by_signal, go_to, sized, warnings};

    /// A pool of one child that is killed with its client, again and again.
    fn die(log: &mut Log, monitor: &mut Monitor) {
        let id = child(monitor, State::Busy);
        let (child, death) = monitor.exited(id, ended_by_signal(11)).unwrap();
        let event = Event::Exited {
            child: &child,
            death: &death,
        };
        log.event(monitor, &event);
    }

    fn turn(log: &mut Log, monitor: &mut Monitor, ms: u64) {
        go_to(monitor, ms);
        log.event(monitor, &Event::Turn { next_in: None });
    }

    #[test]
    fn deaths_of_one_kind_are_one_line_in_ten_seconds_and_a_number() {
        let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 5));
        go_to(&mut monitor, 5000);
        let lines = warnings(|| {
            (0..4).for_each(|_| die(&mut log, &mut monitor));
            turn(&mut log, &mut monitor, 14_999);
        });
        let deaths = |lines: &[String]| {
            let mut lines = lines.to_vec();
            lines.retain(|line| line.contains("has died"));
            lines
        };
        assert_eq!(deaths(&lines).len(), 1, "{lines:?}");
        assert_eq!(log.wake_at(), Some(at(15_000)));
        let lines = warnings(|| turn(&mut log, &mut monitor, 15_000));
        let expected = "3 more children: the child has died: signal: 11 (SIGSEGV)";
        assert_eq!(deaths(&lines), [expected]);
        assert_eq!(log.wake_at(), None);
    }

    #[test]
    fn an_episode_of_saturation_is_two_lines_and_the_next_is_none_for_ten_seconds() {
        let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 7));
        let mut episode = |second: u64, waiting: Option<u32>, clients| {
            warnings(|| {
                go_to(&mut monitor, 1000 * second);
                let oldest = waiting.filter(|count| *count == 5);
                let oldest = oldest.map(|_| Duration::from_millis(400));
                log.event(&monitor, &Event::Saturated { waiting, oldest });
                log.event(&monitor, &Event::Waiting { clients, oldest });
                log.event(
                    &monitor,
                    &Event::Waiting {
                        clients: 0,
                        oldest: None,
                    },
                );
                let after = Duration::from_millis(2100);
                log.event(&monitor, &Event::Relieved { after });
            })
        };
        let begin = |waiting| format!("saturated: all 7 children are busy, {waiting} clients wait");
        let end = "no longer saturated: it lasted 2.1 s, and at most 12 clients waited";
        assert_eq!(episode(1, Some(0), 0), [""; 0], "no client waits");
        assert_eq!(episode(2, Some(4), 12), [&*begin(4), end]);
        assert_eq!(episode(11, Some(4), 12), [""; 0]);
        assert_eq!(episode(12, None, 12), [&*begin(12), end]);
        let begin = begin(5) + ", the first for 0.4 s or more";
        assert_eq!(episode(22, Some(5), 12), [&*begin, end]);
        assert_eq!(first_for(Duration::from_millis(49)), "", "it has just come");
    }

    #[test]
    fn the_attributes_that_differ_are_told() {
        assert_eq!(set_attributes(&Config::default()), "the defaults");
        let config = Config::default()
            .max_clients(7)
            .timeout(Duration::from_secs(3));
        assert_eq!(set_attributes(&config), "max_clients 7, timeout 3 s");
    }
}
