//! Tells systemd how the server is: ready, stopping, its status, and that it lives. Never waits for
//! systemd, and never fails the server: a message that cannot be sent is tried again later.

use super::Observer;
use crate::{
    core::{event::Event, monitor::Monitor, pool::Census, say::say, time::Time},
    sys::{
        clock,
        holder::holder,
        notify::{self, NotifySocket},
    },
};
use std::{
    ffi::{OsStr, OsString},
    io,
    time::Duration,
};

/// The shortest time between two statuses.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long systemd is asked to wait for the end of a shutdown, and how often.
const EXTENSION: Duration = Duration::from_secs(15);
const EXTEND_EVERY: Duration = Duration::from_secs(5);
/// When a message that could not be sent is tried again: a full queue is emptied soon.
const RETRY_FULL: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);

/// Tells systemd how the server is, for a service of `Type=notify`.
///
/// Feature `systemd`.
///
/// It speaks the protocol of sd_notify(3) to the socket that NOTIFY_SOCKET names:
///
/// - `READY=1` when the first child can take connections, not when the socket is open: a server whose
///   children all fail at their start is never ready, and systemd ends it after `TimeoutStartSec=`. The
///   children of an [`ExecServer`](crate::ExecServer) need not say that they are ready, so there it is
///   sent at the first fork. `MAINPID=` comes with it if the program has changed its process, as with
///   daemon(3), between [`from_env`](Self::from_env) and the first turn.
/// - `STATUS=` with the numbers of free and busy children and of clients that wait to be accepted, when
///   one of them has changed, and at most once a second. Clients are counted while all children are
///   busy, and only where the system tells how many there are ([`ListenerStatus`]).
/// - `RELOADING=1` with `MONOTONIC_USEC=` when a reload begins, and `READY=1` when it is complete or has
///   failed, as `Type=notify-reload` wants it: `systemctl reload` waits for that.
/// - `STOPPING=1` when a stop is announced or the shutdown begins, and from then on, every five seconds,
///   `EXTEND_TIMEOUT_USEC=` with fifteen: `TimeoutStopSec=` then bounds a server that hangs, and not one
///   that still serves its clients.
/// - `WATCHDOG=1` at half of WATCHDOG_USEC, if WATCHDOG_PID is this process or missing. It is sent at the
///   end of a turn of the loop, so a hook that never returns ends it. With a `timeout`, a child must have
///   sent an ACK within that time, until the shutdown begins.
///
/// A NOTIFY_SOCKET that is wrong or gone is a warning, once, and the server goes on. Without NOTIFY_SOCKET
/// nothing is sent.
///
/// ```
/// # use prefork_server::{PreFork, Systemd, TcpServer};
/// # use std::io::Write;
/// let server = TcpServer::new(|conn| writeln!(&conn, "hello"));
/// let builder = PreFork::builder(server).observe(Systemd::from_env());
/// ```
///
/// [`ListenerStatus`]: crate::servers::ListenerStatus
#[derive(Clone, Debug)]
pub struct Systemd {
    socket: Option<NotifySocket>,
    /// Half of the time that systemd allows between two signs of life.
    watchdog: Option<Duration>,
    made_in: u32,
    phase: ServicePhase,
    reloads: ReloadCount,
    saturated: bool,
    waiting: u32,
    notified: Notified,
    /// Nothing is sent before, since the last message could not be.
    retry_at: Time,
    wake_at: Option<Time>,
    warned: bool,
}

/// How far the server is, as systemd sees it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
enum ServicePhase {
    #[default]
    Starting,
    Ready,
    Stopping,
}

/// The reloads that have begun and ended. One that begins during another ends with it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct ReloadCount {
    begun: u64,
    under_way: bool,
}

/// What systemd was told, and when each message is due again.
#[derive(Clone, Copy, Debug, Default)]
struct Notified {
    phase: ServicePhase,
    reloads: ReloadCount,
    status: Option<StatusLine>,
    status_at: Time,
    watchdog_at: Time,
    extend_at: Time,
}

/// The numbers of the status line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum StatusLine {
    Serving {
        free: usize,
        busy: usize,
        waiting: u32,
    },
    Stopping {
        left: usize,
    },
}

