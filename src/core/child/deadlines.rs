//! The times of a child: how long it may be silent, when SIGINT and SIGKILL are due, when it is given
//! up. Reads no clock.

use super::{AFTER_KILL, Child, ChildFlags, Reason, Retirement};
use crate::core::time::Time;
use std::time::Duration;

impl Child {
    /// When SIGKILL is due, for a child that was told to stop.
    ///
    /// A culled child may just have accepted a connection, and one that is replaced may have one in
    /// hand. Only `timeout` limits such a child, as any busy child.
    pub(crate) fn kill_at(&self, timeout: Duration, gaps: Duration) -> Option<Time> {
        let told = self.retirement?;
        if self.flags.contains(ChildFlags::KILL_SENT) {
            None
        } else if told.reason.is_gentle() && self.is_serving() {
            let silence_limit = self.silence_limit(timeout) + gaps.saturating_sub(self.gaps_at_ack);
            // It may have been silent for long when it was told.
            let at_least = told.at + told.kill_after?;
            (!timeout.is_zero()).then(|| (self.last_ack + silence_limit).max(at_least))
        } else {
            self.time_to_leave(&told).map(|time| told.at + time)
        }
    }

    /// How long it may be silent. An ACK may stand in output that was not read, but not for longer than
    /// once more the timeout: each turn reads what stood in the pipe when it began.
    pub(crate) fn silence_limit(&self, timeout: Duration) -> Duration {
        match self.flags.contains(ChildFlags::UNREAD) {
            true => timeout.saturating_mul(2),
            false => timeout,
        }
    }

    fn time_to_leave(&self, told: &Retirement) -> Option<Duration> {
        if self.is_starting() {
            told.kill_in_start_after
        } else {
            told.kill_after
        }
    }

    /// When a shutdown gives up waiting for it.
    pub(crate) fn give_up_at(&self) -> Option<Time> {
        let living = !self.flags.contains(ChildFlags::REAPED);
        self.killed_at.filter(|_| living).map(|at| at + AFTER_KILL)
    }

    /// When SIGINT is due, for a child that closed its outputs.
    ///
    /// A child that exits closes its outputs shortly before it can be reaped, so the parent waits a
    /// little first.
    pub(crate) fn stop_signal_at(&self) -> Option<Time> {
        const EXITING: Duration = Duration::from_millis(100);
        let told = self
            .retirement
            .filter(|told| told.reason == Reason::Closed)?;
        (!self.was_told()).then(|| told.at + EXITING)
    }

    /// Whether it has been silent for longer than allowed.
    ///
    /// The limit is the timeout that the child knows or the one in force, whichever is longer.
    /// There is no limit if either is zero.
    pub(crate) fn is_overdue(&self, timeout: Duration, now: Time, gaps: Duration) -> bool {
        let known = self.known_timeout.unwrap_or(timeout);
        let judged = !timeout.is_zero() && !known.is_zero();
        judged && self.silence(now, gaps) > timeout.max(known)
    }

    /// How long it has been silent, not counting the time in which the parent did not run.
    pub(crate) fn silence(&self, now: Time, gaps: Duration) -> Duration {
        now.since(self.last_ack)
            .saturating_sub(gaps.saturating_sub(self.gaps_at_ack))
    }
}
