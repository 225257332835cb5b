//! What hooks see and ask: the children, the attributes, the time, and the queue of what is to be
//! done. Asking queues; the loop performs when the hook has returned. No system call, no clock.

use crate::{
    alarms::{AlarmId, Alarms},
    attributes::{Attributes, CommChannel, ThreadCheck, with_attributes},
    child::{
        Cause, Child, ChildId, Death, Flags, Reason, Retirement, START_HOLDS_AFTER, Signal, State,
    },
    comm::CommWords,
    pool::{self, Demand, Plan, Pool, Surplus},
    report::Report,
    slowdown::Slowdown,
    states::{Event, Readiness, Resolved, States, WatchId},
    tasks::{Queue, Stream, Task},
    time::Time,
};
use std::{io, os::fd::AsFd, process::ExitStatus, time::Duration};

/// The parent's books, handed to every hook.
///
/// Reading is immediate; whatever acts (a signal, a fork, a line of output, a posted state) is
/// queued, in order, and performed when the hook has returned. So no hook is ever called from
/// within another by surprise, and a policy can be tested without a process.
#[derive(Debug, Default)]
pub struct Monitor {
    pub(crate) attributes: Attributes,
    pub(crate) pool: Pool,
    pub(crate) queue: Queue,
    pub(crate) report: Report,
    /// The hook that is running, for the log when it panics.
    pub(crate) hook: &'static str,
    pub(crate) slowdown: Slowdown,
    states: States,
    alarms: Alarms,
    timeout_check: Option<AlarmId>,
    surplus: Surplus,
    owed: usize,
    now: Time,
    since_last_turn: Duration,
    gaps: Duration,
    shutdown: bool,
    child: bool,
}

macro_rules! attribute_accessors {
    ($($(#[$doc:meta])* $name:ident, $set:ident: $type:ty = $default:expr;)*) => {
        /// The attributes, to be read and set at any time. Setting one normalises again.
        impl Monitor {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> $type {
                    self.attributes.$name
                }

                #[doc = concat!("Sets [`", stringify!($name), "`](Self::", stringify!($name), ").")]
                pub fn $set(&mut self, value: $type) {
                    self.attributes.$name = value;
                    self.normalise();
                }
            )*
        }
    };
}
with_attributes!(attribute_accessors);

/// The children.
impl Monitor {
    /// The children that serve a connection.
    pub fn busy_servers(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children().filter(|child| child.state == State::Busy)
    }

    /// The spare children: those that wait for a connection, and those that are still starting.
    pub fn free_servers(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children()
            .filter(|child| matches!(child.state, State::Free | State::Starting))
    }

    /// The children that were told to stop and have not been reaped.
    pub fn retiring_servers(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children()
            .filter(|child| child.state == State::Retiring)
    }

    /// All children, in no particular order.
    pub fn children(&self) -> impl Iterator<Item = &Child> + '_ {
        self.pool.iter()
    }

    /// Maps the name of each child (the original's wheel ID) to its process id.
    pub fn wheel_id_to_pid(&self) -> impl Iterator<Item = (ChildId, u32)> + '_ {
        self.children().map(|child| (child.id, child.pid))
    }

    /// The child of that name; `None` once it has been reaped.
    pub fn child(&self, id: ChildId) -> Option<&Child> {
        self.pool.get(id)
    }

    /// The child with that process id.
    pub fn child_by_pid(&self, pid: u32) -> Option<&Child> {
        self.children().find(|child| child.pid == pid)
    }
}

/// The server as a whole.
impl Monitor {
    /// Whether this process is a forked child, as known since `server_start` ran in it.
    pub fn is_child(&self) -> bool {
        self.child
    }

    /// Whether the server is shutting down.
    pub fn is_shutdown(&self) -> bool {
        self.shutdown
    }

    /// The moment at which this turn of the loop began to work.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What has been counted so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Posts `shutdown`.
    pub fn shutdown(&mut self) {
        self.post_event(Event::Shutdown);
    }
}

/// What a hook can ask for.
impl Monitor {
    /// Posts a state, the original's `yield`: a registered one leads to `handler_state`, a
    /// documented one to its handler. Of `forkoff` no more than one waits in the queue.
    ///
    /// A name that nobody registered, or a documented state that is called with arguments, is
    /// warned about and otherwise ignored.
    pub fn post(&mut self, state: &str) {
        match self.states.resolve(state) {
            Resolved::Event(event) => self.post_event(event),
            Resolved::NeedsArguments => {
                log::warn!("state {state} cannot be posted: the loop calls it with arguments");
            }
            Resolved::Unknown => log::warn!("state {state} was posted and is not registered"),
        }
    }

