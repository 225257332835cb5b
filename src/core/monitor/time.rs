//! What comes due: alarms, escalations, culls, retries. Gets the time as an argument; never reads a
//! clock.

use super::*;

/// Time.
impl Monitor {
    /// Begins a turn at `now`.
    ///
    /// `gap` is the time since the last turn in which the parent should have run and did not; it
    /// does not count as silence of any child.
    pub(crate) fn tick(&mut self, now: Time, gap: Duration) {
        self.since_last_turn = now.since(self.turned);
        self.time_limits.pauses.note_turn(self.turned, now, gap);
        self.turned = self.turned.max(now);
        self.gaps = self.gaps.saturating_add(gap);
        self.is_now(now);
    }

    /// Sets the time between two turns. Output of children was last read in the last turn, so their
    /// silence counts up to that.
    pub(crate) fn is_now(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// Queues everything that is due. Called when all input that had arrived has been read.
    pub(crate) fn fire_due(&mut self) {
        while let Some(state) = self.alarms.take_due(self.now) {
            self.post(&state);
        }
        self.ask_last_stacks();
        self.escalate();
        self.log_repeats();
        if self.shutdown {
            return;
        }
        if self.stop.take_due(self.now) {
            self.shutdown();
        }
        self.check_ages();
        self.notice_silent_programs();
        self.notice_slow_leavers();
        if self.backoff.is_watching() {
            self.notice_starts_that_held();
        }
        let cull = self.surplus.take_due(self.attributes.cull_after, self.now);
        let retry = self.backoff.take_retry(self.now);
        if retry {
            self.replacement.touch();
        }
        let unbraked = self.brake.take_retry(self.now);
        if cull || retry || unbraked {
            self.post_known(PostedState::Forkoff);
        }
    }

    /// When the loop must turn again if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let pool_wide = if self.shutdown {
            [None; 4]
        } else {
            [
                self.surplus.next(self.attributes.cull_after),
                self.backoff.retry_at(),
                self.brake.retry_at(),
                self.limits_at(),
            ]
        };
        pool_wide
            .into_iter()
            .flatten()
            .chain(self.fullness.episode.deadline())
            .chain(self.alarms.next())
            .chain(self.stop.begins_at())
            .chain(self.upgrade.wake_at())
            .chain(self.first_hangs_at())
            .chain(self.notices.next())
            .chain(self.escalations())
            .chain(self.stack_deadlines())
            .chain(self.look_at_clocks())
            .min()
    }

    fn escalations(&self) -> impl Iterator<Item = Time> + '_ {
        // Only a retiring child has an escalation, and mostly there is no such child.
        let any = self.pool.census().retiring > 0;
        any.then(|| self.pool.iter())
            .into_iter()
            .flatten()
            .filter_map(|child| self.next_signal(child))
            .map(|(at, _)| at)
    }

    /// When a shutdown gives up waiting for a child that got SIGKILL.
    pub(crate) fn last_deadline(&self) -> Option<Time> {
        let children = self.shutdown.then(|| self.pool.iter());
        children
            .into_iter()
            .flatten()
            .filter_map(Child::give_up_at)
            .min()
    }

    /// Removes, in a shutdown, the children that have not ended within
    /// [`AFTER_KILL`](crate::core::child::AFTER_KILL) of SIGKILL.
    pub(crate) fn take_unkillable(&mut self) -> Vec<(ChildId, u32)> {
        if !self.shutdown {
            return Vec::new();
        }
        let lasted = |child: &&Child| child.give_up_at().is_some_and(|at| at <= self.now);
        let unkillable = self.pool.iter().filter(lasted);
        let unkillable: Vec<_> = unkillable.map(|child| (child.id, child.pid)).collect();
        for &(id, _) in &unkillable {
            self.pool.remove(id);
        }
        unkillable
    }

    /// When a retiring child is sent its next signal, unless it ends before.
    pub(crate) fn next_signal(&self, child: &Child) -> Option<(Time, Signal)> {
        if child.is_reaped() {
            return None;
        }
        let tell = child.stop_signal_at().map(|at| (at, Signal::Interrupt));
        tell.or_else(|| {
            let kill_at = child.kill_at(self.attributes.timeout, self.gaps)?;
            Some((kill_at, Signal::Kill))
        })
    }

    fn escalate(&mut self) {
        if self.pool.census().retiring == 0 {
            return;
        }
        let due: Vec<_> = self
            .pool
            .iter()
            .filter_map(|child| Some((child.id, child.pid, self.next_signal(child)?)))
            .filter(|(_, _, (at, _))| *at <= self.now)
            .collect();
        for (id, pid, (_, signal)) in due {
            log::debug!("child {pid} lives on, {signal:?} for it");
            self.send(id, signal);
            self.restart_kill_timer(id, signal);
        }
    }

    /// Restarts the time until SIGKILL for a child that closed its outputs, when SIGINT is sent.
    ///
    /// It is told some time after it began to retire, and the parent may be late.
    fn restart_kill_timer(&mut self, id: ChildId, signal: Signal) {
        let now = self.now;
        if signal == Signal::Interrupt
            && let Some(child) = self.pool.get_mut(id)
            && let Some(told) = &mut child.retirement
        {
            told.at = now;
            let reason = told.reason;
            self.happened(Event::ToldToStop { child: id, reason });
        }
    }

    fn notice_starts_that_held(&mut self) {
        let held = self
            .pool
            .iter()
            .filter(|child| self.has_held(child))
            .map(|child| child.start_time)
            .max();
        if let Some(start_time) = held {
            self.backoff.proved(start_time);
        }
    }
}
