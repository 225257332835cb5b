//! How many children there are to be: the plan of forks and culls, and whether a fork is allowed.
//! Decides and queues; forks nothing.

use super::*;

/// How many children there are to be.
impl Monitor {
    /// Asks for a fork. False if no fork is allowed now.
    ///
    /// That is so at `max_clients`, in a shutdown, and while failures delay forks; in the last case
    /// `forkoff` is posted when the delay is over.
    pub fn fork(&mut self) -> bool {
        let allowed = self.may_fork(self.queue.forks());
        if allowed {
            self.queue.push(Task::Fork);
        }
        allowed
    }

    /// Whether a fork is allowed, besides `queued` forks that are not done yet.
    ///
    /// It is checked when a fork is planned, when a hook asks for one, and when one is performed,
    /// since `max_clients` may have been lowered. A fork that failures delay is planned again when
    /// the delay is over.
    pub(crate) fn may_fork(&mut self, queued: usize) -> bool {
        let open = self.room(queued) > 0 && !self.shutdown && !self.child;
        open && !self.delays_forks()
    }

    /// How many more children `max_clients` allows, besides `queued` forks that are not done yet.
    pub(super) fn room(&self, queued: usize) -> usize {
        pool::room(self.pool.census(), queued, &self.attributes)
    }

    /// Whether failures delay forks now. Asking makes the end of the delay an event.
    pub(super) fn delays_forks(&mut self) -> bool {
        self.backoff.refuses(self.now)
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

    pub(super) fn observe_surplus(&mut self) {
        let surplus = pool::surplus(self.pool.census(), &self.attributes);
        self.surplus.observe(surplus, self.now);
    }
}
