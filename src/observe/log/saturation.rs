//! The lines about saturation: when clients have to wait, and when that is over. Counts nobody itself.

use crate::core::{monitor::Monitor, repeats::EVERY, say::say, time::Time};
use std::time::Duration;

/// The two lines of an episode of saturation: when clients are known to wait, and at its end. An
/// episode has none within ten seconds of the last one that had.
#[derive(Debug, Default)]
pub(super) struct SaturationLines {
    lasts: bool,
    logged_at: Option<Time>,
    /// Whether the begin of the present episode was logged.
    is_logged: bool,
    /// How many clients wait, as far as is known, and the most that have waited in it.
    waiting: u32,
    most: u32,
}

impl SaturationLines {
    pub(super) fn begin(
        &mut self,
        monitor: &Monitor,
        waiting: Option<u32>,
        oldest: Option<Duration>,
    ) {
        (self.lasts, self.most) = (true, 0);
        self.note(monitor, waiting.unwrap_or(0), oldest);
    }

    pub(super) fn note(&mut self, monitor: &Monitor, waiting: u32, oldest: Option<Duration>) {
        (self.waiting, self.most) = (waiting, self.most.max(waiting));
        self.say_if_due(monitor, &oldest.map(first_for).unwrap_or_default());
    }

    /// Whether the begin of this episode is to be said as soon as the last one was ten seconds ago.
    fn is_left_out(&self) -> bool {
        self.lasts && self.waiting > 0 && !self.is_logged
    }

    /// When the begin is due, if nothing changes before.
    pub(super) fn next(&self) -> Option<Time> {
        let logged_at = self.logged_at.filter(|_| self.is_left_out());
        logged_at.map(|at| at + EVERY)
    }

    pub(super) fn say_if_due(&mut self, monitor: &Monitor, since: &str) {
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

    pub(super) fn end(&mut self, lasted: Duration) {
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
pub(super) fn first_for(time: Duration) -> String {
    const LEAST: Duration = Duration::from_millis(50);
    match time {
        time if time < LEAST => String::new(),
        time => format!(", the first for {} or more", seconds(time)),
    }
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
