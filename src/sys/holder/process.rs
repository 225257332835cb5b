//! The holder: the process that the user has started, once it has forked the parent. It passes on
//! signals, reaps, keeps the children's pipes, and forks another parent when one is gone without
//! goodbye. It runs no code of the user's, decides by `core/holder.rs`, and allocates nothing. Here are
//! its parents, one after the other, and what they say.

#![allow(unsafe_code)]

mod end;
mod reaping;
mod signals;
mod succession;

pub(super) use self::{end::exit, signals::note_arrived};

use self::{
    end::{complain, exit_like, give_up},
    signals::{handled_signals, stop_with_the_terminal},
};
use super::{
    HolderSplit,
    deaths::Deaths,
    handover::Handover,
    journal_memory::Journal,
    kept::KeptPipes,
    messages::{self, Message},
};
use crate::{
    core::{
        child::WaitStatus,
        error::{Error, Operation},
        holder::{HolderAction, HolderMachine, HolderSaw},
        journal::NotedPid,
        signal_policy::TABLE,
        time::Time,
    },
    sys::{
        clock::Clock,
        control::ControlSocket,
        fd_registry::Registered,
        fork::{self, Side},
        shared_memory::SharedMemory,
        signals::Mask,
        upgrade::{PreparedExecveat, Upgrades},
        waiter::poll_any,
    },
};
use nix::{
    errno::Errno,
    libc,
    poll::PollFlags,
    sys::{
        prctl,
        signalfd::{SfdFlags, SignalFd},
    },
};
use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// The exit code of a parent that could not be set up: EX_OSERR.
const EXIT_SETUP: i32 = 71;

/// What a holder is told at its start.
pub(super) struct HolderSetup {
    pub(super) journal: Journal,
    pub(super) handover: Handover,
    /// What parents own one after the other.
    pub(super) memories: Vec<SharedMemory>,
    /// The pipes of children that an earlier program has forked.
    pub(super) kept: KeptPipes,
    /// By which this process becomes another program; `None` if it cannot.
    pub(super) call: Option<PreparedExecveat>,
    pub(super) clock: Clock,
    /// Which signals of the table reach the parent by the journal; the others are sent to it.
    pub(super) counted: [bool; TABLE.len()],
    /// How long the children have when the server is given up.
    pub(super) grace: Duration,
    /// The signals that were blocked before.
    pub(super) mask: Mask,
}

/// What a holder has of the server, and lets go when its parent says so, or has it.
pub(super) struct HeldResources<'a> {
    /// The write end of the death watch: open in a holder and its parent alone.
    pub(super) death_write: &'a mut Option<Registered<OwnedFd>>,
    pub(super) control: &'a mut Option<ControlSocket>,
    pub(super) upgrades: &'a mut Upgrades,
}

impl HeldResources<'_> {
    /// The first parent goes on with those who have asked the program before. No process would be left to
    /// close their connections.
    fn leave_clients(&mut self) {
        if let Some(control) = &mut *self.control {
            control.leave_clients();
        }
        self.upgrades.leave_askers();
    }
}

/// What a parent has of its holder.
pub(super) struct ParentStart {
    pub(super) channel: OwnedFd,
    pub(super) kept: KeptPipes,
    pub(super) deaths: Deaths,
    pub(super) split: HolderSplit,
}

/// The parent that lives.
#[derive(Debug)]
struct LivingParent {
    pid: u32,
    started: Time,
    status: Option<libc::c_int>,
}

pub(super) struct Holder<'a> {
    setup: HolderSetup,
    kept: KeptPipes,
    /// Those that the next parent knows of.
    deaths: Deaths,
    signals: SignalFd,
    channel: Option<OwnedFd>,
    parent: Option<LivingParent>,
    machine: HolderMachine,
    /// Whether the last attempt to fork a parent has failed, which is told once.
    cannot_fork: bool,
    parents: u32,
    /// How many descriptors it has got for the next program.
    handed: usize,
    resources: HeldResources<'a>,
    /// How the last one has ended.
    last_end: Option<WaitStatus>,
    last_status: libc::c_int,
    /// What a child has noted of itself.
    noted: &'a dyn Fn(usize) -> NotedPid,
}

