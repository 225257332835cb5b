//! What the default hooks need from the monitor: plans, states, the timeout check, the shutdown.
//! Decides and queues; calls no hook.

use super::*;

/// What the default hooks and the loop need from the monitor.
impl Monitor {
    pub(crate) fn with_attributes(attributes: Attributes) -> Self {
        Self {
            begun_with: Some(attributes.asked().clone()),
            attributes,
            ..Self::default()
        }
    }

    pub(crate) fn post_known(&mut self, posted: Posted) {
        if posted != Posted::Forkoff || !self.queue.has_forkoff() {
            self.queue.push(Task::Posted(posted));
        }
    }

    /// Queues an event for observers. In a child there are no observers.
    pub(super) fn happened(&mut self, event: Event<'static>) {
        if !self.child {
            self.events.push(event);
        }
    }

    /// Logs a warning, unless the same one was logged in the last ten seconds: then it is counted.
    pub(crate) fn warn(&mut self, text: &str) {
        if self.warnings.note(text, self.now) {
            say!(Warn, "{text}");
        }
    }

    /// Logs how many warnings were left out, when their ten seconds are over.
    pub(super) fn warn_of_repeats(&mut self) {
        self.warn_of_repeats_until(self.now);
    }

    /// Logs how many warnings were left out, at the end of the server.
    pub(crate) fn end_warnings(&mut self) {
        self.warn_of_repeats_until(self.now + EVERY);
    }

    fn warn_of_repeats_until(&mut self, until: Time) {
        for (text, count) in self.warnings.take_due(until) {
            say!(Warn, "{text} ({count} times more)");
        }
    }

    /// Whether new clients have to wait for a busy child: no child is free, and no further one may
    /// be forked.
    pub(crate) fn is_saturated(&self) -> bool {
        let census = self.pool.census();
        let full = census.live() >= self.attributes.max_clients;
        full && census.busy > 0 && census.idle() == 0 && !self.shutdown
    }

    /// Observes whether the server is saturated, and counts the episodes.
    pub(crate) fn observe_saturation(&mut self) -> Option<Change> {
        let change = if self.shutdown {
            self.saturation.end(self.now)
        } else {
            self.saturation.observe(self.is_saturated(), self.now)
        };
        match change {
            Some(Change::Begins { .. }) => self.report.saturations += 1,
            Some(Change::Ends { after }) => self.report.saturated_for += after,
            None => {}
        }
        change
    }

    /// Notes how many connections children have not served.
    pub(crate) fn note_refusals(&mut self, found: Refusals) {
        let found = found.plus(self.refused_before);
        let before = std::mem::replace(&mut self.report.refusals, found);
        for (reason, connections) in found.since(before) {
            self.happened(Event::Refused {
                reason,
                connections,
            });
        }
    }

    /// Whether the server is in an episode of saturation.
    pub(crate) fn is_in_saturation(&self) -> bool {
        self.saturation.lasts()
    }

    /// Runs `hook` under its name, so that a panic in it can be logged with that name.
    pub(crate) fn naming<R>(&mut self, name: &'static str, hook: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.hook, name);
        self.last_hook = name;
        let result = hook(self);
        self.hook = outer;
        result
    }

    /// Acts on changed attributes: warns once of each value that makes no sense, and updates the
    /// surplus and the timer of the timeout check.
    pub(crate) fn attributes_changed(&mut self) {
        for change in self.attributes.take_unreported() {
            say!(
                Warn,
                "{} {} makes no sense, using {}",
                change.name,
                change.from,
                change.to
            );
        }
        self.observe_surplus();
        self.watch_clocks();
        self.plan_age_check();
        self.memory_watch
            .set(self.attributes.max_memory > 0, self.now);
        let timeout = self.attributes.timeout;
        if self
            .checked_timeout
            .is_some_and(|checked| checked != timeout)
        {
            self.arm_timeout_check();
        }
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

    /// What `forkoff` should do now. A surplus that the plan culls no longer counts.
    pub(crate) fn take_plan(&mut self) -> Plan {
        let queued = self.queue.forks();
        let demand = Demand {
            queued,
            successors: self.starting_successors().count() + self.replacement.asked(queued),
            owed: self
                .owed
                .saturating_sub(queued - self.replacement.asked(queued)),
            surplus: self.surplus.lasted(self.attributes.cull_after, self.now),
        };
        let plan = pool::plan(self.pool.census(), demand, &self.attributes);
        match plan {
            _ if self.shutdown => return Plan::Steady,
            Plan::Fork(_) if !self.may_fork(queued) => return Plan::Steady,
            Plan::Retire(surplus) => self.surplus.culled(surplus),
            Plan::Fork(_) | Plan::Steady => {}
        }
        plan
    }

    /// Sets the timer of the timeout check in place of an earlier one. In a shutdown there is none.
    pub(crate) fn arm_timeout_check(&mut self) {
        self.checked_timeout = Some(self.attributes.timeout);
        self.arm_timeout_check_in(self.attributes.check_interval());
    }

    fn arm_timeout_check_in(&mut self, interval: Option<Duration>) {
        if let Some(armed) = self.timeout_check.take() {
            self.alarms.remove(armed);
        }
        let interval = interval.filter(|_| !self.shutdown);
        self.timeout_check =
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

    pub(crate) fn begin_shutdown(&mut self) {
        self.stop.has_begun();
        if !std::mem::replace(&mut self.shutdown, true) {
            self.happened(Event::ShuttingDown);
        }
        self.owed = 0;
        self.replacement.clear();
    }

    pub(crate) fn become_child(&mut self) {
        self.child = true;
    }

    /// Drops the children, the alarms and everything queued.
    pub(crate) fn forget_all(&mut self) {
        let pool = std::mem::take(&mut self.pool);
        let alarms = std::mem::take(&mut self.alarms);
        let mut queue = std::mem::take(&mut self.queue);
        if self.child {
            queue.close_watches();
            // Freeing them would write to memory that is shared with the parent, so each child
            // would copy it: in a large pool that costs more than the fork itself.
            std::mem::forget((pool, alarms, queue));
        }
        self.owed = 0;
    }

    pub(super) fn observe_surplus(&mut self) {
        let surplus = pool::surplus(self.pool.census(), &self.attributes);
        self.surplus.observe(surplus, self.now);
    }
}