impl Systemd {
    /// Takes the socket of systemd out of the environment.
    ///
    /// Children, and programs that the parent runs, do not find NOTIFY_SOCKET, WATCHDOG_USEC and
    /// WATCHDOG_PID. A second call finds none either: one server of a program tells systemd, and a
    /// program that starts its server again keeps a clone.
    ///
    /// Call it while the program has one thread; otherwise the variables stay in the environment.
    pub fn from_env() -> Self {
        // No server has started yet, and an error is to be seen.
        super::log::stand_in();
        let [socket, microseconds, pid] = notify::take_variables();
        let mut systemd = Self::to(None, watchdog(microseconds.as_deref(), pid.as_deref()));
        if let Some(name) = socket {
            match NotifySocket::at(&name) {
                Ok(socket) => systemd.socket = Some(socket),
                Err(error) => say!(
                    Warn,
                    "NOTIFY_SOCKET is {name:?}: {error}; systemd is not told"
                ),
            }
        }
        systemd
    }

    fn to(socket: Option<NotifySocket>, watchdog: Option<Duration>) -> Self {
        Self {
            socket,
            watchdog,
            made_in: std::process::id(),
            phase: ServicePhase::Starting,
            reloads: ReloadCount::default(),
            saturated: false,
            waiting: 0,
            notified: Notified::default(),
            retry_at: Time::START,
            wake_at: None,
            warned: false,
        }
    }

    fn enter(&mut self, phase: ServicePhase, monitor: &Monitor) {
        if self.phase < phase {
            self.phase = phase;
            self.notify(monitor);
        }
    }

    /// Sends what is due in one message.
    fn notify(&mut self, monitor: &Monitor) {
        // The beginning of a reload is a message of its own, and there may be more to tell after it.
        while self.notify_one(monitor) && self.notified.reloads != self.reloads {}
        self.wake_at = self.next(monitor);
    }

    fn notify_one(&mut self, monitor: &Monitor) -> bool {
        let now = monitor.now();
        if self.phase == ServicePhase::Starting || now < self.retry_at {
            return false;
        }
        let mut notified = self.notified;
        let lines = self.due(&mut notified, monitor);
        let sent = !lines.is_empty() && self.send(&lines.join("\n"), now);
        if sent {
            self.notified = notified;
        }
        sent
    }

    /// A reload has begun, and is under way or has failed at once.
    fn reload(&mut self, under_way: bool, monitor: &Monitor) {
        self.reloads.begun += 1;
        self.reloads.under_way = under_way;
        self.notify(monitor);
    }

    fn reload_ended(&mut self, monitor: &Monitor) {
        self.reloads.under_way = false;
        self.notify(monitor);
    }

