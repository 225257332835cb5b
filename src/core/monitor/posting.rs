//! States that are posted: now, after a time, at a signal or when a descriptor is ready. Calls no
//! handler.

use super::*;

/// What is posted, and when.
impl Monitor {
    /// Posts a state, the original's `yield`.
    ///
    /// A registered state leads to `handler_state`, a documented one to its handler. At most one
    /// `forkoff` waits in the queue.
    ///
    /// For a name that is not registered, and for a documented state that needs arguments, a
    /// warning is logged and nothing is posted.
    pub fn post(&mut self, state: &str) {
        match self.states.resolve(state) {
            Resolved::Posted(posted) => self.post_known(posted),
            Resolved::NeedsArguments => self.notice(
                Notice::CalledState,
                format_args!("state {state} cannot be posted: the loop calls it with arguments"),
            ),
            Resolved::Unknown => self.notice(
                Notice::UnknownState,
                format_args!("state {state} was posted and is not registered"),
            ),
        }
    }

    pub(crate) fn post_known(&mut self, posted: PostedState) {
        if posted != PostedState::Forkoff || !self.queue.has_forkoff() {
            self.queue.push(Task::Posted(posted));
        }
    }

    /// Posts `state` when `after` has passed.
    pub fn delay_set(&mut self, state: &str, after: Duration) -> AlarmId {
        self.alarms.set(self.now + after, state)
    }

    /// Removes an alarm. False if it has gone off or was already removed.
    pub fn alarm_remove(&mut self, id: AlarmId) -> bool {
        self.alarms.remove(id)
    }

    /// Removes all alarms, including that of the timeout check.
    ///
    /// The escalation from SIGINT to SIGKILL is not an alarm and stays.
    pub fn alarm_remove_all(&mut self) {
        self.alarms.clear();
    }

    /// Stops watching a descriptor, and closes its duplicate.
    pub fn select_remove(&mut self, id: WatchId) {
        self.queue.push(Task::Unwatch(id));
    }

    pub(crate) fn select(
        &mut self,
        descriptor: Box<dyn Any>,
        readiness: WatchInterest,
        state: &str,
    ) -> WatchId {
        let id = self.states.select(descriptor, readiness, state);
        self.queue_watches();
        id
    }

    /// Takes the registry out, to be filled and installed again. It keeps what was registered
    /// before.
    pub(crate) fn take_states(&mut self) -> States {
        std::mem::take(&mut self.states)
    }

    pub(crate) fn install(&mut self, states: States) {
        self.states = states;
        self.queue_watches();
    }

    pub(super) fn queue_watches(&mut self) {
        for watch in self.states.take_watches() {
            self.queue.push(Task::Watch(watch));
        }
    }
}
