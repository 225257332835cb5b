//! The holder: the process that the user has started, once it has forked the parent. It passes on
//! signals, reaps, keeps the children's pipes, and forks another parent when one is gone without
//! goodbye. It runs no code of the user's, decides by `core/restarts.rs` alone, and allocates nothing.

#![allow(unsafe_code)]

mod succession;

use super::{
    Split,
    channel::{self, Message},
    deaths::Deaths,
    handover::Handover,
    kept::KeptPipes,
    memory::Journal,
};
use crate::{
    core::{
        child::{Collected, Signal, WaitStatus},
        error::{Error, Operation},
        journal::{NotedPid, Phase, Record},
        restarts::{Next, Restarts},
        signal_policy::{Arrived, Lead, TABLE},
        time::Time,
    },
    sys::{
        clock::Clock,
        control::ControlSocket,
        fd_registry::Ours,
        fork::{self, Side},
        process,
        shared_memory::SharedMemory,
        signals::{Mask, number},
        upgrade::{BlankCall, Upgrades},
        waiter::poll_any,
    },
};
use nix::{
    errno::Errno,
    libc,
    poll::PollFlags,
    sys::{
        prctl,
        signal::SigSet,
        signalfd::{SfdFlags, SignalFd},
    },
};
use std::{
    io::{self, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    ptr,
    time::Duration,
};

/// The exit code of a holder whose parents end before they come to work: EX_SOFTWARE.
const EXIT_GIVEN_UP: i32 = 70;
/// The exit code of a parent that could not be set up: EX_OSERR.
const EXIT_SETUP: i32 = 71;

/// By this signal whoever watches a server asks the holder to replace a parent that hangs.
const REPLACE_PARENT: libc::c_int = libc::SIGABRT;

/// What a holder is told at its start.
pub(super) struct HolderSetup {
    pub(super) journal: Journal,
    pub(super) handover: Handover,
    /// What parents own one after the other.
    pub(super) memories: Vec<SharedMemory>,
    /// The pipes of children that an earlier program has forked.
    pub(super) kept: KeptPipes,
    /// By which this process becomes another program; `None` if it cannot.
    pub(super) call: Option<BlankCall>,
    pub(super) clock: Clock,
    /// Which signals of the table reach the parent by the journal; the others are sent to it.
    pub(super) counted: [bool; TABLE.len()],
    /// How long the children have when the server is given up.
    pub(super) grace: Duration,
    /// The signals that were blocked before.
    pub(super) mask: Mask,
}

/// What a holder has of the server, and lets go when its parent says so, or has it.
pub(super) struct Estate<'a> {
    /// The write end of the death watch: open in a holder and its parent alone.
    pub(super) death_write: &'a mut Option<Ours<OwnedFd>>,
    pub(super) control: &'a mut Option<ControlSocket>,
    pub(super) upgrades: &'a mut Upgrades,
}

impl Estate<'_> {
    /// The first parent goes on with those who have asked the program before. Nobody would be left to
    /// close their connections.
    fn leave_clients(&mut self) {
        if let Some(control) = &mut *self.control {
            control.leave_clients();
        }
        self.upgrades.leave_askers();
    }
}

/// What a parent has of its holder.
pub(super) struct Born {
    pub(super) channel: OwnedFd,
    pub(super) kept: KeptPipes,
    pub(super) deaths: Deaths,
    pub(super) split: Split,
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
    restarts: Restarts,
    /// Whether the last attempt to fork a parent has failed, which is told once.
    cannot_fork: bool,
    parents: u32,
    /// How many descriptors it has got for the next program.
    handed: usize,
    estate: Estate<'a>,
    /// How the last one has ended.
    last_end: Option<WaitStatus>,
    /// What a child has noted of itself.
    noted: &'a dyn Fn(usize) -> NotedPid,
}

impl<'a> Holder<'a> {
    /// This process adopts orphans from now on, and hears signals by a descriptor alone.
    pub(super) fn new(
        mut setup: HolderSetup,
        estate: Estate<'a>,
        noted: &'a dyn Fn(usize) -> NotedPid,
    ) -> io::Result<Self> {
        prctl::set_child_subreaper(true)?;
        stop_with_the_terminal()?;
        Ok(Self {
            kept: std::mem::take(&mut setup.kept),
            deaths: Deaths::new(setup.journal.slots()),
            signals: SignalFd::with_flags(
                &heard()?,
                SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
            )?,
            setup,
            channel: None,
            parent: None,
            restarts: Restarts::default(),
            cannot_fork: false,
            parents: 0,
            handed: 0,
            estate,
            last_end: None,
            noted,
        })
    }