    fn send(&mut self, message: &str, now: Time) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        let Err(error) = socket.send(message) else {
            return true;
        };
        let full = error.kind() == io::ErrorKind::WouldBlock;
        self.retry_at = now + if full { RETRY_FULL } else { RETRY };
        if !std::mem::replace(&mut self.warned, true) {
            say!(Warn, "systemd cannot be told: NOTIFY_SOCKET: {error}");
        }
        false
    }

    /// The lines that are due, noted in `told`.
    fn due(&self, notified: &mut Notified, monitor: &Monitor) -> Vec<String> {
        let now = monitor.now();
        if notified.reloads.begun != self.reloads.begun && self.phase == ServicePhase::Ready {
            notified.reloads = ReloadCount {
                begun: self.reloads.begun,
                under_way: true,
            };
            let since = clock::monotonic_microseconds();
            return vec!["RELOADING=1".to_owned(), format!("MONOTONIC_USEC={since}")];
        }
        let mut lines = Vec::new();
        if notified.phase != self.phase {
            notified.phase = self.phase;
            lines.extend(self.phase_lines());
        } else if notified.reloads.under_way
            && !self.reloads.under_way
            && self.phase == ServicePhase::Ready
        {
            lines.push("READY=1".to_owned());
        }
        notified.reloads = self.reloads;
        let status = self.status(monitor.pool.census());
        if notified.status != Some(status) && notified.status_at <= now {
            notified.status = Some(status);
            notified.status_at = now + STATUS_EVERY;
            lines.push(status.line());
        }
        if self.phase == ServicePhase::Stopping && notified.extend_at <= now {
            notified.extend_at = now + EXTEND_EVERY;
            lines.push(format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
        }
        if let Some(interval) = self.watchdog
            && notified.watchdog_at <= now
            && self.is_alive(monitor)
        {
            notified.watchdog_at = now + interval;
            lines.push("WATCHDOG=1".to_owned());
        }
        lines
    }

    fn phase_lines(&self) -> Vec<String> {
        if self.phase == ServicePhase::Stopping {
            return vec!["STOPPING=1".to_owned()];
        }
        let pid = std::process::id();
        // Signals and the exit code are the holder's.
        let moved = pid != self.made_in && holder().is_none();
        let moved = moved.then(|| format!("MAINPID={pid}"));
        [Some("READY=1".to_owned()), moved]
            .into_iter()
            .flatten()
            .collect()
    }

    fn status(&self, census: Census) -> StatusLine {
        match self.phase {
            ServicePhase::Stopping => StatusLine::Stopping {
                left: census.live(),
            },
            _ => StatusLine::Serving {
                free: census.idle(),
                busy: census.busy,
                waiting: self.waiting,
            },
        }
    }

    /// Whether the children answer, as far as that can be known: without a `timeout` they send no ACKs.
    fn is_alive(&self, monitor: &Monitor) -> bool {
        let (now, timeout) = (monitor.now(), monitor.timeout());
        timeout.is_zero()
            || self.phase == ServicePhase::Stopping
            || monitor
                .children()
                .any(|child| child.has_acked() && now.since(child.last_ack()) <= timeout)
    }

    /// When something is due again, if nothing happens before. What is due already waits for something to
    /// happen, such as an ACK.
    fn next(&self, monitor: &Monitor) -> Option<Time> {
        let now = monitor.now();
        if now < self.retry_at {
            return Some(self.retry_at);
        }
        let unsettled = self.notified.status != Some(self.status(monitor.pool.census()));
        let started = self.phase > ServicePhase::Starting;
        let deadlines = [
            self.watchdog.map(|_| self.notified.watchdog_at),
            (self.phase == ServicePhase::Stopping).then_some(self.notified.extend_at),
            unsettled.then_some(self.notified.status_at),
            // The queue grows without any other event.
            self.saturated.then_some(now + STATUS_EVERY),
        ];
        let coming = deadlines.into_iter().flatten().filter(|at| *at > now);
        coming.min().filter(|_| started)
    }
}

impl Observer for Systemd {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        if self.socket.is_none() {
            return;
        }
        match *event {
            Event::Ready { .. } => self.enter(ServicePhase::Ready, monitor),
            Event::Forked { .. } if monitor.programs => self.enter(ServicePhase::Ready, monitor),
            // The server is ready: an upgrade has changed its program.
            Event::Adopted { .. } => self.enter(ServicePhase::Ready, monitor),
            Event::ReloadBegan { .. } => self.reload(true, monitor),
            Event::ReloadFailed { .. } if !self.reloads.under_way => self.reload(false, monitor),
            Event::ReloadFailed { .. } | Event::Reloaded { .. } => self.reload_ended(monitor),
            Event::StopAnnounced { .. } | Event::ShuttingDown => {
                self.enter(ServicePhase::Stopping, monitor);
            }
            Event::Saturated { waiting, .. } => {
                (self.saturated, self.waiting) = (true, waiting.unwrap_or(0));
            }
            Event::Waiting { clients, .. } => self.waiting = clients,
            Event::Relieved { .. } => (self.saturated, self.waiting) = (false, 0),
            Event::Turn { .. } => self.notify(monitor),
            _ => {}
        }
    }

    fn wake_at(&self) -> Option<Time> {
        self.wake_at
    }
}

impl StatusLine {
    fn line(self) -> String {
        match self {
            Self::Serving {
                free,
                busy,
                waiting,
            } => format!("STATUS={free} free, {busy} busy, {waiting} waiting"),
            Self::Stopping { left } => format!("STATUS=stopping, {left} children left"),
        }
    }
}

/// Half of WATCHDOG_USEC, if the watchdog is for this process.
fn watchdog(microseconds: Option<&OsStr>, pid: Option<&OsStr>) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    let ours = u64::from(std::process::id());
    if pid.is_some_and(|pid| number(pid) != Some(ours)) {
        return None;
    }
    let microseconds = microseconds?;
    let half = number(microseconds).filter(|&number| number > 1);
    if half.is_none() {
        let text: OsString = microseconds.to_owned();
        say!(Warn, "WATCHDOG_USEC is {text:?}; there is no watchdog");
    }
    half.map(|number| Duration::from_micros(number / 2))
}

#[cfg(test)]
mod tests;
