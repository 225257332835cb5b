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
    saturation: Saturation,
}

/// The present episode in which all children are busy.
///
/// A pool at its limit is saturated and relieved many times a second. An episode is worth a line when
/// clients are known to wait. Then it lasts until it has been relieved for ten seconds.
#[derive(Debug, Default)]
struct Saturation {
    since: Option<Time>,
    relieved: Option<Time>,
    /// How many clients wait, and the most of the episode.
    waiting: u32,
    most: u32,
    /// Whether its begin was logged.
    is_said: bool,
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
            Event::Saturated => self.saturation.begin(monitor.now()),
            Event::Waiting { clients } => self.saturation.note(clients),
            Event::Relieved => self.saturation.relieve(monitor.now()),
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
        let saturation = &self.saturation;
        let deadlines = [self.deaths.next(), saturation.ends_at()];
        deadlines.into_iter().flatten().min()
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
        self.saturation.say_begin(monitor);
        let now = monitor.now();
        if self.saturation.ends_at().is_some_and(|at| at <= now) {
            self.saturation.say_end(now);
        }
        self.say_unsaid(now);
    }

    fn say_unsaid(&mut self, now: Time) {
        for (kind, count) in self.deaths.take_due(now) {
            say!(Warn, "{count} more children: the child {kind}");
        }
    }

    fn stopping(&mut self, monitor: &Monitor) {
        self.saturation.say_end(monitor.now());
        let census = monitor.pool.census();
        log::info!("stopping: {} children, {} busy", census.live(), census.busy);
    }

    fn ended(&mut self, monitor: &Monitor) {
        // What is still counted would never be said.
        self.say_unsaid(monitor.now() + EVERY);
        log::info!("stopped: {}", monitor.report());
    }
}

impl Saturation {
    fn begin(&mut self, now: Time) {
        self.since.get_or_insert(now);
        self.relieved = None;
    }

    fn note(&mut self, clients: u32) {
        self.waiting = clients;
        self.most = self.most.max(clients);
    }

    fn relieve(&mut self, now: Time) {
        match self.is_said {
            true => self.relieved = Some(now),
            false => *self = Self::default(),
        }
    }

    /// At the end of the turn: how many wait is known then.
    fn say_begin(&mut self, monitor: &Monitor) {
        if self.since.is_some() && self.waiting > 0 && !std::mem::replace(&mut self.is_said, true) {
            let (children, waiting) = (monitor.max_clients(), self.waiting);
            say!(
                Warn,
                "saturated: all {children} children are busy, {waiting} clients wait"
            );
        }
    }

    fn ends_at(&self) -> Option<Time> {
        self.since.and(self.relieved).map(|at| at + EVERY)
    }

    /// Ends the episode, if there is one.
    fn say_end(&mut self, now: Time) {
        let Self {
            since,
            relieved,
            most,
            is_said,
            ..
        } = std::mem::take(self);
        if let Some(since) = since.filter(|_| is_said) {
            let lasted = relieved.unwrap_or(now).since(since);
            say!(
                Warn,
                "no longer saturated: it lasted {}, and at most {most} clients waited",
                seconds(lasted)
            );
        }
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
    fn an_episode_of_saturation_is_two_lines_however_often_it_comes_and_goes() {
        let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 7));
        go_to(&mut monitor, 1000);
        let lines = warnings(|| {
            for second in 1..=3 {
                go_to(&mut monitor, 1000 * second);
                log.event(&monitor, &Event::Saturated);
                let clients = 4 * second as u32;
                log.event(&monitor, &Event::Waiting { clients });
                turn(&mut log, &mut monitor, 1000 * second + 100);
                log.event(&monitor, &Event::Relieved);
                turn(&mut log, &mut monitor, 1000 * second + 200);
            }
        });
        assert_eq!(
            lines,
            ["saturated: all 7 children are busy, 4 clients wait"]
        );
        assert_eq!(log.wake_at(), Some(at(13_100)));
        let lines = warnings(|| turn(&mut log, &mut monitor, 13_100));
        let end = "no longer saturated: it lasted 2.1 s, and at most 12 clients waited";
        assert_eq!(lines, [end]);
        assert_eq!(log.wake_at(), None);
        let again = warnings(|| {
            log.event(&monitor, &Event::Saturated);
            log.event(&monitor, &Event::Waiting { clients: 1 });
            turn(&mut log, &mut monitor, 20_000);
            log.event(&monitor, &Event::ShuttingDown);
        });
        assert_eq!(again.len(), 2, "a stop ends it: {again:?}");
    }

    #[test]
    fn a_moment_in_which_all_are_busy_and_nobody_waits_is_no_line() {
        let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 7));
        let lines = warnings(|| {
            for second in 1..=3 {
                go_to(&mut monitor, 1000 * second);
                log.event(&monitor, &Event::Saturated);
                turn(&mut log, &mut monitor, 1000 * second + 900);
                log.event(&monitor, &Event::Relieved);
            }
        });
        assert_eq!(lines, [""; 0]);
        assert_eq!(log.wake_at(), None);
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
