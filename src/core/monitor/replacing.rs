//! Replacement, as the loop and hooks ask for it: reload, limits, successors. Decides by
//! `core/replacement`; calls no hook.

use super::*;
use crate::core::{
    child::SuccessorRole,
    error::{Error, Operation},
    replacement::{Candidate, Moves, PATIENCE, PoolView, Standing},
};
use std::io;

/// Replacement.
impl Monitor {
    /// Posts `reload`, which replaces every child.
    ///
    /// The hook `handler_reload` is called first.
    ///
    /// A child goes when its successor is ready. A reload during a reload begins again, and
    /// replaces the children of the earlier one first. In a shutdown it has no effect.
    pub fn reload(&mut self) {
        if !self.queue.has(&PostedState::Reload) {
            self.post_known(PostedState::Reload);
        }
    }

    /// Whether a reload is under way: some children have not been replaced yet.
    pub fn is_reloading(&self) -> bool {
        self.replacement.is_reloading()
    }

    /// Has a child replaced: its successor is forked first.
    ///
    /// The child is told to stop when the successor is ready. The name of a reaped child is
    /// ignored, as is a child that was told to stop.
    ///
    /// See [`stop`](Self::stop) for a child that is to go at once.
    pub fn replace(&mut self, id: ChildId) {
        let child = self.pool.get_mut(id);
        let serves = |child: &&mut Child| child.state != State::Retiring && !child.is_due();
        if let Some(child) = child.filter(serves) {
            child.flags |= ChildFlags::DUE;
            self.replacement.touch();
        }
    }

    /// Begins a new epoch: `handler_reload` has succeeded.
    pub(crate) fn begin_reload(&mut self) {
        if self.shutdown {
            return;
        }
        self.replacement.reload(self.now);
        let epoch = self.replacement.epoch();
        self.happened(Event::ReloadBegan { epoch });
    }

    /// A child of the parent before is a successor, for which no child was told to stop yet.
    #[cfg(feature = "holder")]
    pub(crate) fn succeeds_still(&mut self, id: ChildId) {
        let role = Some(SuccessorRole::Successor);
        let Some(child) = self.pool.get_mut(id).filter(|child| !child.is_reaped()) else {
            return;
        };
        child.role = role;
        if child.is_ready() && child.epoch == self.replacement.epoch() {
            self.replacement.started(id, role);
        }
    }

    /// Goes on with the reload of the parent before, if children of an older epoch are left: as if
    /// it had begun now, except for the settings, which were read, and the epoch. On the way back
    /// to the program before, children of another epoch are those of a reload that has failed.
    #[cfg(feature = "holder")]
    pub(super) fn reloads_still(&mut self) {
        let epoch = self.replacement.epoch();
        let is_left = self.not_retiring().any(|child| child.epoch != epoch);
        if is_left && !self.upgrade.is_returning() {
            self.replacement.go_on(self.now);
            self.happened(Event::ReloadBegan { epoch });
        }
    }

    /// Marks the children that have reached a limit of age, and stops those that are past it.
    pub(crate) fn check_ages(&mut self) {
        let due = self.ages_at.is_some_and(|at| at <= self.now);
        if !due || self.shutdown {
            return;
        }
        let (limits, now) = (self.attributes.limits(), self.now);
        let standing = |child: &Child| limits.age(child.start_time, child.id.serial(), now);
        let found: Vec<_> = self
            .not_retiring()
            .map(|child| (child.id, standing(child)))
            .collect();
        for (id, standing) in found {
            self.judge(id, standing);
        }
        self.plan_age_check();
    }

    /// Determines when a child will next reach a limit of age.
    pub(crate) fn plan_age_check(&mut self) {
        let limits = self.attributes.limits();
        let next = |child: &Child| match child.is_due() {
            true => limits.over_at(child.start_time),
            false => limits.due_at(child.start_time, child.id.serial()),
        };
        self.ages_at = self.not_retiring().filter_map(next).min();
    }

    /// The children whose memory is to be read now.
    pub(crate) fn memory_to_read(&mut self) -> Vec<ChildId> {
        if self.shutdown || self.memory_watch.next_at().is_none_or(|at| self.now < at) {
            return Vec::new();
        }
        let not_retiring = self.not_retiring().map(Child::id).collect();
        self.memory_watch.take_due(not_retiring, self.now)
    }

