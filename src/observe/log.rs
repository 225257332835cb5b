//! The built-in log: one line for each thing that an operator wants to know, and, while the program
//! has no logger, all warnings and errors on stderr. Never waits for a reader.

use super::Observer;
use crate::{
    core::{
        child::{Cause, Child, ChildId, Death},
        config::Config,
        event::Event,
        monitor::Monitor,
        repeats::{EVERY, Repeats, LeftOut},
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
    deaths: Repeats<String>,
    replacements: Repeats<()>,
    /// The youngest child that was there when the last reload began. It goes for the reload, and so do
    /// those that are older.
    before_reload: Option<ChildId>,
    saturation: SaturationLines,
}

/// The two lines of an episode of saturation: when clients are known to wait, and at its end. An
/// episode has none within ten seconds of the last one that had.
#[derive(Debug, Default)]
struct SaturationLines {
    lasts: bool,
    logged_at: Option<Time>,
    /// Whether the begin of the present episode was logged.
    is_logged: bool,
    /// How many clients wait, as far as is known, and the most that have waited in it.
    waiting: u32,
    most: u32,
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

impl SaturationLines {
    fn begin(&mut self, monitor: &Monitor, waiting: Option<u32>, oldest: Option<Duration>) {
        (self.lasts, self.most) = (true, 0);
        self.note(monitor, waiting.unwrap_or(0), oldest);
    }

    fn note(&mut self, monitor: &Monitor, waiting: u32, oldest: Option<Duration>) {
        (self.waiting, self.most) = (waiting, self.most.max(waiting));
        self.say_if_due(monitor, &oldest.map(first_for).unwrap_or_default());
    }

    /// Whether the begin of this episode is to be said as soon as the last one was ten seconds ago.
    fn is_left_out(&self) -> bool {
        self.lasts && self.waiting > 0 && !self.is_logged
    }

    /// When the begin is due, if nothing changes before.
    fn next(&self) -> Option<Time> {
        let logged_at = self.logged_at.filter(|_| self.is_left_out());
        logged_at.map(|at| at + EVERY)
    }

    fn say_if_due(&mut self, monitor: &Monitor, since: &str) {
        let now = monitor.now();
        let due = self.logged_at.is_none_or(|at| at + EVERY <= now);
        if due && self.is_left_out() {
            (self.is_logged, self.logged_at) = (true, Some(now));
            let (children, waiting) = (monitor.max_clients(), self.waiting);
            say!(
                Warn,
                "saturated: all {children} children are busy, {waiting} clients wait{since}"
            );
        }
    }

    fn end(&mut self, lasted: Duration) {
        self.lasts = false;
        if std::mem::take(&mut self.is_logged) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::child::State;
    use crate::core::testing::{at, child, ended_by_signal, go_to, infos, sized, warnings};

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
    fn what_a_stop_has_lost_is_a_warning_at_its_end() {
        let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 5));
        die(&mut log, &mut monitor);
        let end = |log: &mut Log, monitor: &Monitor| {
            let mut lines = warnings(|| log.event(monitor, &Event::Ended));
            lines.retain(|line| line.contains("the stop"));
            lines
        };
        assert_eq!(end(&mut log, &monitor), [""; 0], "it was before the stop");
        monitor.begin_shutdown();
        die(&mut log, &mut monitor);
        monitor.note_lost_queue(5);
        let expected = "the stop has lost 6 connections: 5 queued, 1 in hand";
        assert_eq!(end(&mut log, &monitor), [expected]);
        assert_eq!(monitor.report().lost_connections, 7);
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

    /// Nobody comes or goes while it lasts, so that no event tells of those who wait.
    #[test]
    fn an_episode_that_begins_too_soon_is_said_when_the_ten_seconds_are_over() {
        let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 7));
        let begin = |log: &mut Log, monitor: &mut Monitor, second: u64| {
            go_to(monitor, 1000 * second);
            let (waiting, oldest) = (Some(3), None);
            log.event(monitor, &Event::Saturated { waiting, oldest });
        };
        begin(&mut log, &mut monitor, 1);
        let after = Duration::from_secs(1);
        log.event(&monitor, &Event::Relieved { after });
        let lines = warnings(|| {
            begin(&mut log, &mut monitor, 4);
            turn(&mut log, &mut monitor, 10_999);
        });
        assert_eq!((lines, log.wake_at()), (vec![], Some(at(11_000))));
        let lines = warnings(|| turn(&mut log, &mut monitor, 11_000));
        assert_eq!(
            lines,
            ["saturated: all 7 children are busy, 3 clients wait"]
        );
        assert_eq!(log.wake_at(), None);
        assert_eq!(warnings(|| turn(&mut log, &mut monitor, 30_000)), [""; 0]);
    }

    /// The replacements of a reload have its lines; the others have one in ten seconds.
    #[test]
    fn a_replacement_is_one_line_in_ten_seconds_and_a_reload_has_its_own() {
        let (mut log, mut monitor) = (Log::default(), sized(1, 2, 1, 7));
        let (old, new) = (
            child(&mut monitor, State::Free),
            child(&mut monitor, State::Free),
        );
        let replaced = Event::Replaced { old, new };
        let lines = infos(|| {
            (0..3).for_each(|_| log.event(&monitor, &replaced));
            turn(&mut log, &mut monitor, 9_999);
        });
        assert_eq!(lines, ["child 1001 is replaced by child 1002"]);
        assert_eq!(log.wake_at(), Some(at(10_000)));
        let lines = infos(|| turn(&mut log, &mut monitor, 10_000));
        let expected = "child 1001 is replaced by child 1002 (2 times more)";
        assert_eq!(lines, [expected]);
        let lines = infos(|| {
            turn(&mut log, &mut monitor, 30_000);
            log.event(&monitor, &Event::ReloadBegan { epoch: 1 });
            log.event(&monitor, &replaced);
            turn(&mut log, &mut monitor, 50_000);
        });
        assert_eq!(lines, ["reload: epoch 1 begins"]);
        let (old, new) = (child(&mut monitor, State::Free), new);
        let lines = infos(|| log.event(&monitor, &Event::Replaced { old, new }));
        assert_eq!(lines, ["child 1003 is replaced by child 1002"]);
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
