//! The time limits `start_timeout` and `busy_timeout`: which children have taken too long, and when
//! to look next. Decides and notes; calls no hook and reads no board.

use super::*;
use crate::core::time_limits::{InHand, Work, WorkLimits};

impl Monitor {
    /// Records what a child has noted of the connection in hand.
    pub(crate) fn note_in_hand(&mut self, id: ChildId, noted: InHand) {
        if let Some(child) = self.pool.get_mut(id) {
            child.note_in_hand(noted);
        }
        self.watch_clock(id);
    }

    /// When the notes of the children are to be read, since a limit may be reached.
    pub(super) fn look_at_clocks(&self) -> Option<Time> {
        self.time_limits.look_at().filter(|_| self.pool.len() > 0)
    }

    pub(crate) fn clocks_are_due(&self) -> bool {
        self.look_at_clocks().is_some_and(|at| at <= self.now)
    }

    /// The children that have taken too long, each once: it is found again after as much time more.
    ///
    /// All notes have been read. [`watch_clocks`](Self::watch_clocks) is called when the hooks have
    /// decided.
    pub(crate) fn take_overtime(&mut self) -> Vec<ChildId> {
        let now = self.now;
        let is_over = |child: &&Child| self.clock_end(child).is_some_and(|end| end <= now);
        let over: Vec<_> = self.pool.iter().filter(is_over).map(Child::id).collect();
        for &id in &over {
            if let Some(child) = self.pool.get_mut(id) {
                child.judged_at = Some(now);
            }
        }
        over
    }

    /// Why a child that has taken too long is told to stop.
    pub(crate) fn overtime_reason(&self, id: ChildId) -> Reason {
        match self.child(id).and_then(Child::work) {
            Some(Work::Start { .. }) => Reason::StartTimeout,
            Some(Work::Connection { .. }) | None => Reason::Overtime,
        }
    }

    /// Computes when the first limit is reached, from what is known of all children.
    pub(crate) fn watch_clocks(&mut self) {
        let ends = self.pool.iter().filter_map(|child| self.clock_end(child));
        let first = ends.min();
        self.time_limits.look_again(first);
    }

    /// Sees to it that the loop looks when the clock of a child runs out.
    pub(super) fn watch_clock(&mut self, id: ChildId) {
        if !self.work_limits().are_off() {
            let end = self.child(id).and_then(|child| self.clock_end(child));
            self.time_limits.expect(end);
        }
    }

    /// When a child has taken too long, unless it is killed by then.
    fn clock_end(&self, child: &Child) -> Option<Time> {
        let pauses = &self.time_limits.pauses;
        let end = self
            .work_limits()
            .end(child.work()?, child.judged_at, pauses)?;
        let killed_at = end + self.attributes.kill_timeout;
        let in_shutdown = child
            .retirement
            .filter(|told| told.reason == Reason::Shutdown);
        let shutdown_ends = in_shutdown.and_then(|told| Some(told.at + told.kill_after?));
        let sooner = shutdown_ends.is_some_and(|at| at <= killed_at);
        (!sooner).then_some(end)
    }

    /// Whether the notes of children are to be read now and then, also of those that have said
    /// nothing of a connection: there may have been no room for the word.
    pub(crate) fn bounds_connections(&self) -> bool {
        !self.work_limits().busy.is_zero()
    }

    fn work_limits(&self) -> WorkLimits {
        WorkLimits {
            start: self.attributes.start_timeout,
            busy: self.attributes.busy_timeout,
        }
    }

    /// Whether the start of a child counts as successful because of its age.
    ///
    /// With a `start_timeout` age alone proves nothing: the child may hang in its start.
    pub(super) fn has_held(&self, child: &Child) -> bool {
        let proves = child.has_stated() || self.attributes.start_timeout.is_zero();
        proves && self.now.since(child.start_time) >= START_HOLDS_AFTER
    }
}