    /// Returns in each parent, and in the holder only if the first could not be forked.
    pub(super) fn run(&mut self) -> Result<Born, Error> {
        loop {
            let next = match self.start() {
                Ok(Some(born)) => return Ok(born),
                Ok(None) => self.await_end(),
                Err(error) if self.parents == 0 => {
                    return Err(Error::new(Operation::Fork, "the parent", error));
                }
                // It is no fault of the parent's, and the children serve.
                Err(error) => {
                    self.tell_failed_fork(&error);
                    self.restarts.ended(true, Duration::ZERO)
                }
            };
            match next {
                Next::Start { after } => self.pause(after),
                Next::GiveUp => self.give_up(),
            }
        }
    }

    /// Says once that there is no parent, until there is one.
    fn tell_failed_fork(&mut self, error: &io::Error) {
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
    fn start(&mut self) -> io::Result<Option<Born>> {
        let (own, parents) = channel::pair()?;
        let holder = std::process::id();
        if !self.setup.memories.iter().all(SharedMemory::hand_on) {
            return Err(io::Error::last_os_error());
        }
        self.deaths.know_all(&self.setup.journal);
        match fork::fork(&self.setup.mask)? {
            Side::Child => {
                drop(own);
                let split = Split {
                    earlier: self.parents,
                    ended: self.last_end,
                    at: self.setup.clock.now(),
                };
                self.become_parent(holder);
                Ok(Some(Born {
                    channel: parents,
                    kept: std::mem::take(&mut self.kept),
                    deaths: std::mem::take(&mut self.deaths),
                    split,
                }))
            }
            Side::Parent(pid) => {
                drop(parents);
                if self.parents == 0 {
                    self.estate.leave_clients();
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

    /// Waits for the end of the parent. Does not return if that has said goodbye.
    fn await_end(&mut self) -> Next {
        // Who has ended before is told by no signal.
        self.hear_signals();
        while self.parent.as_ref().is_some_and(|it| it.status.is_none()) {
            self.wait(None);
        }
        // What it has said last.
        self.hear_parent();
        self.channel = None;
        let Some(parent) = self.parent.take() else {
            return self.restarts.ended(true, Duration::ZERO);
        };
        self.last_end = parent.status.map(WaitStatus::from_raw);
        if self.setup.journal.is_over() {
            exit_like(parent.status.unwrap_or_default());
        }
        self.succeed(parent.pid);
        self.settle_records();
        let lived = self.setup.clock.now().since(parent.started);
        self.restarts
            .ended(self.setup.journal.is_settled(parent.pid), lived)
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
        self.hear_parent();
        self.hear_signals();
    }

    /// Hears all that the parent has said.
    fn hear_parent(&mut self) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        // One whose other end is closed would be reported for ever. Looked at first: what was sent
        // before the end was closed is read below. One that could not be looked at is kept.
        let has_hung_up = poll_any(
            [(channel.as_fd(), PollFlags::empty())],
            Some(Duration::ZERO),
        );
        while let Some((message, pipes)) = channel::receive(&channel) {
            self.obey(message, pipes);
            if message.wants_answer() {
                channel::wake(&channel);
            }
        }
        if !matches!(has_hung_up, Ok([true])) {
            self.channel = Some(channel);
        }
    }

    fn obey(&mut self, message: Message, pipes: channel::Pipes) {
        match message {
            Message::Keep(child) => self.kept.put(child, pipes),
            Message::Drop(child) => self.kept.close(child.slot(), child.serial()),
            Message::EndDeathWatch => *self.estate.death_write = None,
            Message::Hand(part) => self.receive_handed(part, pipes),
            Message::CallOff => self.drop_handed(),
            Message::Proved => self.estate.upgrades.forget_previous(),
        }
    }

    /// Passes on the signals that have come, and reaps who has ended. True if a stop was asked for.
    fn hear_signals(&mut self) -> bool {
        let mut stops = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let arrived = signal.ssi_signo.cast_signed();
            let index = TABLE.iter().position(|row| number(row.signal) == arrived);
            match index.map(|index| (index, TABLE[index])) {
                Some((_, row)) if row.signal == Signal::Child => {}
                Some((index, row)) => {
                    stops |= matches!(row.lead, Lead::Stop | Lead::PatientStop);
                    self.pass_on(index, arrived);
                }
                None if arrived == REPLACE_PARENT => self.kill_parent(),
                None => {}
            }
        }
        // Several deaths may be one signal.
        while !self.setup.handover.is_open()
            && let Some(pid) = find_dead()
        {
            self.reap(pid);
        }
        if self.setup.handover.is_open() {
            self.reap_parent();
        }
        stops
    }

    fn pass_on(&mut self, index: usize, signal: libc::c_int) {
        let journal = &self.setup.journal;
        if self.setup.counted[index] && !journal.is_over() {
            journal.ask(index, 1);
            self.wake();
        } else if let Some(parent) = self.parent.as_ref().filter(|it| it.status.is_none()) {
            send(parent.pid, signal);
        }
    }

    /// Another parent takes the place of one that hangs.
    fn kill_parent(&self) {
        if let Some(parent) = self.parent.as_ref().filter(|it| it.status.is_none()) {
            complain(b"holder: SIGABRT has come; the parent is killed, and another one started\n");
            send(parent.pid, libc::SIGKILL);
        }
    }

    fn wake(&self) {
        self.channel.iter().for_each(channel::wake);
    }

    /// Reaps a process that has ended: the parent, a child that had an earlier parent, or an orphan.
    fn reap(&mut self, pid: u32) {
        if let Some(parent) = self.parent.as_mut().filter(|parent| parent.pid == pid) {
            let status = collect(pid).status.map(WaitStatus::raw);
            parent.status = Some(status.unwrap_or_default());
        } else if let Some(slot) = self.setup.journal.slot_of(pid) {
            self.reap_child(slot, pid);
        } else {
            collect(pid);
        }
    }

    fn reap_child(&self, slot: usize, pid: u32) {
        let journal = &self.setup.journal;
        let record = journal.record(slot);
        // From now on no signal is sent to its pid.
        journal.note_ending(slot, &record);
        journal.note_end(slot, &record.ended(collect(pid)));
        journal.count_death();
        self.wake();
    }

    /// Brings the records of a parent that is gone to an end.
    fn settle_records(&mut self) {
        let journal = &self.setup.journal;
        // OK to cast: a pid that is none is nobody's.
        let is_child = |pid: u32| process::is_ours(pid as libc::pid_t).unwrap_or(false);
        for slot in 0..journal.slots() {
            let record = journal.record(slot);
            let mut resolved = record.resolve((self.noted)(slot), is_child);
            // Few live, so that a large pool is not compared with itself.
            let is_outdated = || {
                let mut others = journal.records();
                others.any(|(_, other)| resolved.is_outdated_by(&other))
            };
            if resolved.lives() && is_outdated() {
                resolved = resolved.ended(Default::default());
            }
            if resolved != record {
                journal.put(slot, &resolved);
            }
            if resolved.phase == Phase::Vacant {
                self.kept.clear(slot);
            }
        }
    }

    /// Waits before the next parent; not for long if somebody wants the server to stop.
    fn pause(&mut self, after: Duration) {
        let until = self.setup.clock.now() + after;
        loop {
            let left = until.since(self.setup.clock.now());
            if left.is_zero() || self.hear_signals() {
                return;
            }
            let signals = (self.signals.as_fd(), PollFlags::POLLIN);
            // OK to ignore: then it is the time that ends the wait.
            let _ = poll_any([signals], Some(left));
        }
    }

    /// No parent comes to work: ends the children and this process.
    fn give_up(&mut self) -> ! {
        complain(b"holder: the parents end before they come to work; the server ends\n");
        *self.estate.death_write = None;
        self.tell_children(false);
        let until = self.setup.clock.now() + self.setup.grace;
        while self.has_children() && self.setup.clock.now() < until {
            let left = until.since(self.setup.clock.now());
            self.wait(Some(left));
        }
        self.tell_children(true);
        let until = self.setup.clock.now() + crate::core::child::AFTER_KILL;
        while self.has_children() && self.setup.clock.now() < until {
            self.wait(Some(until.since(self.setup.clock.now())));
        }
        exit(EXIT_GIVEN_UP)
    }

    fn has_children(&self) -> bool {
        let mut records = self.setup.journal.records();
        records.any(|(_, record)| record.lives())
    }

    /// Tells the children to stop, or kills them. All of them are children of this process, which it has
    /// not reaped.
    fn tell_children(&self, kills: bool) {
        let lives = self.setup.journal.records().filter(|(_, it)| it.lives());
        for (_, Record { pid, stop_by, .. }) in lives {
            let signal = if kills { Signal::Kill } else { stop_by.signal };
            if stop_by.reaches_group(kills) {
                send_to_group(pid, number(signal));
            } else {
                send(pid, number(signal));
            }
        }
    }
}

/// The signals that the holder hears: those of the table, but for two that come from what a process
/// does itself, and one that is for the holder.
fn heard() -> io::Result<SigSet> {
    let own = [Signal::Pipe, Signal::FileSize];
    let rows = TABLE.iter().filter(|row| !own.contains(&row.signal));
    let mut heard = SigSet::empty();
    for row in rows {
        heard.add(nix::sys::signal::Signal::try_from(number(row.signal))?);
    }
    heard.add(nix::sys::signal::Signal::try_from(REPLACE_PARENT)?);
    Ok(heard)
}

/// Ctrl-Z is for all processes of a job: a shell goes on when each of them has stopped. A handler of the
/// program's does not run here.
fn stop_with_the_terminal() -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no action is set, and the place for the present one is valid for writes; all bytes zero
    // are one as well.
    let action = unsafe {
        libc::sigaction(libc::SIGTSTP, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    if action.sa_sigaction == libc::SIG_DFL {
        SigSet::from(nix::sys::signal::Signal::SIGTSTP).thread_unblock()?;
    }
    Ok(())
}

/// A process that has ended. Asked for again if that fails, since no other signal may come.
fn find_dead() -> Option<u32> {
    process::try_peek().or_else(|_| process::try_peek()).ok()?
}

/// Reaps a process that has ended.
fn collect(pid: u32) -> Collected {
    // OK to cast because the kernel has told the pid.
    let collected = process::collect(pid as libc::pid_t);
    collected.ok().flatten().unwrap_or_default()
}

fn send(pid: u32, signal: libc::c_int) {
    // SAFETY: `kill` touches no memory. The process is a child that was not reaped. OK to ignore: it
    // may have ended.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// The same to the group that the process leads, or to it alone if it leads none by now.
fn send_to_group(pid: u32, signal: libc::c_int) {
    // SAFETY: `kill` touches no memory. The leader is a child that was not reaped, so that the number
    // is that of its group.
    if unsafe { libc::kill(-(pid as libc::pid_t), signal) } != 0 {
        send(pid, signal);
    }
}

/// Writes a line to stderr, if that takes it now.
fn complain(line: &[u8]) {
    // OK to ignore: there is nobody else to tell.
    let _ = crate::sys::pipes::write_nowait(libc::STDERR_FILENO, line);
}

/// Ends as another process has ended.
fn exit_like(status: libc::c_int) -> ! {
    if libc::WIFEXITED(status) {
        exit(libc::WEXITSTATUS(status));
    }
    let signal = libc::WTERMSIG(status);
    // SAFETY: the default runs no code. A signal that ends processes ends this one when it is unblocked.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    // OK to ignore: then the exit code tells.
    let _ = nix::sys::signal::Signal::try_from(signal)
        .and_then(|signal| SigSet::from(signal).thread_unblock());
    // Process 1 of a container is not ended by signals of its own.
    exit(128 + signal)
}

/// Ends the process, and nothing else: what the program has buffered is its parent's to write.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(code) }
}

/// What has arrived before there was a holder is for the first parent.
pub(super) fn note_arrived(journal: &Journal, arrived: &Arrived) {
    for (index, count) in arrived.iter().enumerate() {
        journal.ask(index, *count);
    }
}
