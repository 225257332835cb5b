//! What the monitor tells: messages in the log, and events for observers. Writes neither itself.

use super::*;
use crate::core::repeats::LeftOut;
use log::Level;

/// Messages and events.
impl Monitor {
    /// Queues an event for observers. In a child there are no observers.
    pub(super) fn happened(&mut self, event: Event<'static>) {
        if !self.child {
            self.events.push(event);
        }
    }

    /// Logs a message, unless one of the same kind was logged in the last ten seconds: then it is
    /// counted.
    ///
    /// A child logs each: it has no later turn in which it would tell how many it has left out.
    pub(crate) fn notice(&mut self, notice: Notice, text: fmt::Arguments<'_>) {
        if self.child || self.notices.note(notice, text, self.now) {
            say::at(notice.level(), text);
        }
    }

    /// Logs how many messages were left out, when their ten seconds are over.
    pub(super) fn log_repeats(&mut self) {
        self.log_repeats_until(self.now);
    }

    /// Logs how many messages were left out, at the end of the server.
    pub(crate) fn end_notices(&mut self) {
        self.log_repeats_until(self.now + EVERY);
    }

    fn log_repeats_until(&mut self, until: Time) {
        for LeftOut { kind, count, last } in self.notices.take_due(until) {
            let level = kind.map_or(Level::Warn, Notice::level);
            say::at(level, format_args!("{last} ({count} times more)"));
        }
    }
}
