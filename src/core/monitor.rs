//! What hooks see and ask for: the children, the attributes, the time, and the queue of tasks. A
//! request is queued; the loop performs it when the hook has returned. No system call, no clock.

#[cfg(test)]
mod attribute_tests;
mod attributes;
mod braking;
mod children;
#[cfg(test)]
mod event_tests;
mod lifecycle;
pub(crate) mod looks;
mod planning;
mod posting;
mod replacing;
mod reporting;
mod reserve;
mod retiring;
mod saturation;
mod shutdown;
mod signals;
mod silence;
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
mod words;

#[cfg(feature = "holder")]
pub(crate) use self::takeover::RetiredBefore;
pub(crate) use self::upgrading::{outlived, reached, restored};

use self::{saturation::Fullness, silence::TimeoutCheck};
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
    say, signal_policy,
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
    timeout_check: TimeoutCheck,
    time_limits: TimeLimits,
    surplus: Surplus,
    fullness: Fullness,
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
    /// When a child that went first, in a replacement without room, will have served for too long.
    slow_at: Option<Time>,
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

    /// How long connections were queued, in seconds: a histogram for each listener.
    ///
    /// They are in the order of [`ChildServer::listeners`](crate::ChildServer::listeners).
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

    /// Runs `hook` under its name, so that a panic in it can be logged with that name.
    pub(crate) fn naming<R>(&mut self, name: &'static str, hook: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.hook, name);
        self.last_hook = name;
        let result = hook(self);
        self.hook = outer;
        result
    }
}

/// Lines for the outputs of the parent.
impl Monitor {
    /// Writes `line` and a newline to the parent's stdout, without blocking.
    pub fn print_stdout(&mut self, line: impl Into<Vec<u8>>) {
        self.print(PrintTo::Stdout, line.into());
    }

    /// Writes `line` and a newline to the parent's stderr, without blocking.
    pub fn print_stderr(&mut self, line: impl Into<Vec<u8>>) {
        self.print(PrintTo::Stderr, line.into());
    }

    fn print(&mut self, to: PrintTo, mut bytes: Vec<u8>) {
        bytes.push(b'\n');
        self.queue.push(Task::Print { to, bytes });
    }
}
