//! What hooks see and ask for: the children, the attributes, the time, and the queue of tasks. A
//! request is queued; the loop performs it when the hook has returned. No system call, no clock.

#[cfg(test)]
mod attribute_tests;
#[cfg(test)]
mod event_tests;
mod lifecycle;
pub(crate) mod looks;
mod planning;
mod replacing;
mod signals;
#[cfg(test)]
mod stack_tests;
mod stacks;
#[cfg(feature = "holder")]
mod takeover;
mod time;
#[cfg(test)]
mod time_limit_tests;
mod time_limits;
mod upgrading;

#[cfg(feature = "holder")]
pub(crate) use self::takeover::RetiredBefore;
pub(crate) use self::upgrading::{outlived, reached, restored};

use crate::core::{
    accept::refusal::Refusals,
    alarms::{AlarmId, Alarms},
    backoff::Backoff,
    board::SharedView,
    brake::{Brake, RunTime},
    child::{
        Cause, Child, ChildFlags, ChildId, Collected, Death, Reason, Retirement, START_HOLDS_AFTER,
        Signal, State, Stuck, WaitStatus,
    },
    comm::Interval,
    config::{
        Attribute, Attributes, CommChannel, Config, ThreadCheck, facts, read, read_type,
        with_attributes,
    },
    draining::QueuedClients,
    event::{Event, EventQueue},
    inbox::Contact,
    metrics::{Distribution, Metric},
    notice::Notice,
    pool::{self, Demand, ForkPlan, Pool, Surplus},
    queue::{PrintTo, Queue, Task},
    repeats::{EVERY, Repeats},
    replacement::{MemoryWatch, Replacement},
    report::Report,
    saturation::{Change, Episode, Fill},
    say,
    states::{PostedState, Resolved, States, WatchId, WatchInterest},
    stop::{Losses, Stop, StopEffect},
    time::Time,
    time_limits::TimeLimits,
    upgrade::Upgrade,
    wire::CommWords,
};
use std::{any::Any, fmt, time::Duration};

/// The parent's view of the server, passed to every hook.
///
/// Reading is immediate. Every action (a signal, a fork, a line of output, a posted state) is
/// queued and performed, in order, when the hook has returned. So the monitor never calls a hook
/// from within another one.
#[derive(Debug, Default)]
pub struct Monitor {
    pub(crate) attributes: Attributes,
    pub(crate) pool: Pool,
    pub(crate) queue: Queue,
    pub(crate) report: Report,
    /// Whether an operator has taken it out of balancers.
    pub(crate) is_drained: bool,
    /// Whether balancers can ask the server for its status.
    pub(crate) tells_status: bool,
    /// The process id of the process that the monitor is in.
    pub(crate) pid: u32,
    /// The hook that is running, for the log when it panics.
    pub(crate) hook: &'static str,
    /// The hook that was called last, for the log when it took long.
    pub(crate) last_hook: &'static str,
    pub(crate) backoff: Backoff,
    pub(crate) events: EventQueue,
    /// The messages of the last seconds.
    notices: Repeats<Notice>,
    /// The interval of ACKs that the start has derived from `timeout` and set on the server; `None`
    /// if the server had an interval of its own.
    pub(crate) derived_ack: Option<Interval>,
    states: States,
    alarms: Alarms,
    timeout_check: Option<AlarmId>,
    /// The `timeout` for which the timer of the timeout check was set last; `None` before the
    /// start.
    checked_timeout: Option<Duration>,
    time_limits: TimeLimits,
    surplus: Surplus,
    saturation: Episode,
    /// How much of the present episode the report has.
    saturation_counted: Duration,
    /// Whether no child has been free since all were busy.
    all_busy: bool,
    owed: usize,
    now: Time,
    /// When the last turn began: everything that children said before it has been read.
    turned: Time,
    since_last_turn: Duration,
    gaps: Duration,
    shutdown: bool,
    pub(crate) stop: Stop,
    /// What the stop has lost, of [`Report::lost_connections`].
    losses: Losses,
    /// What stops that do not come from signals ask of the loop.
    effect: StopEffect,
    child: bool,
    /// A look at the board.
    pub(crate) board: SharedView,
    /// Whether the children execute other programs, which need not say that they have started.
    pub(crate) programs: bool,
    /// How many children may be starting.
    pub(crate) brake: Brake,
    /// The children that have become ready and whose starts are to be measured.
    started: Vec<ChildId>,
    /// Whether the server can use a reserved child.
    pub(crate) sheds: bool,
    /// Whether children can be asked for their stacks.
    pub(crate) collects_stacks: bool,
    /// The looks at stacks of living children.
    pub(crate) looks: looks::StackLooks,
    pub(crate) replacement: Replacement,
    pub(crate) upgrade: Upgrade,
    /// The attributes that the program has begun with.
    begun_with: Option<Config>,
    /// The connections that the children of earlier programs have not served.
    refused_before: Refusals,
    memory_watch: MemoryWatch,
    /// When a child may next reach a limit of age.
    ages_at: Option<Time>,
}

