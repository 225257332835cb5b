//! The status of a server, by HTTP (feature `status`): the parent keeps a record in memory that a
//! process beside its children reads, the status helper, which answers clients. This is the parent's
//! side; it serves no client, and waits for nothing.

mod address;
mod connection;
mod helper;
pub(crate) mod http;
mod recorder;
mod responses;

pub use self::address::StatusAddress;

use self::{
    address::StatusSockets,
    helper::{ServedSocket, StatusHelper, StatusService},
    recorder::Recorder,
    responses::Responses,
};
use crate::{
    core::{
        child::ChildId,
        error::Error,
        event::Event,
        monitor::Monitor,
        notice::Notice,
        state::{Descriptor, FdRole},
        time::Time,
    },
    listeners::ListenerStatus,
    sys::{
        clock::Clock,
        confine::ConfinementPlan,
        side_process::{Setup, SideProcess},
    },
};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

/// How long a helper must live until its end counts as the first failure again.
const HOLDS_AFTER: Duration = Duration::from_secs(10);
/// How long to wait after a failure: twice as long after each further one.
const RETRY_AFTER: Duration = Duration::from_millis(50);
const RETRY_AFTER_AT_MOST: Duration = Duration::from_secs(5);

/// Where a server is to tell its status.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatusConfig {
    pub(crate) http: Option<StatusAddress>,
    pub(crate) agent: Option<StatusAddress>,
}

/// The status of one server; nothing, unless it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Status(Option<Box<ActiveStatus>>);

#[derive(Debug)]
struct ActiveStatus {
    /// For how many children there are slots.
    slots: usize,
    sockets: Vec<(StatusSockets, StatusService)>,
    recorder: Recorder,
    helper: HelperProcess,
}

/// The helper as a process.
#[derive(Debug, Default)]
struct HelperProcess {
    process: Option<SideProcess>,
    started_at: Time,
    restart_at: Time,
    failures: u32,
}

impl Status {
    /// Opens the sockets that are wanted. The helper is forked in the first turn.
    pub(crate) fn open(wanted: &StatusConfig, slots: usize) -> Result<Self, Error> {
        let addresses = [
            (&wanted.http, StatusService::Http),
            (&wanted.agent, StatusService::Agent),
        ];
        let mut sockets = Vec::new();
        for (address, serves) in addresses {
            if let Some(address) = address {
                sockets.push((address.open()?, serves));
            }
        }
        let kept = |sockets| {
            Box::new(ActiveStatus {
                slots,
                sockets,
                recorder: Recorder::default(),
                helper: HelperProcess::default(),
            })
        };
        Ok(Self((!sockets.is_empty()).then(|| kept(sockets))))
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The addresses at which HTTP is answered.
    pub(crate) fn names(&self) -> Vec<String> {
        let sockets = self.0.iter().flat_map(|kept| &kept.sockets);
        let http = sockets.filter(|(_, serves)| *serves == StatusService::Http);
        http.flat_map(|(opened, _)| opened.names.clone()).collect()
    }

    /// The addresses at which HAProxy's agent-check is answered.
    pub(crate) fn agent_names(&self) -> Vec<String> {
        let sockets = self.0.iter().flat_map(|kept| &kept.sockets);
        let agents = sockets.filter(|(_, serves)| *serves == StatusService::Agent);
        agents
            .flat_map(|(opened, _)| opened.names.clone())
            .collect()
    }

    pub(crate) fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        if let Some(kept) = &mut self.0 {
            kept.recorder.note(monitor, event);
        }
    }

    /// Before the slot of a child that has ended is cleared.
    pub(crate) fn note_last_lines(&mut self, child: ChildId, monitor: &Monitor) {
        if let Some(kept) = &mut self.0 {
            kept.recorder.note_last_lines(child, monitor);
        }
    }

    /// After a command that may have drained the server.
    pub(crate) fn note_drain(&mut self, monitor: &Monitor) {
        if let Some(kept) = &mut self.0 {
            kept.recorder.note_drain(monitor);
        }
    }

    pub(crate) fn wants_listeners(&self, now: Time) -> bool {
        let kept = self.0.as_ref();
        kept.is_some_and(|kept| kept.recorder.wants_listeners(now))
    }

    pub(crate) fn note_listeners(&mut self, listeners: Vec<ListenerStatus>) {
        if let Some(kept) = &mut self.0 {
            kept.recorder.note_listeners(listeners);
        }
    }