    /// Posts `state` when `after` has passed.
    pub fn delay_set(&mut self, state: &str, after: Duration) -> AlarmId {
        self.alarms.set(self.now + after, state)
    }

    /// Removes an alarm. False if it has gone off or was removed before.
    pub fn alarm_remove(&mut self, id: AlarmId) -> bool {
        self.alarms.remove(id)
    }

    /// Removes all alarms, the timeout check's included. The escalation from SIGINT to SIGKILL is
    /// no alarm and stays.
    pub fn alarm_remove_all(&mut self) {
        self.alarms.clear();
    }

    /// Registers `state` and posts it whenever `fd` can be read, for as long as it can. The
    /// descriptor is duplicated; the caller keeps its own.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn select_read(&mut self, fd: impl AsFd, state: &str) -> io::Result<WatchId> {
        self.select(fd, Readiness::Read, state)
    }

    /// As [`select_read`](Self::select_read), whenever `fd` can be written.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn select_write(&mut self, fd: impl AsFd, state: &str) -> io::Result<WatchId> {
        self.select(fd, Readiness::Write, state)
    }

    /// Stops watching a descriptor, and closes the duplicate of it.
    pub fn select_remove(&mut self, id: WatchId) {
        self.queue.push(Task::Unwatch(id));
    }

    /// Sends `signal` to a child. A name that has gone stale is ignored.
    ///
    /// This sends and no more: see [`retire`](Self::retire) for a child that is to leave the pool.
    pub fn kill(&mut self, id: ChildId, signal: Signal) {
        let Some(child) = self.pool.get_mut(id) else {
            return log::debug!("{id} is gone, no {signal:?} for it");
        };
        match signal {
            Signal::Interrupt => child.flags |= Flags::INT_SENT,
            Signal::Kill => child.flags |= Flags::KILL_SENT,
            _ => {}
        }
        self.queue.push(Task::Signal { child: id, signal });
    }

    /// Counts a child as retiring from now on: in no spare count, its words move it nowhere, and if
    /// it has not left after `kill_timeout` it gets SIGKILL. It is sent nothing yet, but with
    /// [`Reason::Closed`], which sends SIGINT 100 ms later. With [`Reason::Shutdown`] the time is
    /// `shutdown_timeout`; with [`Reason::Culled`] a child that says BUSY has no bound but `timeout`.
    pub fn retire(&mut self, id: ChildId, reason: Reason) {
        let kill_after = match reason {
            Reason::Shutdown => self.attributes.shutdown_timeout,
            _ => self.attributes.kill_timeout,
        };
        let (now, forks) = (self.now, self.report.forks);
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        let told = Retirement {
            reason,
            at: now,
            kill_after,
            forks,
        };
        let earlier = child.retirement.is_some_and(|old| old.overrides(&told));
        if !earlier {
            child.retirement = Some(told);
        }
        self.pool.set_state(id, State::Retiring);
        self.observe_surplus();
    }

    /// Asks for a fork. False, and no fork, if `max_clients` does not allow one more, if forking is
    /// slowed down by failures (then `forkoff` is posted when it may go on), or in a shutdown.
    pub fn fork(&mut self) -> bool {
        let room = self.pool.len() + self.queue.forks() < self.attributes.max_clients;
        let allowed = room && !self.shutdown && !self.child && !self.slowdown.refuses(self.now);
        if allowed {
            self.queue.push(Task::Fork);
        }
        allowed
    }

    /// Writes `line` and a newline to the parent's stdout, without ever blocking on it.
    pub fn print_stdout(&mut self, line: impl Into<Vec<u8>>) {
        self.print(Stream::Stdout, line.into());
    }

    /// Writes `line` and a newline to the parent's stderr, without ever blocking on it.
    pub fn print_stderr(&mut self, line: impl Into<Vec<u8>>) {
        self.print(Stream::Stderr, line.into());
    }

    /// Records that a child is alive now. False if it is gone.
    pub fn acknowledge(&mut self, id: ChildId) -> bool {
        let (now, gaps) = (self.now, self.gaps);
        self.pool.get_mut(id).is_some_and(|child| {
            child.last_ack = now;
            child.gaps_at_ack = gaps;
            child.flags |= Flags::ACKED;
            true
        })
    }

    /// Counts a child as busy. True if it was free before; a child that is retiring stays so.
    pub fn set_busy(&mut self, id: ChildId) -> bool {
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        child.flags |= Flags::WAS_BUSY;
        let (state, start_time) = (child.state, child.start_time);
        if state == State::Retiring {
            child.flags |= Flags::BUSY_SINCE_TOLD;
        }
        self.slowdown.start_held(start_time);
        self.transfer(id, state, &[State::Starting, State::Free], State::Busy)
    }

    /// Counts a child as free. True if it was busy before; a child that is retiring stays so.
    pub fn set_not_busy(&mut self, id: ChildId) -> bool {
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        // A child that is leaving never says this. One that does after it was told is deaf, and
        // what it had in hand is done.
        child.flags.remove(Flags::BUSY_SINCE_TOLD);
        let state = child.state;
        self.transfer(id, state, &[State::Busy], State::Free)
    }

    fn transfer(&mut self, id: ChildId, state: State, from: &[State], to: State) -> bool {
        let moves = from.contains(&state);
        if moves {
            self.pool.set_state(id, to);
            self.observe_surplus();
        } else {
            log::debug!("{id} is {state:?}, its word for {to:?} moves it nowhere");
        }
        moves
    }

    fn select(&mut self, fd: impl AsFd, readiness: Readiness, state: &str) -> io::Result<WatchId> {
        let id = self.states.select(fd, readiness, state)?;
        self.queue_watches();
        Ok(id)
    }

    fn print(&mut self, stream: Stream, mut bytes: Vec<u8>) {
        bytes.push(b'\n');
        self.queue.push(Task::Print { stream, bytes });
    }
}

