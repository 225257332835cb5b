//! The lives of the children as the loop enters them: forked, heard, closed, reaped. Keeps the books;
//! calls no hook.

use super::*;

/// The lives of the children, as the loop enters them.
impl Monitor {
    /// The gate of every fork, asked when one is planned, when a hook asks for one, and when one is due
    /// (`max_clients` may have been lowered meanwhile). `queued` are on their way besides it. A fork that
    /// failures put off is planned anew when forking may go on.
    pub(crate) fn may_fork(&mut self, queued: usize) -> bool {
        let room = self.pool.len() + queued < self.attributes.max_clients;
        room && !self.shutdown && !self.child && !self.backoff.refuses(self.now)
    }

    pub(crate) fn forked(&mut self, pid: u32, contact: Option<Box<Contact>>) -> ChildId {
        self.report.forks += 1;
        self.backoff.fork_succeeded();
        let id = self.pool.insert(pid, self.now, self.gaps, contact);
        if let Some(child) = self.pool.get_mut(id) {
            child.known_timeout = Some(self.attributes.timeout);
        }
        self.pay_for_a_death();
        self.happened(Event::Forked { child: id });
        id
    }

    /// Each fork pays for one death, and one that fills the last place for all of them: a debt that
    /// outlived that would fork children later on only for them to be culled.
    fn pay_for_a_death(&mut self) {
        let full = self.pool.len() >= self.attributes.max_clients;
        self.owed = if full { 0 } else { self.owed.saturating_sub(1) };
    }

    /// A fork has failed: how long to wait before the next.
    pub(crate) fn fork_failed(&mut self) -> Duration {
        self.report.failed_forks += 1;
        self.backoff.fork_failed(self.now)
    }

    /// A word has come from a child, whatever it was: it has started.
    pub(crate) fn heard(&mut self, id: ChildId) {
        if self
            .pool
            .get(id)
            .is_some_and(|child| child.state == State::Starting)
        {
            self.pool.set_state(id, State::Free);
            self.observe_surplus();
        }
    }

    /// Whether a child has a connection in hand, as far as its words have told: of one that is retiring,
    /// those that it has said since it was told. `None` if there is no such child.
    pub(crate) fn is_busy(&self, id: ChildId) -> Option<bool> {
        let child = self.pool.get(id)?;
        Some(match child.state {
            State::Retiring => child.flags.contains(Flags::BUSY_SINCE_TOLD),
            state => state == State::Busy,
        })
    }

    /// Notes whether the turn left output of a child unread.
    pub(crate) fn set_unread(&mut self, id: ChildId, unread: bool) {
        if let Some(child) = self.pool.get_mut(id) {
            child.flags.set(Flags::UNREAD, unread);
        }
    }

    /// One of a child's outputs has ended. True when that was the last one, once a child.
    pub(crate) fn output_ended(&mut self, id: ChildId, output: Flags) -> bool {
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        child.flags.remove(output);
        let open = child
            .flags
            .intersects(Flags::STDOUT_OPEN | Flags::STDERR_OPEN);
        if open || child.flags.contains(Flags::CLOSED) {
            return false;
        }
        child.flags |= Flags::CLOSED;
        if child.state != State::Retiring {
            self.note_failing_start(id);
            self.retire(id, Reason::Closed);
        }
        true
    }

    /// A child that closes its outputs unasked, before its start has held, is about to die of a
    /// failed start, or lives on and is as good as dead; and one that cannot be watched will be
    /// killed. Forking slows down now: waiting for the death would let each newcomer that lives on
    /// be replaced at once.
    pub(crate) fn note_failing_start(&mut self, id: ChildId) {
        let now = self.now;
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        if !child.was_told() && child.is_unproven(now) {
            child.failing = self.backoff.start_failed(child.start_time, now);
        }
    }

    /// A child has said BUSY, which shows that its start has held, or NOT_BUSY, which shows that it can
    /// take connections. What one says that is retiring shows nothing: a child that cannot be watched
    /// may say it before it is killed, and the next would be forked at once.
    pub(super) fn note_word(&mut self, id: ChildId, shows: Flags) {
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        if child.state == State::Retiring {
            return;
        }
        let first = !child.flags.intersects(Flags::WAS_BUSY | Flags::WAITED);
        let finished = shows.contains(Flags::WAITED) && child.flags.contains(Flags::WAS_BUSY);
        child.flags |= shows;
        child
            .flags
            .set(Flags::FINISHED_ONE, finished || child.has_finished_one());
        let forked_at = child.start_time;
        if first {
            self.happened(Event::Ready { child: id });
        }
        if finished {
            self.backoff.proved(forked_at);
        } else if shows.contains(Flags::WAS_BUSY) {
            self.backoff.start_held(forked_at);
        }
    }