    /// Notes how much private memory a child has.
    pub(crate) fn note_memory(&mut self, id: ChildId, bytes: u64) {
        let limits = self.attributes.limits();
        if let Some(child) = self.pool.get_mut(id) {
            child.private_memory = Some(bytes);
            self.judge(id, limits.memory(id.serial(), bytes));
        }
    }

    fn judge(&mut self, id: ChildId, standing: Standing) {
        match standing {
            Standing::Within => {}
            Standing::Due => self.replace(id),
            Standing::Over => self.stop(id, Reason::Recycled),
        }
    }

    /// When the limits want the next turn.
    pub(super) fn limits_at(&self) -> Option<Time> {
        let program = self.programs_ready_at();
        let times = [
            self.ages_at,
            self.memory_watch.next_at(),
            program,
            self.slow_at,
        ];
        times.into_iter().flatten().min()
    }

    /// Takes programs that have said no word for ready when they have run for some time: they need
    /// not say any.
    pub(crate) fn notice_silent_programs(&mut self) {
        if self.programs_ready_at().is_none_or(|at| self.now < at) {
            return;
        }
        let now = self.now;
        let old = |child: &&Child| !child.is_ready() && child.start_time + START_HOLDS_AFTER <= now;
        let ready: Vec<_> = self.not_retiring().filter(old).map(Child::id).collect();
        ready.into_iter().for_each(|id| self.note_ready(id));
    }

    /// Has the replacement go on if a child that went first has served for too long.
    pub(crate) fn notice_slow_leavers(&mut self) {
        if self.slow_at.is_some_and(|at| at <= self.now) {
            self.slow_at = None;
            self.replacement.touch();
        }
    }