/// What the defaults and the loop do with the books.
impl Monitor {
    pub(crate) fn with_attributes(attributes: Attributes) -> Self {
        Self {
            attributes,
            ..Self::default()
        }
    }

    pub(crate) fn post_event(&mut self, event: Event) {
        if event != Event::Forkoff || !self.queue.has_forkoff() {
            self.queue.push(Task::Event(event));
        }
    }

    /// Runs `hook` under its name, so that a panic in it can be reported with it.
    pub(crate) fn naming<R>(&mut self, name: &'static str, hook: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.hook, name);
        let result = hook(self);
        self.hook = outer;
        result
    }

    pub(crate) fn normalise(&mut self) {
        for change in self.attributes.normalise() {
            log::warn!(
                "{} {} makes no sense, using {}",
                change.name,
                change.from,
                change.to
            );
        }
        self.observe_surplus();
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

    fn queue_watches(&mut self) {
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
            Plan::Fork(_) if self.slowdown.refuses(self.now) => return Plan::Steady,
            Plan::Retire(surplus) => self.surplus.culled(surplus),
            Plan::Fork(_) | Plan::Steady => {}
        }
        plan
    }

    /// Sets the timer of the timeout check. There is one, however often a check is asked for, and
    /// none in a shutdown, which has removed all alarms.
    pub(crate) fn arm_timeout_check(&mut self) {
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

    /// Who has been silent for too long: free ones and busy ones.
    pub(crate) fn overdue(&self) -> (Vec<ChildId>, Vec<ChildId>) {
        if self.attributes.timeout.is_zero() {
            return (Vec::new(), Vec::new());
        }
        self.pool
            .overdue(self.attributes.timeout, self.now, self.gaps)
    }

    pub(crate) fn begin_shutdown(&mut self) {
        self.shutdown = true;
        self.owed = 0;
    }

    pub(crate) fn become_child(&mut self) {
        self.child = true;
    }

    /// Forgets what was the parent's: children, alarms, everything queued.
    pub(crate) fn forget_all(&mut self) {
        let pool = std::mem::take(&mut self.pool);
        let alarms = std::mem::take(&mut self.alarms);
        let queue = std::mem::take(&mut self.queue);
        if self.child {
            // To free them would write to memory that is shared with the parent, and copy it, in
            // each child: in a large pool more than the fork itself.
            std::mem::forget((pool, alarms, queue));
        }
        self.owed = 0;
    }

    fn observe_surplus(&mut self) {
        let free = self.pool.census().free;
        self.surplus.observe(
            free.saturating_sub(self.attributes.max_spare_servers),
            self.now,
        );
    }
}

/// The lives of the children, as the loop enters them.
impl Monitor {
    /// Whether a fork that was asked for may still happen: `max_clients` may have been lowered, the
    /// shutdown may have begun, and the fork before it may have failed since. In the last case it is
    /// planned anew when forking may go on.
    pub(crate) fn may_fork_now(&mut self) -> bool {
        let room = self.pool.len() < self.attributes.max_clients;
        room && !self.shutdown && !self.slowdown.refuses(self.now)
    }

