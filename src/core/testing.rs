//! Helpers of the unit tests: a monitor at a given time with children in given states, its tasks in
//! a form that can be compared, and the log. Forks nothing and reads no clock.

use crate::core::{
    child::{Child, ChildId, Reason, Signal, State, WaitStatus},
    monitor::Monitor,
    queue::{PrintTo, Task},
    states::{DOCUMENTED_STATES, PostedState, States},
    time::Time,
};
use std::{cell::RefCell, sync::Once, time::Duration};

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) const fn at(ms: u64) -> Time {
    Time::at(Duration::from_millis(ms))
}

/// A monitor as `handler_start` leaves it, with the documented states and one more, and nothing
/// queued.
pub(crate) fn monitor() -> Monitor {
    let mut monitor = Monitor::default();
    let mut states = States::default();
    for state in DOCUMENTED_STATES {
        states.add(state);
    }
    states.add("own");
    monitor.install(states);
    monitor
}

/// A monitor with these limits.
pub(crate) fn sized(min: usize, max: usize, start: usize, clients: usize) -> Monitor {
    let mut monitor = monitor();
    monitor.attributes.set(|asked| {
        asked.min_spare_servers = min;
        asked.max_spare_servers = max;
        asked.start_servers = start;
        asked.max_clients = clients;
    });
    monitor
}

/// Sets the time to `ms`, without a gap in which the parent did not run.
pub(crate) fn go_to(monitor: &mut Monitor, ms: u64) {
    // A turn shortly before, because after a long pause the timeout check is put off.
    monitor.tick(at(ms.saturating_sub(1)), Duration::ZERO);
    monitor.tick(at(ms), Duration::ZERO);
}

/// Forks a child now and brings it into `state`. Process ids are 1001, 1002 and so on.
pub(crate) fn child(monitor: &mut Monitor, state: State) -> ChildId {
    let pid = 1001 + u32::try_from(monitor.report.forks).unwrap();
    let id = monitor.forked(pid, None);
    if state != State::Starting {
        monitor.note_word_heard(id);
    }
    match state {
        State::Starting | State::Free => {}
        State::Busy => assert!(monitor.set_busy(id)),
        // It is reserved from its fork on, if it is.
        State::Reserved => {}
        State::Retiring => monitor.retire(id, Reason::Asked),
    }
    assert_eq!(monitor.child(id).map(Child::state), Some(state));
    id
}

pub(crate) fn children<const N: usize>(monitor: &mut Monitor, states: [State; N]) -> [ChildId; N] {
    states.map(|state| child(monitor, state))
}

pub(crate) fn state(monitor: &Monitor, id: ChildId) -> State {
    monitor.child(id).unwrap().state()
}

/// A task in a form that can be compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum PlainTask {
    Forkoff,
    ServerFork,
    TimeoutCheck,
    Shutdown,
    ReopenLogs,
    Reload,
    ReloadFailed(String),
    State(String),
    Fork,
    Signal(ChildId, Signal),
    Stdout(String),
    Stderr(String),
    ReopenChildren,
    Lead(Signal),
    Watch(String),
    Unwatch,
    Upgrade,
    Stack(ChildId),
    Look(ChildId),
}

/// Takes all tasks out of the queue.
pub(crate) fn asked(monitor: &mut Monitor) -> Vec<PlainTask> {
    std::iter::from_fn(|| monitor.queue.pop())
        .map(|task| match task {
            Task::Posted(PostedState::Forkoff) => PlainTask::Forkoff,
            Task::Posted(PostedState::ServerFork) => PlainTask::ServerFork,
            Task::Posted(PostedState::ServerTimeoutCheck) => PlainTask::TimeoutCheck,
            Task::Posted(PostedState::Shutdown) => PlainTask::Shutdown,
            Task::Posted(PostedState::ReopenLogs) => PlainTask::ReopenLogs,
            Task::Posted(PostedState::Reload) => PlainTask::Reload,
            Task::Posted(PostedState::Upgrade) => PlainTask::Upgrade,
            Task::Posted(PostedState::State(state)) => PlainTask::State(state),
            Task::ReloadFailed(error) => PlainTask::ReloadFailed(error.to_string()),
            Task::Fork => PlainTask::Fork,
            Task::Signal { child, signal } => PlainTask::Signal(child, signal),
            Task::Print { to, bytes } => {
                let text = String::from_utf8(bytes).unwrap();
                match to {
                    PrintTo::Stdout => PlainTask::Stdout(text),
                    PrintTo::Stderr => PlainTask::Stderr(text),
                }
            }
            Task::ReopenChildren => PlainTask::ReopenChildren,
            Task::Lead(signal) => PlainTask::Lead(signal),
            Task::Watch(watch) => PlainTask::Watch(watch.state),
            Task::Unwatch(_) => PlainTask::Unwatch,
            Task::AskStack(child) => PlainTask::Stack(child),
            Task::LookAtStack(child) => PlainTask::Look(child),
        })
        .collect()
}

/// The tasks that are due at `ms`.
pub(crate) fn due_at(monitor: &mut Monitor, ms: u64) -> Vec<PlainTask> {
    go_to(monitor, ms);
    monitor.fire_due();
    asked(monitor)
}

pub(crate) fn int(id: ChildId) -> PlainTask {
    PlainTask::Signal(id, Signal::Interrupt)
}

pub(crate) fn kill(id: ChildId) -> PlainTask {
    PlainTask::Signal(id, Signal::Kill)
}

pub(crate) fn exit_code(code: i32) -> Option<WaitStatus> {
    Some(WaitStatus::from_raw(code << 8))
}

pub(crate) fn ended_by_signal(signal: i32) -> Option<WaitStatus> {
    Some(WaitStatus::from_raw(signal))
}

thread_local! {
    static LOG: RefCell<Option<Vec<(log::Level, String)>>> = const { RefCell::new(None) };
}

struct ThreadLog;

impl log::Log for ThreadLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOG.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.push((record.level(), record.args().to_string()));
            }
        });
    }

    fn flush(&self) {}
}

/// The messages that `act` logs at `Warn` and above.
pub(crate) fn warnings(act: impl FnOnce()) -> Vec<String> {
    logged(log::Level::Warn, act)
}

/// The messages that `act` logs at `Info` and above.
pub(crate) fn infos(act: impl FnOnce()) -> Vec<String> {
    logged(log::Level::Info, act)
}

fn logged(least: log::Level, act: impl FnOnce()) -> Vec<String> {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&ThreadLog).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    LOG.set(Some(Vec::new()));
    act();
    let lines = LOG.take().unwrap();
    lines
        .into_iter()
        .filter(|(level, _)| *level <= least)
        .map(|(_, text)| text)
        .collect()
}