    /// When each child that went first, and still serves a client, is not waited for any longer.
    fn leavers(&self) -> impl Iterator<Item = (ChildId, Time)> + '_ {
        let serving = self.retiring_servers().filter(|child| child.is_serving());
        let serving = serving.filter(|child| self.replacement.went_first(child.id));
        serving.filter_map(|child| Some((child.id, child.retirement.as_ref()?.at + PATIENCE)))
    }

    fn programs_ready_at(&self) -> Option<Time> {
        let programs = self.programs && self.pool.census().starting > 0;
        let starting = programs.then(|| self.not_retiring()).into_iter().flatten();
        let unready = starting.filter(|child| !child.is_ready());
        unready
            .map(|child| child.start_time + START_HOLDS_AFTER)
            .min()
    }

    /// Notes that a child can take connections.
    pub(super) fn note_ready(&mut self, id: ChildId) {
        let Some(child) = self.pool.get_mut(id).filter(|child| !child.is_ready()) else {
            return;
        };
        child.flags |= ChildFlags::READY;
        let (epoch, role) = (child.epoch, child.role);
        if epoch == self.replacement.epoch() {
            self.replacement.started(id, role);
        }
    }

    /// Gives a child that was just forked its epoch, and its role if it is a successor.
    pub(super) fn enrol(&mut self, id: ChildId) {
        let is_reserved = self.pool.reserved().is_some_and(|child| child.id == id);
        // It serves no client, so it is no child's successor.
        let role = (!is_reserved).then(|| self.replacement.forked()).flatten();
        let epoch = self.replacement.epoch();
        if let Some(child) = self.pool.get_mut(id) {
            (child.epoch, child.role) = (epoch, role);
        }
        if self.ages_at.is_none() || self.pool.len() == 1 {
            self.plan_age_check();
        }
    }

    /// Notes the end of a child. If it has ended before it was ready, the reload may end.
    pub(super) fn note_end_for_replacement(&mut self, child: &Child, death: &Death) {
        let refilled = matches!(child.role, Some(SuccessorRole::Refill(_))) && !child.is_ready();
        self.replacement.ended(child.id, refilled);
        let counts = death.cause.is_failure();
        let unready = !child.is_ready() && child.epoch == self.replacement.epoch();
        if !counts || !unready || self.shutdown || !self.replacement.failed() {
            return;
        }
        self.keep_the_old();
        self.queue
            .push(Task::ReloadFailed(reload_error(child, death)));
    }

    /// Gives up the reload that is under way: the old children stay.
    pub(crate) fn give_up_reload(&mut self) {
        self.replacement.give_up();
        self.keep_the_old();
    }

    /// After a reload that has failed, the old children stay.
    fn keep_the_old(&mut self) {
        let ids: Vec<_> = self.not_retiring().map(Child::id).collect();
        for id in ids {
            if let Some(child) = self.pool.get_mut(id) {
                child.epoch = self.replacement.adopt(child.epoch);
            }
        }
    }

    /// Whether a child that had to go first has no successor that is ready.
    pub(crate) fn awaits_successor(&self, id: ChildId) -> bool {
        let refill = Some(SuccessorRole::Refill(id));
        let refills = |child: &Child| child.role == refill && !child.is_ready();
        self.replacement.awaits(id) || self.children().any(refills)
    }

    /// Whether a successor that is under way takes the place of a child that was due and has ended
    /// by itself.
    pub(super) fn has_its_successor(&mut self, child: &Child) -> bool {
        if !child.is_due() {
            return false;
        }
        let successor = self.starting_successors().next().map(Child::id);
        match successor.and_then(|id| self.pool.get_mut(id)) {
            Some(successor) => {
                successor.role = None;
                true
            }
            None => self.replacement.takes_back_one(self.queue.forks()),
        }
    }

    /// The successors that are not ready, and so no spare children.
    pub(super) fn starting_successors(&self) -> impl Iterator<Item = &Child> + '_ {
        let any = self.pool.census().starting > 0;
        let starting = any.then(|| self.not_retiring()).into_iter().flatten();
        starting.filter(|child| child.role == Some(SuccessorRole::Successor) && !child.is_ready())
    }

    /// What the replacement is to do now; children are told to stop and forks are posted here.
    pub(crate) fn replacement_step(&mut self) -> Moves {
        if !self.replacement.is_due() || self.shutdown {
            return Moves::default();
        }
        if self.pool.reserved().is_some() {
            self.post_known(PostedState::Forkoff);
        }
        let pool_view = self.pool_view();
        let moves = self.replacement.step(pool_view);
        for &(child, reason) in &moves.stop {
            self.stop(child, reason);
        }
        let now = self.now;
        let later = self.leavers().map(|(_, slow_at)| slow_at);
        self.slow_at = later.filter(|at| *at > now).min();
        for _ in 0..moves.forks {
            self.post_known(PostedState::ServerFork);
        }
        moves
    }

    fn pool_view(&mut self) -> PoolView {
        let epoch = self.replacement.epoch();
        let (census, queued) = (self.pool.census(), self.queue.forks());
        let candidates: Vec<_> = self
            .replaceable()
            .filter_map(|child| self.candidate(child))
            .collect();
        let delayed = self.replacement.wants_forks(&candidates) && self.delays_forks();
        PoolView {
            candidates,
            starting: self.replaceable().filter(|child| !child.is_ready()).count(),
            renewed: self
                .replaceable()
                .any(|child| child.epoch == epoch && child.is_ready()),
            room: self.room(queued),
            leaving: self
                .retiring_servers()
                .filter(|child| !child.is_serving())
                .count(),
            retiring: self.retiring_servers().map(Child::id).collect(),
            slow: self
                .leavers()
                .filter(|(_, slow_at)| *slow_at <= self.now)
                .map(|(id, _)| id)
                .collect(),
            queued,
            delayed,
            at_once: self.attributes.replacements_at_once(census.live()),
        }
    }

    fn candidate(&self, child: &Child) -> Option<Candidate> {
        let reason = match (child.is_due(), child.epoch == self.replacement.epoch()) {
            (true, _) => Reason::Recycled,
            (false, false) => Reason::Reloaded,
            (false, true) => return None,
        };
        Some(Candidate {
            id: child.id,
            reason,
            epoch: child.epoch,
            start_time: child.start_time,
            ready: child.is_ready(),
            busy: child.state == State::Busy,
            refills: matches!(child.role, Some(SuccessorRole::Refill(_))),
        })
    }

    /// Those that are replaced by successors: the reserved child just goes, and comes again.
    fn replaceable(&self) -> impl Iterator<Item = &Child> + '_ {
        self.not_retiring()
            .filter(|child| child.state != State::Reserved)
    }

    /// The living children that were not told to stop.
    fn not_retiring(&self) -> impl Iterator<Item = &Child> + '_ {
        let not_retiring = |child: &&Child| child.state != State::Retiring && !child.is_reaped();
        self.children().filter(not_retiring)
    }
}

fn reload_error(child: &Child, death: &Death) -> Error {
    let last_lines = child.last_lines.text();
    let reason = format!(
        "{} children in a row have not become ready; the last, {}: {death}, last lines {last_lines:?}",
        crate::core::replacement::FAILURES,
        child.pid,
    );
    Error::new(Operation::Reload, "the children", io::Error::other(reason))
}