    pub(crate) fn forked(&mut self, pid: u32) -> ChildId {
        self.report.forks += 1;
        self.slowdown.fork_succeeded();
        let id = self.pool.insert(pid, self.now, self.gaps);
        self.pay_for_a_death();
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
        self.slowdown.fork_failed(self.now)
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
    /// failed start, or lives on and is as good as dead. Forking slows down now: waiting for the
    /// death would let each newcomer of the second kind be replaced at once.
    fn note_failing_start(&mut self, id: ChildId) {
        let now = self.now;
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        if !child.was_told() && child.is_unproven(now) {
            child.failing = self.slowdown.start_failed(child.start_time, now);
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
        status: Option<ExitStatus>,
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
            _ => self.slowdown_if_held(&child),
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

    fn start_failed(&mut self, child: &Child, death: &Death) {
        // Ctrl-C reaches the children of a terminal's foreground group by itself.
        if self.shutdown {
            return;
        }
        let failed = self.slowdown.start_failed(child.start_time, self.now);
        let Some(delay) = child.failing.or(failed) else {
            return;
        };
        log::warn!(
            "child {} failed to start: {death}, last words {:?}; next fork in {delay:?}",
            child.pid,
            String::from_utf8_lossy(&child.last_stderr),
        );
    }

    fn slowdown_if_held(&mut self, child: &Child) {
        if self.now.since(child.start_time) >= START_HOLDS_AFTER {
            self.slowdown.start_held(child.start_time);
        }
    }
}

/// Time.
impl Monitor {
    /// A turn begins at `now`. `gap` is the time since the last one in which the parent should have
    /// run and did not; it is not counted as anybody's silence.
    pub(crate) fn tick(&mut self, now: Time, gap: Duration) {
        self.since_last_turn = now.since(self.now);
        self.now = self.now.max(now);
        self.gaps = self.gaps.saturating_add(gap);
    }

    /// Queues whatever has come due. Called when everything that had arrived has been read.
    pub(crate) fn fire_due(&mut self) {
        while let Some(state) = self.alarms.take_due(self.now) {
            self.post(&state);
        }
        self.escalate();
        if self.shutdown {
            return;
        }
        if self.slowdown.is_watching() {
            self.notice_starts_that_held();
        }
        let cull = self.surplus.take_due(self.attributes.cull_after, self.now);
        let retry = self.slowdown.take_retry(self.now);
        if cull || retry {
            self.post_event(Event::Forkoff);
        }
    }

    /// When the loop must turn again if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let pool_wide = if self.shutdown {
            [None, None]
        } else {
            [
                self.surplus.next(self.attributes.cull_after),
                self.slowdown.retry_at(),
            ]
        };
        pool_wide
            .into_iter()
            .flatten()
            .chain(self.alarms.next())
            .chain(self.escalations())
            .min()
    }

    fn escalations(&self) -> impl Iterator<Item = Time> + '_ {
        // Only a retiring child has one, and mostly there is none: no need to look then.
        let any = self.pool.census().retiring > 0;
        any.then(|| self.pool.iter())
            .into_iter()
            .flatten()
            .filter_map(|child| self.next_signal(child))
            .map(|(at, _)| at)
    }

    fn next_signal(&self, child: &Child) -> Option<(Time, Signal)> {
        let tell = child.tell_at().map(|at| (at, Signal::Interrupt));
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
            self.kill(id, signal);
            self.told_late(id, signal);
        }
    }

    /// A child that closed its outputs is told some time after it began to retire, and its time to
    /// leave begins with that: the parent may have been late.
    fn told_late(&mut self, id: ChildId, signal: Signal) {
        let now = self.now;
        if signal == Signal::Interrupt
            && let Some(child) = self.pool.get_mut(id)
            && let Some(told) = &mut child.retirement
        {
            told.at = now;
        }
    }

    fn notice_starts_that_held(&mut self) {
        let held = self
            .pool
            .iter()
            .filter(|child| self.now.since(child.start_time) >= START_HOLDS_AFTER)
            .map(|child| child.start_time)
            .max();
        if let Some(start_time) = held {
            self.slowdown.start_held(start_time);
        }
    }
}

#[cfg(test)]
mod death_tests;
#[cfg(test)]
mod escalation_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
