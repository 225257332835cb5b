//! For how long the loop sleeps before a turn, and whether words may pile up meanwhile. Reads nothing
//! of what it waits for.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{
        error::Error,
        pool,
        system::{Ready, Wait},
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::time::Duration;

/// How often the loop retries output after its reader was slow.
const OFFER_AGAIN: Duration = Duration::from_millis(20);

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// How long the loop may sleep; `None` for no limit.
    pub(super) fn longest_wait(&self) -> Option<Duration> {
        let monitor = &self.parent.monitor;
        let replaces = monitor.replacement.is_due() && !monitor.is_shutdown();
        if self.deaths_unknown || replaces || !monitor.queue.is_empty() || self.reading.has_unread()
        {
            return Some(Duration::ZERO);
        }
        // No event would wake a server that was told to shut down when it had no child.
        if monitor.is_shutdown() && monitor.pool.len() == 0 && !self.parent.system.is_printing() {
            return Some(Duration::ZERO);
        }
        let now = self.parent.system.now();
        let deadlines = [
            monitor.deadline(),
            monitor.last_deadline(),
            self.look_at,
            self.queues.look_at(),
            self.draining.look_at(now),
            self.parent.wake_at,
            self.parent.client_table.next(),
        ];
        let due = deadlines.into_iter().flatten().min();
        let due = due.map(|deadline| deadline.since(now));
        let offer = self.parent.system.is_printing().then_some(OFFER_AGAIN);
        [due, offer].into_iter().flatten().min()
    }

    /// The wait at the start of `run`'s next turn. Words pile up if they keep arriving and no
    /// decision depends on them.
    pub(crate) fn next_wait(&self) -> Wait {
        match self.word_batch() {
            Some(batch) => Wait::ForWords(batch),
            None => Wait::ForAnything(None),
        }
    }

    fn word_batch(&self) -> Option<Duration> {
        let monitor = &self.parent.monitor;
        if self.words.in_turn == 0
            || monitor.is_shutdown()
            || self.longest_wait() == Some(Duration::ZERO)
        {
            return None;
        }
        pool::word_batch(monitor.pool.census(), &monitor.attributes)
    }

    pub(super) fn wait(&mut self, wait: Wait) -> Result<Vec<Ready>, Error> {
        let longest = self.longest_wait();
        let sooner = |wait| [wait, longest].into_iter().flatten().min();
        let wait = match wait {
            Wait::ForAnything(wait) => Wait::ForAnything(sooner(wait)),
            Wait::ForWords(batch) => Wait::ForWords(sooner(Some(batch)).unwrap_or(batch)),
        };
        let mut ready = std::mem::take(&mut self.ready);
        if let Err(error) = self.parent.system.wait(wait, &mut ready) {
            self.waits_no_more(error)?;
        }
        Ok(ready)
    }
}
