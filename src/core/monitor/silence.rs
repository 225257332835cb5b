//! The timeout check: when it is made, and which children have been silent for too long. Tells none
//! to stop.

use super::*;

/// The timer of the timeout check.
#[derive(Debug, Default)]
pub(super) struct TimeoutCheck {
    alarm: Option<AlarmId>,
    /// The `timeout` for which it was set last; `None` before the start.
    timeout: Option<Duration>,
}

impl TimeoutCheck {
    /// Whether it was set for another `timeout`.
    pub(super) fn is_outdated(&self, timeout: Duration) -> bool {
        self.timeout.is_some_and(|set_for| set_for != timeout)
    }
}

/// The timeout check.
impl Monitor {
    /// Sets the timer of the timeout check in place of an earlier one. In a shutdown there is none.
    pub(crate) fn arm_timeout_check(&mut self) {
        self.timeout_check.timeout = Some(self.attributes.timeout);
        self.arm_timeout_check_in(self.attributes.check_interval());
    }

    fn arm_timeout_check_in(&mut self, interval: Option<Duration>) {
        if let Some(armed) = self.timeout_check.alarm.take() {
            self.alarms.remove(armed);
        }
        let interval = interval.filter(|_| !self.shutdown);
        self.timeout_check.alarm =
            interval.map(|interval| self.delay_set("server_timeout_check", interval));
    }

    /// Puts the timeout check off, if the loop has not turned for so long that ACKs should have
    /// come.
    ///
    /// Parent and children may all have been stopped (a suspended group, a paused machine), and
    /// then the children have not had the time to send an ACK. The next check decides.
    pub(crate) fn puts_off_timeout_check(&mut self) -> bool {
        let Some(ack_interval) = self.attributes.ack_interval() else {
            return false;
        };
        let long = self.since_last_turn > ack_interval + ack_interval / 2;
        if long {
            self.arm_timeout_check_in(Some(ack_interval));
        }
        long
    }

    /// The free and the busy children that have been silent for too long.
    ///
    /// Their silence counts up to the last turn, since later output has not been read.
    pub(crate) fn overdue(&self) -> (Vec<ChildId>, Vec<ChildId>) {
        if self.attributes.timeout.is_zero() {
            return (Vec::new(), Vec::new());
        }
        self.pool
            .overdue(self.attributes.timeout, self.turned, self.gaps)
    }
}