    /// When the helper is to be forked again.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        let kept = self.0.as_ref()?;
        kept.helper
            .wants_process()
            .then_some(kept.helper.restart_at)
    }

    /// Whether the helper is to be forked now.
    pub(crate) fn wants_fork(&self, now: Time) -> bool {
        self.wake_at().is_some_and(|at| at <= now)
    }

    /// Forks the helper. It never returns into the loop.
    pub(crate) fn fork(&mut self, monitor: &mut Monitor, clock: Clock, plan: &ConfinementPlan) {
        let Some(kept) = &mut self.0 else {
            return;
        };
        match kept.fork(monitor, clock, plan) {
            Ok(process) => {
                log::debug!("the status helper is process {}", process.pid());
                kept.helper.process = Some(process);
                kept.helper.started_at = monitor.now();
            }
            Err(error) => {
                kept.helper.note_failure(monitor.now());
                monitor.notice(
                    Notice::StatusStart,
                    format_args!("the status helper cannot be started: {error}"),
                );
            }
        }
    }

    /// Collects a helper that has ended.
    pub(crate) fn reap(&mut self, monitor: &mut Monitor) {
        if let Some(kept) = &mut self.0 {
            kept.helper.reap(monitor);
        }
    }

    /// The sockets, which a program takes over that takes the place of this one.
    pub(crate) fn descriptors(&self) -> Vec<Descriptor> {
        let sockets = self.0.iter().flat_map(|kept| &kept.sockets);
        let sockets = sockets.flat_map(|(opened, _)| opened.sockets());
        let descriptor = |socket: BorrowedFd<'_>| Descriptor {
            role: FdRole::Own,
            // OK because it is open.
            fd: socket.as_raw_fd().cast_unsigned(),
            ..Descriptor::default()
        };
        sockets.map(descriptor).collect()
    }

    /// The helper, which ends with the program, and is to be reaped by the next.
    pub(crate) fn process(&self) -> Option<u32> {
        let kept = self.0.as_ref()?;
        kept.helper.process.as_ref().map(SideProcess::pid)
    }

    /// Ends the helper, and closes its sockets.
    pub(crate) fn end(&mut self) {
        if let Some(kept) = self.0.take()
            && let Some(process) = kept.helper.process
        {
            process.end();
        }
    }
}

/// A server that is dropped ends its helper.
impl Drop for Status {
    fn drop(&mut self) {
        self.end();
    }
}

impl ActiveStatus {
    fn fork(
        &mut self,
        monitor: &Monitor,
        clock: Clock,
        plan: &ConfinementPlan,
    ) -> io::Result<SideProcess> {
        let memory = self.recorder.begin(self.slots, monitor)?;
        let sockets = &self.sockets;
        let keeps: Vec<BorrowedFd<'_>> = sockets
            .iter()
            .flat_map(|(opened, _)| opened.sockets())
            .collect();
        let setup = Setup {
            name: c"prefork-status",
            keeps: &keeps,
            confinement: plan,
        };
        let answers = || Responses::new(memory.clone(), monitor.board.clone(), clock);
        memory.shown(|| SideProcess::start(&setup, |life| serve(sockets, answers(), life)))
    }
}

/// Runs in the helper.
fn serve(
    opened: &[(StatusSockets, StatusService)],
    answers: Responses,
    life: BorrowedFd<'_>,
) -> i32 {
    let sockets = opened.iter().flat_map(|(opened, serves)| {
        let host = opened.host();
        let sockets = opened.sockets();
        sockets.map(move |socket| ServedSocket::new(socket, host, *serves))
    });
    match sockets.collect() {
        Ok(sockets) => StatusHelper::new(answers, sockets).run(life),
        Err(error) => {
            eprintln!("prefork-status: {error}");
            1
        }
    }
}

impl HelperProcess {
    fn wants_process(&self) -> bool {
        self.process.is_none()
    }

    fn reap(&mut self, monitor: &mut Monitor) {
        if let Some(process) = &self.process
            && let Some(end) = process.reap()
        {
            let (now, pid) = (monitor.now(), process.pid());
            monitor.notice(
                Notice::StatusEnded,
                format_args!("the status helper, process {pid}, has ended: {end}"),
            );
            self.process = None;
            if HOLDS_AFTER <= now.since(self.started_at) {
                self.failures = 0;
            }
            self.note_failure(now);
        }
    }

    fn note_failure(&mut self, now: Time) {
        let wait = RETRY_AFTER.saturating_mul(1 << self.failures.min(16));
        self.restart_at = now + wait.min(RETRY_AFTER_AT_MOST);
        self.failures += 1;
    }
}