impl<'a> Holder<'a> {
    /// This process adopts orphans from now on, and reads signals from a descriptor alone.
    pub(super) fn new(
        mut setup: HolderSetup,
        resources: HeldResources<'a>,
        noted: &'a dyn Fn(usize) -> NotedPid,
    ) -> io::Result<Self> {
        prctl::set_child_subreaper(true)?;
        stop_with_the_terminal()?;
        let machine = HolderMachine::new(setup.grace);
        Ok(Self {
            kept: std::mem::take(&mut setup.kept),
            deaths: Deaths::new(setup.journal.slots()),
            signals: SignalFd::with_flags(
                &handled_signals()?,
                SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
            )?,
            setup,
            channel: None,
            parent: None,
            machine,
            cannot_fork: false,
            parents: 0,
            handed: 0,
            resources,
            last_end: None,
            last_status: 0,
            noted,
        })
    }

    /// Returns in each parent, and in the holder only if the first could not be forked.
    pub(super) fn run(&mut self) -> Result<ParentStart, Error> {
        let mut action = HolderAction::Fork;
        let mut failure = io::Error::from(io::ErrorKind::Other);
        loop {
            let saw = match action {
                HolderAction::Fork => match self.start() {
                    Ok(Some(born)) => return Ok(born),
                    Ok(None) => HolderSaw::Forked,
                    Err(error) => {
                        failure = error;
                        HolderSaw::NotForked
                    }
                },
                HolderAction::Refuse => {
                    return Err(Error::new(Operation::Fork, "the parent", failure));
                }
                other => self.perform(other),
            };
            action = self.machine.step(saw);
            if saw == HolderSaw::NotForked && action != HolderAction::Refuse {
                self.report_failed_fork(&failure);
            }
        }
    }

    /// Does what needs no more than this process.
    fn perform(&mut self, action: HolderAction) -> HolderSaw {
        match action {
            HolderAction::AwaitParent => return self.await_end(),
            HolderAction::Pause(after) => self.pause(after),
            HolderAction::StopChildren => return self.stop_children(),
            HolderAction::KillChildren => return self.kill_children(),
            HolderAction::AwaitChildren(time) => self.await_children(time),
            HolderAction::FollowParent => exit_like(self.last_status),
            HolderAction::GiveUp => give_up(),
            HolderAction::Fork | HolderAction::Refuse => {}
        }
        HolderSaw::Waited
    }

