//! What the default hooks need from the monitor: plans, states, the timeout check, the shutdown.
//! Decides and queues; calls no hook.

use super::*;
use crate::core::repeats::LeftOut;
use log::Level;

/// What the default hooks and the loop need from the monitor.
impl Monitor {
    pub(crate) fn with_attributes(attributes: Attributes) -> Self {
        Self {
            begun_with: Some(attributes.asked().clone()),
            attributes,
            ..Self::default()
        }
    }

    pub(crate) fn post_known(&mut self, posted: PostedState) {
        if posted != PostedState::Forkoff || !self.queue.has_forkoff() {
            self.queue.push(Task::Posted(posted));
        }
    }

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

    /// What a new client finds: a free child, or only busy ones and whether more may come.
    pub(crate) fn fill(&self) -> Fill {
        let census = self.pool.census();
        let all_are_there = census.live() >= self.attributes.max_clients;
        if self.shutdown || self.is_any_free() {
            Fill::Room
        } else if all_are_there && census.busy > 0 && census.idle() == 0 {
            Fill::Full
        } else {
            Fill::Short
        }
    }

    /// Whether a child can take a client. A newcomer that has only said that it lives counts as free,
    /// but it takes its first client from the queue that has formed while all were busy.
    fn is_any_free(&self) -> bool {
        let is_free = |child: &Child| child.state == State::Free && child.is_ready();
        let free = self.pool.census().free > 0;
        free && (!self.all_busy || self.pool.iter().any(is_free))
    }

    /// Observes whether the server is saturated, and counts the episodes.
    pub(crate) fn observe_saturation(&mut self) -> Option<Change> {
        let fill = self.fill();
        self.all_busy = match fill {
            Fill::Room => false,
            Fill::Short => self.all_busy,
            Fill::Full => true,
        };
        let change = if self.shutdown {
            self.saturation.end(self.now)
        } else {
            self.saturation.observe(fill, self.now)
        };
        self.count_saturation(change);
        change
    }

    /// Whether no child has been free since all were busy.
    pub(crate) fn are_all_busy(&self) -> bool {
        self.all_busy
    }

    fn count_saturation(&mut self, change: Option<Change>) {
        let lasted = match change {
            Some(Change::Ends { after }) => after,
            _ => self.saturation.lasted(self.now),
        };
        self.report.saturations += u64::from(matches!(change, Some(Change::Begins { .. })));
        self.report.saturated_for += lasted.saturating_sub(self.saturation_counted);
        self.saturation_counted = self.saturation.lasted(self.now);
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

    /// Since when the present episode of saturation has lasted, if there is one.
    #[cfg(feature = "status")]
    pub(crate) fn saturated_since(&self) -> Option<Time> {
        self.saturation.since()
    }

    /// Whether all children are busy, and it is not known yet whether that lasts.
    pub(crate) fn saturation_comes(&self) -> bool {
        self.saturation.comes()
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

    /// Sets an attribute from text, and has the numbers of children checked against the new value.
    pub(crate) fn set_from_text(
        &mut self,
        attribute: &Attribute,
        text: &str,
    ) -> Result<(), String> {
        let mut asked = self.config().clone();
        attribute.set(&mut asked, text)?;
        self.attributes.set(|config| *config = asked);
        self.attributes_changed();
        if !self.shutdown {
            self.post_known(PostedState::Forkoff);
        }
        Ok(())
    }

    /// Acts on changed attributes: warns once of each value that makes no sense, and updates the
    /// surplus and the timer of the timeout check. A default that gives way to what was asked for is
    /// no mistake of anybody.
    pub(crate) fn attributes_changed(&mut self) {
        let unreported = self.attributes.take_unreported();
        for change in unreported.iter().filter(|change| !change.is_of_default()) {
            let (name, from, to) = (change.name, change.from, change.to);
            self.notice(
                Notice::Attribute(name),
                format_args!("{name} {from} makes no sense, using {to}"),
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

    /// Whether one child is to be kept for the time when all others are busy.
    fn wants_reserve(&self) -> bool {
        self.sheds && self.attributes.reserved_shedder && self.attributes.max_clients > 1
    }

    /// Why there is no reserved child though one is asked for, if that is so.
    pub(crate) fn why_no_reserve(&self) -> Option<&'static str> {
        if !self.sheds {
            Some(
                "it needs a max_queue_age, and sockets that tell how old connections are (TCP, on \
                 Linux)",
            )
        } else if !self.wants_reserve() {
            Some("with max_clients 1 nobody would serve")
        } else {
            None
        }
    }

    /// Whether the child that is forked next is the reserved one. It finds that out by itself, in its
    /// copy of the monitor.
    pub(crate) fn forks_reserve(&self) -> bool {
        self.wants_reserve() && pool::is_reserve_due(self.pool.census(), &self.attributes)
    }

    /// How many children can be busy: all but the reserved one.
    pub(crate) fn max_busy(&self) -> usize {
        self.attributes.max_clients - usize::from(self.wants_reserve())
    }

    /// Tells the reserved child to stop if it is of no use any more, or is to be replaced: it has
    /// no client, so nobody waits for its successor.
    fn release_reserve(&mut self) {
        let Some(reserved) = self.pool.reserved() else {
            return;
        };
        let unwanted = !self.wants_reserve();
        let reason = if reserved.epoch != self.replacement.epoch() {
            Reason::Reloaded
        } else if reserved.is_due() {
            Reason::Recycled
        } else if unwanted || pool::is_reserve_idle(self.pool.census(), &self.attributes) {
            Reason::Culled
        } else {
            return;
        };
        self.stop(reserved.id, reason);
    }

    /// What `forkoff` should do now. A surplus that the plan culls no longer counts.
    pub(crate) fn take_plan(&mut self) -> ForkPlan {
        self.release_reserve();
        let queued = self.queue.forks();
        let demand = Demand {
            queued,
            successors: self.starting_successors().count() + self.replacement.asked(queued),
            owed: self
                .owed
                .saturating_sub(queued - self.replacement.asked(queued)),
            surplus: self.surplus.lasted(self.attributes.cull_after, self.now),
            reserve: self.wants_reserve(),
        };
        let plan = pool::plan(self.pool.census(), demand, &self.attributes);
        match plan {
            _ if self.shutdown => return ForkPlan::Steady,
            ForkPlan::Fork(_) if !self.may_fork(queued) => return ForkPlan::Steady,
            ForkPlan::Fork(forks) => return self.brake_forks(forks, queued),
            ForkPlan::Retire(surplus) => self.surplus.culled(surplus),
            ForkPlan::Steady => {}
        }
        plan
    }

    /// As many of these forks as children may be starting, if others serve meanwhile.
    fn brake_forks(&mut self, forks: usize, queued: usize) -> ForkPlan {
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

    /// What a child that is told to leave now does with the clients that are queued.
    pub(crate) fn queued_clients(&self, child: ChildId) -> QueuedClients {
        let reason = self.pool.get(child).and_then(Child::reason);
        if self.shutdown || reason == Some(Reason::Shutdown) {
            QueuedClients::Serve
        } else {
            QueuedClients::LeaveToOthers
        }
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