macro_rules! attribute_accessors {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident, $set:ident: $type:ty $(as $read:ty)? = $default:expr => $facts:tt;
    )*) => {
        /// The attributes, which can be read and set at any time. The getters return the value in
        /// force.
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
    /// The attributes as they were asked for, including values that make no sense.
    pub fn config(&self) -> &Config {
        self.attributes.asked()
    }

    /// Sets all attributes at once, as after reading a file of settings anew. When each takes effect
    /// says its row: those that are read at the start only do not.
    pub fn set_config(&mut self, config: Config) {
        self.attributes.set(|asked| *asked = config);
        self.attributes_changed();
    }
}

/// The children.
impl Monitor {
    /// The children that serve a connection.
    pub fn busy_servers(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children().filter(|child| child.state == State::Busy)
    }

    /// The spare children: those that wait for a connection or are still starting.
    pub fn free_servers(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children()
            .filter(|child| matches!(child.state, State::Free | State::Starting))
    }

    /// The children that were told to stop and have not been reaped.
    pub fn retiring_servers(&self) -> impl Iterator<Item = &Child> + '_ {
        self.children()
            .filter(|child| child.state == State::Retiring)
    }

    /// The child that is kept for the time when all others are busy, if there is one: see
    /// [`reserved_shedder`](Self::reserved_shedder).
    pub fn reserved_server(&self) -> Option<&Child> {
        self.pool.reserved()
    }

    /// All children, in no particular order.
    pub fn children(&self) -> impl Iterator<Item = &Child> + '_ {
        self.pool.iter()
    }

    /// The name of each child (the original's wheel ID) with its process id.
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
    /// Whether this process is a forked child. The default of `server_start` sets it.
    pub fn is_child(&self) -> bool {
        self.child
    }

    /// Whether the server is shutting down.
    pub fn is_shutdown(&self) -> bool {
        self.shutdown
    }

    /// The time at which this turn of the loop began to work.
    ///
    /// Between two turns it is the time at which
    /// [`PreFork::monitor_mut`](crate::PreFork::monitor_mut) or a handler was called.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What has been counted so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The program's metrics, in the order in which they were declared: see
    /// [`metrics`](crate::metrics).
    ///
    /// The values are those of this moment, over all children of this server that there are or have
    /// been.
    pub fn metrics(&self) -> Vec<Metric> {
        self.board.0.metrics()
    }

    /// How long connections were queued, in seconds: a histogram for each listener, in the order of
    /// [`ChildServer::listeners`](crate::ChildServer::listeners).
    ///
    /// Over all children that there are or have been. A server counts here what it has
    /// [measured](crate::servers::StreamServer::queue_time), also connections that it did not serve;
    /// listeners from the last one that has any on are left out. The twelfth has those of all further
    /// ones.
    pub fn queue_times(&self) -> Vec<Distribution> {
        self.board.0.queue_times().distributions()
    }

    /// Posts `shutdown`.
    pub fn shutdown(&mut self) {
        self.post_known(PostedState::Shutdown);
    }
}

