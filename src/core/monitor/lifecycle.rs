//! The life of each child, as the loop records it: forked, its words, closed, reaped. Calls no hook.

use super::*;

/// The life of each child, as the loop records it.
impl Monitor {
    pub(crate) fn forked(&mut self, pid: u32, contact: Option<Box<Contact>>) -> ChildId {
        self.report.forks += 1;
        self.backoff.fork_succeeded();
        let reserve = self.forks_reserve();
        let id = self.pool.insert(pid, self.now, self.gaps, contact);
        if reserve {
            self.pool.set_state(id, State::Reserved);
        }
        if let Some(child) = self.pool.get_mut(id) {
            child.known_timeout = Some(self.attributes.timeout);
        }
        self.pay_for_a_death();
        self.watch_clock(id);
        self.enrol(id);
        self.happened(Event::Forked { child: id });
        // It serves what is queued, and goes.
        if self.shutdown {
            self.stop(id, Reason::Shutdown);
        }
        id
    }

    /// Each fork replaces one child that has ended. A fork that reaches `max_clients` settles all
    /// replacements that are owed: otherwise they would be forked later, only to be culled.
    fn pay_for_a_death(&mut self) {
        let full = self.pool.len() >= self.attributes.max_clients;
        self.owed = if full { 0 } else { self.owed.saturating_sub(1) };
    }

    /// Notes that a fork has failed, and returns the delay before the next.
    pub(crate) fn fork_failed(&mut self) -> Duration {
        self.report.failed_forks += 1;
        self.backoff.fork_failed(self.now)
    }

    /// Notes whether the turn left output of a child unread.
    pub(crate) fn set_unread(&mut self, id: ChildId, unread: bool) {
        if let Some(child) = self.pool.get_mut(id) {
            child.flags.set(ChildFlags::UNREAD, unread);
        }
    }

    /// Notes that one of a child's outputs has ended. True, once per child, when it was the last.
    pub(crate) fn output_ended(&mut self, id: ChildId, output: ChildFlags) -> bool {
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        child.flags.remove(output);
        let open = child
            .flags
            .intersects(ChildFlags::STDOUT_OPEN | ChildFlags::STDERR_OPEN);
        if open || child.flags.contains(ChildFlags::CLOSED) {
            return false;
        }
        child.flags |= ChildFlags::CLOSED;
        if child.state != State::Retiring {
            self.note_failing_start(id);
            self.retire(id, Reason::Closed);
        }
        true
    }

    /// Counts a failed start for a child that closes its outputs during its start.
    ///
    /// Such a child is about to end, or runs on without being of use; a child that cannot be
    /// watched will be killed. Forking slows down now and not at the child's end: otherwise each
    /// child that runs on would be replaced at once.
    pub(crate) fn note_failing_start(&mut self, id: ChildId) {
        let now = self.now;
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        if !child.was_told() && child.is_unproven(now) {
            child.failing = self.backoff.start_failed(child.start_time, now);
        }
    }

    /// Counts a failed start for a child that is told to stop because its start takes too long.
    ///
    /// Forking slows down now and not at the child's end: the next child may hang as well.
    pub(super) fn note_hung_start(&mut self, id: ChildId) {
        let now = self.now;
        if let Some(child) = self.pool.get_mut(id)
            && child.state != State::Retiring
        {
            child.failing = self.backoff.start_failed(child.start_time, now);
        }
    }

    /// Notes that a child has ended while processes of its group still run.
    ///
    /// They are told to stop like a child that has closed its outputs, unless they were told
    /// together with the child.
    pub(crate) fn outlived(&mut self, id: ChildId) {
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        let asked = child.reason().is_some_and(|why| why != Reason::Closed);
        if !asked && !child.was_told() {
            child.flags |= ChildFlags::OUTLIVED;
        }
        if child.state != State::Retiring {
            self.note_failing_start(id);
            self.retire(id, Reason::Closed);
            self.post_known(PostedState::Forkoff);
        }
    }

    /// Records where a child stands when it is sent SIGKILL for the first time.
    pub(crate) fn note_stuck(&mut self, id: ChildId, stuck: Stuck) {
        if let Some(child) = self.pool.get_mut(id) {
            child.stuck.get_or_insert(stuck);
        }
    }

    /// Records how many connections a child has noted.
    pub(crate) fn note_requests(&mut self, id: ChildId, requests: u64) {
        if let Some(child) = self.pool.get_mut(id) {
            child.noted_requests = requests;
        }
    }

    /// Records the interval of ACKs that a child keeps. If it is short enough, the timeout in force
    /// holds for the child.
    pub(crate) fn note_interval(&mut self, id: ChildId, kept: Interval) {
        let asked = Interval(self.attributes.ack_interval());
        let timeout = self.attributes.timeout;
        if let Some(child) = self.pool.get_mut(id)
            && kept.satisfies(asked)
        {
            child.known_timeout = Some(timeout);
        }
    }

    /// Marks a reaped child as closed. True if `handler_server_closed` has not been called for it.
    pub(crate) fn close(&mut self, id: ChildId) -> bool {
        self.pool.get_mut(id).is_some_and(|child| {
            let first = !child.flags.contains(ChildFlags::CLOSED);
            child.flags |= ChildFlags::CLOSED;
            first
        })
    }