    /// A child has ended, and what it has started has not. That is told to stop as one is that has closed its
    /// outputs, unless it has been told with the child.
    pub(crate) fn outlived(&mut self, id: ChildId) {
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        let asked = child.reason().is_some_and(|why| why != Reason::Closed);
        if !asked && !child.was_told() {
            child.flags |= Flags::OUTLIVED;
        }
        if child.state != State::Retiring {
            self.note_failing_start(id);
            self.retire(id, Reason::Closed);
            self.post_known(Posted::Forkoff);
        }
    }

    /// A child has noted how many connections it has taken.
    pub(crate) fn note_requests(&mut self, id: ChildId, requests: u64) {
        if let Some(child) = self.pool.get_mut(id) {
            child.noted_requests = requests;
        }
    }

    /// A child keeps an interval of ACKs, as it says: it is judged by the timeout in force if that will do.
    pub(crate) fn note_interval(&mut self, id: ChildId, kept: Interval) {
        let asked = Interval(self.attributes.ack_interval());
        let timeout = self.attributes.timeout;
        if let Some(child) = self.pool.get_mut(id)
            && kept.satisfies(asked)
        {
            child.known_timeout = Some(timeout);
        }
    }

    /// A child has been reaped and is about to be forgotten. True if `handler_server_closed` has
    /// not been called for it.
    pub(crate) fn close(&mut self, id: ChildId) -> bool {
        self.pool.get_mut(id).is_some_and(|child| {
            let first = !child.flags.contains(Flags::CLOSED);
            child.flags |= Flags::CLOSED;
            first
        })
    }

    /// Takes a reaped child out of the books and judges its death.
    pub(crate) fn exited(
        &mut self,
        id: ChildId,
        status: Option<WaitStatus>,
    ) -> Option<(Child, Death)> {
        let child = self.pool.remove(id)?;
        let death = Death {
            status,
            cause: child.cause(status, self.now),
        };
        self.report.count_death(death.cause);
        self.observe_surplus();
        match death.cause {
            Cause::FailedStart => self.start_failed(&child, &death),
            _ if child.failing.is_some() => self.start_failed(&child, &death),
            Cause::Failed | Cause::Killed if child.fails_at_its_first(status, self.now) => {
                self.first_failed(&child, &death);
            }
            _ => self.backoff_if_held(&child, death.cause),
        }
        if self.is_to_be_replaced(&child, death.cause) {
            self.owed += 1;
        }
        Some((child, death))
    }

    /// Whether one fork is due for a death even if enough are free: a wake-up for a queued connection
    /// may have died with the child, and a newcomer will look. Not for one that has left as it was
    /// told to, which looks itself; nor if there has been a newcomer since it closed its outputs, as
    /// a dying process does a moment before it can be reaped.
    fn is_to_be_replaced(&self, child: &Child, cause: Cause) -> bool {
        let orderly = matches!(
            cause,
            Cause::Culled | Cause::Closed | Cause::Shutdown | Cause::Asked
        );
        let since_closed = child
            .retirement
            .filter(|told| told.reason == Reason::Closed)
            .is_some_and(|told| self.report.forks > told.forks);
        !orderly && !since_closed && !self.shutdown
    }

    /// A child has failed with its first connection in hand, if it was one: a server that says BUSY and fails
    /// at once would be replaced as fast as the machine can.
    fn first_failed(&mut self, child: &Child, death: &Death) {
        if self.shutdown {
            return;
        }
        let delay = self.backoff.first_failed(child.start_time, self.now);
        if let Some(delay) = delay.filter(|delay| !delay.is_zero()) {
            log::warn!(
                "child {} failed at its first connection: {death}; next fork in {delay:?}",
                child.pid
            );
        }
    }

    fn start_failed(&mut self, child: &Child, death: &Death) {
        // Ctrl-C reaches the children of a terminal's foreground group by itself.
        if self.shutdown {
            return;
        }
        let (forked_at, now) = (child.start_time, self.now);
        let count = || self.backoff.start_failed(forked_at, now);
        let Some(delay) = child.failing.or_else(count) else {
            return;
        };
        say!(
            Warn,
            "child {} failed to start: {death}, last words {:?}; next fork in {delay:?}",
            child.pid,
            String::from_utf8_lossy(&child.last_stderr),
        );
    }

    /// One that lives for long, or leaves in order with a connection behind it, shows that nothing is wrong.
    fn backoff_if_held(&mut self, child: &Child, cause: Cause) {
        let served = cause == Cause::Finished && child.has_served();
        if served || self.now.since(child.start_time) >= START_HOLDS_AFTER {
            self.backoff.proved(child.start_time);
        }
    }
}
