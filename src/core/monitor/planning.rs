//! What the defaults ask of the books: plans, states, the timeout check, the shutdown. Decides and
//! queues; calls no hook.

use super::*;

/// What the defaults and the loop do with the books.
impl Monitor {
    pub(crate) fn with_attributes(attributes: Attributes) -> Self {
        Self {
            attributes,
            ..Self::default()
        }
    }

    pub(crate) fn post_known(&mut self, posted: Posted) {
        if posted != Posted::Forkoff || !self.queue.has_forkoff() {
            self.queue.push(Task::Posted(posted));
        }
    }

    /// Notes what observers are to be told. In a child there are none: nobody is told its copy.
    pub(super) fn happened(&mut self, event: Event<'static>) {
        if !self.child {
            self.events.push(event);
        }
    }

    /// Whether clients wait for a child that is busy: no child is free, and none more may be forked.
    pub(crate) fn is_saturated(&self) -> bool {
        let census = self.pool.census();
        let full = census.live() >= self.attributes.max_clients;
        full && census.busy > 0 && census.idle() == 0 && !self.shutdown
    }

    /// Runs `hook` under its name, so that a panic in it can be reported with it.
    pub(crate) fn naming<R>(&mut self, name: &'static str, hook: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.hook, name);
        self.last_hook = name;
        let result = hook(self);
        self.hook = outer;
        result
    }

    /// Warns of each value that makes no sense and has not been warned of, and looks at the pool
    /// with the new ones.
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
        let timeout = self.attributes.timeout;
        if self
            .checked_timeout
            .is_some_and(|checked| checked != timeout)
        {
            self.arm_timeout_check();
        }
    }

    /// The registry, to be filled and installed again. What was registered before stays, and so
    /// does the numbering of the descriptors that are watched already.
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

    /// What `forkoff` should do now. Taking the plan settles it: a surplus that it culls is watched
    /// anew.
    pub(crate) fn take_plan(&mut self) -> Plan {
        let queued = self.queue.forks();
        let demand = Demand {
            queued,
            owed: self.owed.saturating_sub(queued),
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

    /// Sets the timer of the timeout check. There is one, however often a check is asked for, and
    /// none in a shutdown, which has removed all alarms.
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

    /// Puts the timeout check off, if there has been no turn for so long that ACKs should have come
    /// meanwhile: then either everybody is silent, or all of us were stopped (a suspended group, a
    /// paused machine) and the children have not had the time to say so. The next look will tell.
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

    /// Who has been silent for too long: free ones and busy ones. Up to the last turn, since what they have
    /// said after it has not been read.
    pub(crate) fn overdue(&self) -> (Vec<ChildId>, Vec<ChildId>) {
        if self.attributes.timeout.is_zero() {
            return (Vec::new(), Vec::new());
        }
        self.pool
            .overdue(self.attributes.timeout, self.turned, self.gaps)
    }

    pub(crate) fn begin_shutdown(&mut self) {
        if !std::mem::replace(&mut self.shutdown, true) {
            self.happened(Event::ShuttingDown);
        }
        self.owed = 0;
    }

    pub(crate) fn become_child(&mut self) {
        self.child = true;
    }

    /// Forgets what was the parent's: children, alarms, everything queued.
    pub(crate) fn forget_all(&mut self) {
        let pool = std::mem::take(&mut self.pool);
        let alarms = std::mem::take(&mut self.alarms);
        let mut queue = std::mem::take(&mut self.queue);
        if self.child {
            queue.close_watches();
            // To free them would write to memory that is shared with the parent, and copy it, in
            // each child: in a large pool more than the fork itself.
            std::mem::forget((pool, alarms, queue));
        }
        self.owed = 0;
    }

    pub(super) fn observe_surplus(&mut self) {
        let surplus = pool::surplus(self.pool.census(), &self.attributes);
        self.surplus.observe(surplus, self.now);
    }
}