/// What a hook can ask for.
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

    /// Sends `signal` to a child. The name of a reaped child is ignored.
    ///
    /// A child that this signal ends has the cause [`Asked`](crate::Cause::Asked).
    ///
    /// The child stays in the pool: see [`stop`](Self::stop) for one that is to leave it.
    pub fn kill(&mut self, id: ChildId, signal: Signal) {
        let living = self.pool.get_mut(id).filter(|child| !child.is_reaped());
        if let Some(child) = living
            && signal.ends()
        {
            child.flags |= ChildFlags::ASKED;
        }
        self.send(id, signal);
    }

    /// Tells a child to stop, for `reason`: sends a signal and counts it as retiring.
    ///
    /// The signal is SIGINT, after which the child finishes the connection in hand, and SIGKILL
    /// follows after the time that [`retire`](Self::retire) gives. With [`Reason::Faulty`] SIGKILL
    /// is sent at once.
    pub fn stop(&mut self, id: ChildId, reason: Reason) {
        let signal = match reason {
            Reason::Faulty => Signal::Kill,
            _ => Signal::Interrupt,
        };
        if reason.is_over_time() {
            self.ask_stack(id);
        }
        self.send(id, signal);
        self.retire(id, reason);
    }

    /// Queues a signal without marking the child as ended by a hook.
    pub(crate) fn send(&mut self, id: ChildId, signal: Signal) {
        let living = self.pool.get_mut(id).filter(|child| !child.is_reaped());
        let Some(child) = living else {
            return log::debug!("{id} is gone, no {signal:?} for it");
        };
        match signal {
            Signal::Interrupt => child.flags |= ChildFlags::INT_SENT,
            Signal::Kill => {
                child.flags |= ChildFlags::KILL_SENT;
                child.killed_at.get_or_insert(self.now);
            }
            _ => {}
        }
        self.queue.push(Task::Signal { child: id, signal });
    }

    /// Counts a child as retiring from now on.
    ///
    /// It is no longer spare, and its words do not change its state. If it has not ended after
    /// `kill_timeout`, it gets SIGKILL. No signal is sent now; with [`Reason::Closed`] SIGINT
    /// follows after 100 ms. With [`Reason::Shutdown`] the time is `shutdown_timeout`, or without a
    /// bound if only SIGQUIT has asked for the stop, and at most `drain_timeout` while the child is
    /// still starting. With [`Reason::Culled`], [`Reason::Recycled`] and [`Reason::Reloaded`] only
    /// `timeout` and `busy_timeout` limit a child that has a connection in hand. With
    /// [`Reason::StartTimeout`] the start counts as failed, which delays forks.
    pub fn retire(&mut self, id: ChildId, reason: Reason) {
        if reason == Reason::StartTimeout {
            self.note_hung_start(id);
        }
        let told = self.retirement(reason);
        let living = self.pool.get_mut(id).filter(|child| !child.is_reaped());
        let Some(child) = living else {
            return;
        };
        if child.state == State::Busy {
            child.flags |= ChildFlags::BUSY_WHEN_TOLD;
        }
        let earlier = child.retirement.as_mut().is_some_and(|old| {
            old.bound_start(&told);
            old.overrides(&told)
        });
        if !earlier {
            child.retirement = Some(told);
            // A child that closed its outputs is told later, if it has not ended by then.
            if reason != Reason::Closed {
                self.happened(Event::ToldToStop { child: id, reason });
            }
        }
        if reason.is_over_time() {
            self.ask_stack(id);
        }
        self.pool.set_state(id, State::Retiring);
        self.observe_surplus();
    }

    /// The retirement of a child that is told to stop now.
    fn retirement(&self, reason: Reason) -> Retirement {
        let kill_after = match reason {
            Reason::Shutdown if self.stop.is_unbounded() => None,
            Reason::Shutdown => Some(self.attributes.shutdown_timeout),
            _ => Some(self.attributes.kill_timeout),
        };
        let kill_in_start_after = match reason {
            Reason::Shutdown if !self.programs => {
                let drain = self.attributes.drain_timeout;
                Some(kill_after.map_or(drain, |kill_after| kill_after.min(drain)))
            }
            _ => kill_after,
        };
        Retirement {
            reason,
            at: self.now,
            kill_after,
            kill_in_start_after,
            // Forks that are owed replace children that have ended before.
            forks: self.report.forks + self.owed as u64,
        }
    }

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

    /// Writes `line` and a newline to the parent's stdout, without blocking.
    pub fn print_stdout(&mut self, line: impl Into<Vec<u8>>) {
        self.print(PrintTo::Stdout, line.into());
    }

    /// Writes `line` and a newline to the parent's stderr, without blocking.
    pub fn print_stderr(&mut self, line: impl Into<Vec<u8>>) {
        self.print(PrintTo::Stderr, line.into());
    }

    /// Records that a child is alive now. False if it has been reaped.
    pub fn acknowledge(&mut self, id: ChildId) -> bool {
        let (now, gaps) = (self.now, self.gaps);
        self.pool.get_mut(id).is_some_and(|child| {
            child.last_ack = now;
            child.gaps_at_ack = gaps;
            child.flags |= ChildFlags::ACKED;
            true
        })
    }

    /// Counts a child as busy. True if it was free before. A retiring child stays retiring.
    pub fn set_busy(&mut self, id: ChildId) -> bool {
        let now = self.now;
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        let state = child.state;
        if state == State::Retiring {
            child.flags |= ChildFlags::BUSY_SINCE_TOLD;
        }
        child.note_busy(now);
        self.note_word(id, ChildFlags::WAS_BUSY);
        let moves = self.transfer(id, state, &[State::Starting, State::Free], State::Busy);
        self.watch_clock(id);
        moves
    }

    /// Counts a child as free. True if it was busy before. A retiring child stays retiring.
    pub fn set_not_busy(&mut self, id: ChildId) -> bool {
        let Some(child) = self.pool.get_mut(id) else {
            return false;
        };
        // A child that acts on the signal never says this again. A child that says it after the
        // signal has not acted on the signal, and has finished its connection.
        child
            .flags
            .remove(ChildFlags::BUSY_SINCE_TOLD | ChildFlags::BUSY_WHEN_TOLD);
        child.busy_since = None;
        let state = child.state;
        self.note_word(id, ChildFlags::WAITED);
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
        readiness: WatchInterest,
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