    /// Says once that there is no parent, until there is one.
    fn report_failed_fork(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.cannot_fork, true) {
            return;
        }
        // The text of an `io::Error` would be allocated.
        let why = Errno::from_raw(error.raw_os_error().unwrap_or(0)).desc();
        let mut line = [0; 200];
        let mut rest = &mut line[..];
        // OK to ignore: a text that is too long is cut.
        let _ = writeln!(
            rest,
            "holder: no parent can be forked ({why}); the children serve, and it is tried again"
        );
        let left = rest.len();
        complain(&line[..line.len() - left]);
    }

    /// Forks a parent. `Some` in the new process.
    fn start(&mut self) -> io::Result<Option<ParentStart>> {
        let (own, parents) = messages::pair()?;
        let holder = std::process::id();
        if !self.setup.memories.iter().all(SharedMemory::hand_on) {
            return Err(io::Error::last_os_error());
        }
        self.deaths.know_all(&self.setup.journal);
        match fork::fork(&self.setup.mask)? {
            Side::Child => {
                drop(own);
                let split = HolderSplit {
                    earlier: self.parents,
                    ended: self.last_end,
                    at: self.setup.clock.now(),
                };
                self.become_parent(holder);
                Ok(Some(ParentStart {
                    channel: parents,
                    kept: std::mem::take(&mut self.kept),
                    deaths: std::mem::take(&mut self.deaths),
                    split,
                }))
            }
            Side::Parent(pid) => {
                drop(parents);
                if self.parents == 0 {
                    self.resources.leave_clients();
                }
                self.parents += 1;
                self.cannot_fork = false;
                self.channel = Some(own);
                self.parent = Some(LivingParent {
                    pid,
                    started: self.setup.clock.now(),
                    status: None,
                });
                Ok(None)
            }
        }
    }

    /// In a new parent: it does not outlive its holder.
    fn become_parent(&self, holder: u32) {
        self.setup.memories.iter().for_each(SharedMemory::take_over);
        let tied = prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        let is_orphan = nix::unistd::getppid().as_raw().cast_unsigned() != holder;
        let is_refused =
            matches!(tied, Err(errno) if !matches!(errno, Errno::EPERM | Errno::ENOSYS));
        if is_orphan || is_refused || self.setup.mask.clone().restore().is_err() {
            exit(EXIT_SETUP);
        }
    }

    /// Waits for the end of the parent.
    fn await_end(&mut self) -> HolderSaw {
        // No signal tells of processes that have ended before.
        self.take_signals();
        while self.parent.as_ref().is_some_and(|it| it.status.is_none()) {
            self.wait(None);
        }
        // What it has said last.
        self.read_messages();
        self.channel = None;
        let Some(parent) = self.parent.take() else {
            return HolderSaw::Ended {
                is_over: false,
                had_settled: true,
                lived: Duration::ZERO,
            };
        };
        self.last_end = parent.status.map(WaitStatus::from_raw);
        self.last_status = parent.status.unwrap_or_default();
        let is_over = self.setup.journal.is_over();
        if !is_over {
            self.succeed(parent.pid);
            self.settle_records();
        }
        HolderSaw::Ended {
            is_over,
            had_settled: self.setup.journal.is_settled(parent.pid),
            lived: self.setup.clock.now().since(parent.started),
        }
    }

    /// Waits once, and does what comes.
    fn wait(&mut self, timeout: Option<Duration>) {
        let signals = (self.signals.as_fd(), PollFlags::POLLIN);
        // OK to ignore failures: what has come is looked for in any case.
        let _ = match &self.channel {
            Some(channel) => {
                let parent = (channel.as_fd(), PollFlags::POLLIN);
                poll_any([signals, parent], timeout).map(drop)
            }
            None => poll_any([signals], timeout).map(drop),
        };
        self.read_messages();
        self.take_signals();
    }

    /// Reads all that the parent has sent.
    fn read_messages(&mut self) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        // One whose other end is closed would be reported forever. Looked at first: what was sent
        // before the end was closed is read below. One that could not be looked at is kept.
        let has_hung_up = poll_any(
            [(channel.as_fd(), PollFlags::empty())],
            Some(Duration::ZERO),
        );
        while let Some((message, pipes)) = messages::receive(&channel) {
            self.act_on(message, pipes);
            if message.wants_answer() {
                messages::wake(&channel);
            }
        }
        if !matches!(has_hung_up, Ok([true])) {
            self.channel = Some(channel);
        }
    }

    fn act_on(&mut self, message: Message, pipes: messages::Pipes) {
        match message {
            Message::Keep(child) => self.kept.put(child, pipes),
            Message::Drop(child) => self.kept.close(child.slot(), child.serial()),
            Message::EndDeathWatch => *self.resources.death_write = None,
            Message::Hand(part) => self.receive_handed(part, pipes),
            Message::CallOff => self.drop_handed(),
            Message::Proved => self.resources.upgrades.forget_previous(),
        }
    }

    fn wake(&self) {
        self.channel.iter().for_each(messages::wake);
    }

    /// Waits before the next parent; not for long if a stop was asked for.
    fn pause(&mut self, after: Duration) {
        let until = self.setup.clock.now() + after;
        loop {
            let left = until.since(self.setup.clock.now());
            if left.is_zero() || self.take_signals() {
                return;
            }
            let signals = (self.signals.as_fd(), PollFlags::POLLIN);
            // OK to ignore: then it is the time that ends the wait.
            let _ = poll_any([signals], Some(left));
        }
    }
}

/// Sends a signal to this process, the parent or a child.
fn send(pid: u32, signal: libc::c_int) {
    // SAFETY: `kill` touches no memory. The process is a child that was not reaped. OK to ignore: it
    // may have ended.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}
