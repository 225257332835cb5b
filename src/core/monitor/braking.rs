//! Forks that are held back while starting children slow those that serve. Measures nothing itself.

use super::*;

/// The brake of forks.
impl Monitor {
    /// As many of these forks as children may be starting, if others serve meanwhile.
    pub(super) fn brake_forks(&mut self, forks: usize, queued: usize) -> ForkPlan {
        let is_off = !(self.attributes.fork_brake && self.brake.is_needed());
        if is_off || !self.pool.iter().any(Child::is_ready) {
            return ForkPlan::Fork(forks);
        }
        let starting = self.starting_usually() + queued;
        match self.brake.allow(forks, starting, self.now) {
            0 => ForkPlan::Steady,
            forks => ForkPlan::Fork(forks),
        }
    }

    /// How many children are starting, without those that have taken too long to be waited for.
    fn starting_usually(&self) -> usize {
        let since = self.now.before(self.brake.longest_start());
        let starting = |child: &&Child| child.state != State::Retiring && !child.is_ready();
        let starting = self.pool.iter().filter(starting);
        starting.filter(|child| child.start_time > since).count()
    }

    /// The children whose starts are to be measured now.
    pub(crate) fn take_started(&mut self) -> Vec<ChildId> {
        std::mem::take(&mut self.started)
    }

    /// Notes that a child has become ready, after a start that may be worth a measurement.
    pub(super) fn note_start_of(&mut self, id: ChildId) {
        if !self.attributes.fork_brake {
            return;
        }
        if self.brake.measures(self.now) {
            self.started.push(id);
        }
        if self.brake.holds() {
            self.post_known(PostedState::Forkoff);
        }
    }

    /// Notes for how long a child has run in its start.
    pub(crate) fn note_run_time(&mut self, id: ChildId, time: RunTime) {
        if let Some(child) = self.pool.get(id) {
            let took = self.now.since(child.start_time);
            self.brake.note_start(took, time);
        }
    }

    /// Whether to read how much processes wait for a processor.
    pub(crate) fn wants_pressure(&self) -> bool {
        self.attributes.fork_brake && self.brake.wants_pressure(self.now)
    }
}
