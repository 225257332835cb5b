//! What hooks see and ask: the children, the attributes, the time, and the queue of what is to be
//! done. Asking queues; the loop performs when the hook has returned. No system call, no clock.

#[cfg(test)]
mod attribute_tests;
#[cfg(test)]
mod event_tests;
mod lifecycle;
mod planning;
mod signals;
mod time;

use crate::core::{
    alarms::{AlarmId, Alarms},
    backoff::Backoff,
    child::{
        Cause, Child, ChildId, Death, Flags, Reason, Retirement, START_HOLDS_AFTER, Signal, State,
        WaitStatus,
    },
    comm::Interval,
    config::{
        Attributes, CommChannel, Config, ThreadCheck, facts, read, read_type, with_attributes,
    },
    event::{Event, EventQueue},
    inbox::Contact,
    pool::{self, Demand, Plan, Pool, Surplus},
    queue::{PrintTo, Queue, Task},
    report::Report,
    say::say,
    states::{Posted, Readiness, Resolved, States, WatchId},
    time::Time,
    wire::CommWords,
};
use std::{any::Any, time::Duration};

/// The parent's books, handed to every hook.
///
/// Reading is immediate; whatever acts (a signal, a fork, a line of output, a posted state) is
/// queued, in order, and performed when the hook has returned. So no hook is ever called from
/// within another by surprise.
#[derive(Debug, Default)]
pub struct Monitor {
    pub(crate) attributes: Attributes,
    pub(crate) pool: Pool,
    pub(crate) queue: Queue,
    pub(crate) report: Report,
    /// The process that these books are in.
    pub(crate) pid: u32,
    /// The hook that is running, for the log when it panics.
    pub(crate) hook: &'static str,
    /// The hook that was called last, for the log when that took long.
    pub(crate) last_hook: &'static str,
    pub(crate) backoff: Backoff,
    pub(crate) events: EventQueue,
    /// The interval of ACKs that the start has derived from `timeout` and given to the server; `None` if the
    /// server had one of its own.
    pub(crate) derived_ack: Option<Interval>,
    states: States,
    alarms: Alarms,
    timeout_check: Option<AlarmId>,
    /// The `timeout` for which the timer of the timeout check was set last; `None` before the start.
    checked_timeout: Option<Duration>,
    surplus: Surplus,
    owed: usize,
    now: Time,
    /// When the last turn began: what children have said until then has been read.
    turned: Time,
    since_last_turn: Duration,
    gaps: Duration,
    shutdown: bool,
    child: bool,
    /// Whether the children become other programs, which need not say that they have started.
    pub(crate) programs: bool,
}

macro_rules! attribute_accessors {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident, $set:ident: $type:ty $(as $read:ty)? = $default:expr => $facts:tt;
    )*) => {
        /// The attributes, to be read and set at any time. What is read is the value in force.
        impl Monitor {
            $(
                $(#[doc = $doc])*
                #[doc = facts!($default, $facts)]
                pub fn $name(&self) -> read_type!($type $(, $read)?) {
                    read!(self.attributes.$name $(, $read)?)
                }

                #[doc = concat!("Sets [`", stringify!($name), "`](Self::", stringify!($name), ").")]
                pub fn $set(&mut self, value: $type) {
                    self.attributes.set(|asked| asked.$name = value);
                    self.attributes_changed();
                }
            )*
        }
    };
}
with_attributes!(attribute_accessors);