    /// Removes a reaped child and determines why it ended.
    pub(crate) fn exited(
        &mut self,
        id: ChildId,
        end: impl Into<Collected>,
    ) -> Option<(Child, Death)> {
        let end = end.into();
        let status = end.status;
        let mut child = self.pool.remove(id)?;
        let stack = std::mem::take(&mut child.stack).into_frames();
        let mut death = Death::of(&child, &end, self.now);
        if child.was_stuck() {
            death.stack = stack;
        }
        self.report.count_death(death.cause);
        self.report.count_connections(child.taken_by(self.now));
        self.note_lost_client(&child, status);
        self.observe_surplus();
        self.note_end_for_replacement(&child, &death);
        match death.cause {
            Cause::FailedStart | Cause::StartTimeout => self.start_failed(&child, &death),
            // Before its first word it has failed to start, and after that at what it did.
            Cause::OutOfMemory if !child.has_stated() => self.start_failed(&child, &death),
            _ if child.failing.is_some() => self.start_failed(&child, &death),
            // A hook has ended a child that was failing by itself: the next one would as well.
            Cause::Asked if death.failed_by_itself() && child.start_failed(status, self.now) => {
                self.start_failed(&child, &death);
            }
            Cause::Failed | Cause::Killed | Cause::OutOfMemory
                if child.fails_at_its_first(&end, self.now) =>
            {
                self.first_failed(&child, &death);
            }
            _ => self.backoff_if_held(&child, death.cause),
        }
        if self.is_to_be_replaced(&child, death.cause) {
            self.owed += 1;
        }
        Some((child, death))
    }

    fn note_lost_client(&mut self, child: &Child, status: Option<WaitStatus>) {
        let lost = u64::from(child.has_lost_its_client(status));
        self.report.lost_connections += lost;
        if self.shutdown {
            self.losses.in_hand += lost;
        }
    }

    /// The sockets are closed, which resets the clients that were queued.
    pub(crate) fn note_lost_queue(&mut self, clients: u64) {
        self.report.lost_connections += clients;
        self.losses.queued += clients;
    }

    /// What the stop has lost so far.
    pub(crate) fn losses(&self) -> Losses {
        self.losses
    }

    /// A child was reaped, and what it has written is still to be read.
    pub(crate) fn note_reaped(&mut self, id: ChildId) {
        if let Some(child) = self.pool.get_mut(id) {
            child.flags |= ChildFlags::REAPED;
        }
    }

    /// Whether a child that has ended is to be replaced even if enough children are free.
    ///
    /// The kernel may have woken it for a queued connection, and a new child checks the queue. A
    /// child that was told to stop checks the queue itself. If a child has been forked since this
    /// one closed its outputs, which a process does shortly before it can be reaped, that child has
    /// checked the queue.
    fn is_to_be_replaced(&mut self, child: &Child, cause: Cause) -> bool {
        // A child that crashed after it was told has its successor, or needs none.
        let asked = matches!(cause, Cause::Closed | Cause::Asked | Cause::StartTimeout);
        let orderly = asked || child.may_finish();
        let since_closed = child
            .retirement
            .filter(|told| told.reason == Reason::Closed)
            .is_some_and(|told| self.report.forks > told.forks);
        let failed_successor = child.role.is_some() && !child.is_ready();
        let asked_again = orderly || since_closed || failed_successor;
        !asked_again && !self.shutdown && !self.has_its_successor(child)
    }

    /// Counts a child that has failed at its first connection.
    ///
    /// Otherwise a child that says BUSY and fails at once would be replaced as fast as the machine
    /// can fork.
    fn first_failed(&mut self, child: &Child, death: &Death) {
        if self.shutdown {
            return;
        }
        let delay = self.backoff.first_failed(child.start_time, self.now);
        if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
            let pid = child.pid;
            self.notice(
                Notice::FailedFirst(delay),
                format_args!(
                    "child {pid} failed at its first connection: {death}; next fork in {delay:?}"
                ),
            );
        }
    }

    fn start_failed(&mut self, child: &Child, death: &Death) {
        // Ctrl-C reaches the children of a terminal's foreground group without the parent.
        if self.shutdown {
            return;
        }
        let (forked_at, now) = (child.start_time, self.now);
        let count = || self.backoff.start_failed(forked_at, now);
        let Some(delay) = child.failing.or_else(count) else {
            return;
        };
        let (pid, last) = (child.pid, child.last_lines.text());
        self.notice(
            Notice::FailedStart(delay),
            format_args!(
                "child {pid} failed to start: {death}, last lines {last:?}; next fork in {delay:?}"
            ),
        );
    }

    /// Ends the backoff after a child that lived for long enough, or that finished by itself after
    /// serving a connection.
    fn backoff_if_held(&mut self, child: &Child, cause: Cause) {
        let served = cause == Cause::Finished && child.has_served();
        if served || self.has_held(child) {
            self.backoff.proved(child.start_time);
        }
    }
}