impl Monitor {
    /// The attributes as they were asked for, those that make no sense included.
    pub fn config(&self) -> &Config {
        self.attributes.asked()
    }
}

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

    /// The moment at which this turn of the loop began to work; between two turns, the moment at which
    /// [`PreFork::monitor_mut`](crate::PreFork::monitor_mut) or a handler was called.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What has been counted so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Posts `shutdown`.
    pub fn shutdown(&mut self) {
        self.post_known(Posted::Shutdown);
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
            Resolved::Posted(posted) => self.post_known(posted),
            Resolved::NeedsArguments => {
                say!(
                    Warn,
                    "state {state} cannot be posted: the loop calls it with arguments"
                );
            }
            Resolved::Unknown => say!(Warn, "state {state} was posted and is not registered"),
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

    /// Stops watching a descriptor, and closes the duplicate of it.
    pub fn select_remove(&mut self, id: WatchId) {
        self.queue.push(Task::Unwatch(id));
    }

    /// Sends `signal` to a child. A name that has gone stale is ignored. A child that ends of it has
    /// the cause [`Asked`](crate::Cause::Asked).
    ///
    /// This sends and no more: see [`stop`](Self::stop) for a child that is to leave the pool.
    pub fn kill(&mut self, id: ChildId, signal: Signal) {
        if signal.ends()
            && let Some(child) = self.pool.get_mut(id)
        {
            child.flags |= Flags::ASKED;
        }
        self.send(id, signal);
    }

    /// Tells a child to stop, for `reason`: sends it the signal for that, counts it as retiring, and
    /// has SIGKILL follow. With [`Reason::Faulty`] that is the first signal; otherwise it is SIGINT, and
    /// a child that serves a connection finishes it. See [`retire`](Self::retire) for the time it has.
    pub fn stop(&mut self, id: ChildId, reason: Reason) {
        let signal = match reason {
            Reason::Faulty => Signal::Kill,
            _ => Signal::Interrupt,
        };
        self.send(id, signal);
        self.retire(id, reason);
    }

    /// Queues a signal that no hook has asked for.
    pub(crate) fn send(&mut self, id: ChildId, signal: Signal) {
        let Some(child) = self.pool.get_mut(id) else {
            return log::debug!("{id} is gone, no {signal:?} for it");
        };
        match signal {
            Signal::Interrupt => child.flags |= Flags::INT_SENT,
            Signal::Kill => {
                child.flags |= Flags::KILL_SENT;
                child.killed_at.get_or_insert(self.now);
            }
            _ => {}
        }
        self.queue.push(Task::Signal { child: id, signal });
    }

    /// Counts a child as retiring from now on: in no spare count, its words move it nowhere, and if
    /// it has not left after `kill_timeout` it gets SIGKILL. It is sent nothing yet, but with
    /// [`Reason::Closed`], which sends SIGINT 100 ms later. With [`Reason::Shutdown`] the time is
    /// `shutdown_timeout`, and no more than `drain_timeout` while it is still starting; with
    /// [`Reason::Culled`] a child that says BUSY has no bound but `timeout`.
    pub fn retire(&mut self, id: ChildId, reason: Reason) {
        let kill_after = match reason {
            Reason::Shutdown => self.attributes.shutdown_timeout,
            _ => self.attributes.kill_timeout,
        };
        let kill_in_start_after = match reason {
            Reason::Shutdown if !self.programs => kill_after.min(self.attributes.drain_timeout),
            _ => kill_after,
        };
        // Those that are owed will be for the dead.
        let (now, forks) = (self.now, self.report.forks + self.owed as u64);
        let Some(child) = self.pool.get_mut(id) else {
            return;
        };
        if child.state == State::Busy {
            child.flags |= Flags::BUSY_WHEN_TOLD;
        }
        let told = Retirement {
            reason,
            at: now,
            kill_after,
            kill_in_start_after,
            forks,
        };
        let earlier = child.retirement.is_some_and(|old| old.overrides(&told));
        if !earlier {
            child.retirement = Some(told);
            // One that closed its outputs is told later, if it lives on.
            if reason != Reason::Closed {
                self.happened(Event::ToldToStop { child: id, reason });
            }
        }
        self.pool.set_state(id, State::Retiring);
        self.observe_surplus();
    }

    /// Asks for a fork. False, and no fork, if `max_clients` does not allow one more, if forking is
    /// slowed down by failures (then `forkoff` is posted when it may go on), or in a shutdown.
    pub fn fork(&mut self) -> bool {
        let allowed = self.may_fork(self.queue.forks());
        if allowed {
            self.queue.push(Task::Fork);
        }
        allowed
    }

    /// Writes `line` and a newline to the parent's stdout, without ever blocking on it.
    pub fn print_stdout(&mut self, line: impl Into<Vec<u8>>) {
        self.print(PrintTo::Stdout, line.into());
    }

    /// Writes `line` and a newline to the parent's stderr, without ever blocking on it.
    pub fn print_stderr(&mut self, line: impl Into<Vec<u8>>) {
        self.print(PrintTo::Stderr, line.into());
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
        let now = self.now;
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        let state = child.state;
        if state == State::Retiring {
            child.flags |= Flags::BUSY_SINCE_TOLD;
        }
        child.note_busy(now);
        self.note_word(id, Flags::WAS_BUSY);
        self.transfer(id, state, &[State::Starting, State::Free], State::Busy)
    }

    /// Counts a child as free. True if it was busy before; a child that is retiring stays so.
    pub fn set_not_busy(&mut self, id: ChildId) -> bool {
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        // A child that is leaving never says this. One that does after it was told is deaf, and
        // what it had in hand is done.
        child
            .flags
            .remove(Flags::BUSY_SINCE_TOLD | Flags::BUSY_WHEN_TOLD);
        child.busy_since = None;
        let state = child.state;
        self.note_word(id, Flags::WAITED);
        self.transfer(id, state, &[State::Busy], State::Free)
    }

    fn transfer(&mut self, id: ChildId, state: State, from: &[State], to: State) -> bool {
        let moves = from.contains(&state);
        if moves {
            self.pool.set_state(id, to);
            self.happened(match to {
                State::Busy => Event::Busy { child: id },
                _ => Event::Free { child: id },
            });
            self.observe_surplus();
        } else {
            log::debug!("{id} is {state:?}, its word for {to:?} moves it nowhere");
        }
        moves
    }

    pub(crate) fn select(
        &mut self,
        descriptor: Box<dyn Any>,
        readiness: Readiness,
        state: &str,
    ) -> WatchId {
        let id = self.states.select(descriptor, readiness, state);
        self.queue_watches();
        id
    }

    fn print(&mut self, to: PrintTo, mut bytes: Vec<u8>) {
        bytes.push(b'\n');
        self.queue.push(Task::Print { to, bytes });
    }
}
