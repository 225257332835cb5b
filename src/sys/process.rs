//! The process of one child: its pipes, signals to it and to its process group, its status. Acts
//! only on a known child, never on "any".

#![allow(unsafe_code)]

use super::{
    fd_registry::Registered,
    group::ProcessGroup,
    holder::HeldChild,
    memory,
    out_of_memory::OutOfMemory,
    pipes::{self, ParentEnds},
    poller::OutputWatch,
    run_time,
    signals::number,
    stop_board::StopBoard,
    stuck, upgrade,
};
use crate::core::{
    brake::RunTime,
    child::{ChildId, Collected, Signal, Stuck, Usage, WaitStatus},
    draining::QueuedClients,
    state::ChildState,
    system::{
        ChildPipe, ChildToken, EventSource, ForkTerms, PipeRead, Process, ProcessState, Reaped,
        ToGroup,
    },
};
use nix::libc;
use std::{
    cell::Cell,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

/// A child of this process.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    id: ChildId,
    pid: libc::pid_t,
    group: Option<ProcessGroup>,
    to_group: ToGroup,
    stop_signal: Signal,
    /// What was collected, if other processes of its group were left then.
    outlived: Cell<Option<Collected>>,
    /// Whether this process has sent it SIGKILL.
    killed: Cell<bool>,
    pipes: [Option<Registered<OwnedFd>>; 3],
    watch: Rc<OutputWatch>,
    /// Where it is told to stop; `None` if it is told by signals alone.
    stops: Option<Rc<StopBoard>>,
    out_of_memory: Rc<OutOfMemory>,
    /// If the holder reaps it.
    held_child: Option<HeldChild>,
}

impl ChildProcess {
    pub(crate) fn new(
        terms: ForkTerms,
        pid: u32,
        ends: ParentEnds,
        watch: Rc<OutputWatch>,
        stops: Rc<StopBoard>,
        out_of_memory: Rc<OutOfMemory>,
    ) -> Self {
        // OK because the pid comes from fork(2).
        let pid = pid as libc::pid_t;
        Self {
            id: terms.id,
            pid,
            group: terms.group.map(|_| ProcessGroup::of_child(pid)),
            to_group: terms.group.unwrap_or(ToGroup::All),
            stop_signal: terms.stop_signal,
            outlived: Cell::new(None),
            killed: Cell::new(false),
            pipes: [Some(ends.stdout), Some(ends.stderr), ends.comm],
            watch,
            stops: Some(stops),
            out_of_memory,
            held_child: None,
        }
    }

    /// A child that an earlier program of this process has forked, or an earlier parent. Its descriptors
    /// were verified, and belong to it from now on.
    pub(crate) fn adopted(
        state: &ChildState,
        outlived: Option<Collected>,
        watch: Rc<OutputWatch>,
        stops: Option<Rc<StopBoard>>,
        out_of_memory: Rc<OutOfMemory>,
    ) -> Self {
        // OK because another fork(2) has returned it.
        let pid = state.pid as libc::pid_t;
        let to_group = ToGroup::of_code(state.group);
        let pipe = |pipe: ChildPipe| {
            let fd = state.pipe(pipe as usize).fd?;
            Some(Registered::parents(upgrade::take(fd)))
        };
        Self {
            id: ChildId::new(state.slot, state.serial),
            pid,
            group: to_group.map(|_| ProcessGroup::of_child(pid)),
            to_group: to_group.unwrap_or(ToGroup::All),
            stop_signal: state.stop_signal.unwrap_or(Signal::Interrupt),
            outlived: Cell::new(outlived),
            killed: Cell::new(state.killed_at.is_some()),
            pipes: ChildPipe::ALL.map(pipe),
            watch,
            stops,
            out_of_memory,
            held_child: None,
        }
    }

    /// The same, reaped by the holder if it is a child of the holder.
    pub(crate) fn with_held_child(mut self, held_child: Option<HeldChild>) -> Self {
        self.held_child = held_child;
        self
    }

    /// Registers the pipes with the poller.
    pub(crate) fn watch(&self) -> io::Result<()> {
        for pipe in ChildPipe::ALL {
            if let Some(fd) = self.fd(pipe) {
                let source = EventSource::Pipe(ChildToken::of(self.id), pipe);
                self.watch.add(fd.as_raw_fd(), source)?;
            }
        }
        Ok(())
    }

    fn fd(&self, pipe: ChildPipe) -> Option<&OwnedFd> {
        self.pipes[pipe as usize].as_deref()
    }
}

impl Process for ChildProcess {
    fn read(&mut self, pipe: ChildPipe, buffer: &mut [u8]) -> io::Result<PipeRead> {
        let Some(fd) = self.fd(pipe) else {
            return Ok(PipeRead::Nothing);
        };
        Ok(match pipes::read(fd, buffer)? {
            None => PipeRead::Nothing,
            Some(0) => PipeRead::End,
            Some(count) => PipeRead::Bytes(count),
        })
    }

    fn pending(&self, pipe: ChildPipe) -> io::Result<usize> {
        self.fd(pipe).map_or(Ok(0), pipes::pending)
    }

    fn close(&mut self, pipe: ChildPipe) {
        let Some(fd) = self.pipes[pipe as usize].take() else {
            return;
        };
        // Deregister before the close: a sibling that was just forked may hold a copy for a moment,
        // and the kernel would go on reporting events for it.
        if let Err(error) = self.watch.remove(fd.as_raw_fd()) {
            log::debug!("deregistering an output of {}: {error}", self.id);
        }
    }

    /// The board reaches the child even if it ignores the signal at present.
    fn tell_to_leave(&self, queued: QueuedClients) {
        if let Some(stops) = &self.stops {
            stops.set(self.id, queued);
        }
    }

    /// Sends a signal to the child. If other code in the program has reaped the child, its pid may
    /// belong to another process, so this first asks the kernel whether the pid is still our child.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.killed.set(self.killed.get() || signal == Signal::Kill);
        let number = self.number(signal);
        match (self.group, self.is_there()?) {
            (Some(_), true) if self.spares_group(signal) => self.signal_alone(number),
            (Some(group), true) => self.signal_group(group, number),
            (Some(group), false) => group.signal_rest(number),
            (None, true) => self.signal_alone(number),
            (None, false) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    fn stuck(&self) -> Option<Stuck> {
        stuck::look(self.pid)
    }

    fn memory(&self) -> Option<u64> {
        memory::private(self.pid)
    }

    fn save(&self) -> ProcessState {
        let number = |pipe| self.fd(pipe).map(|fd| fd.as_raw_fd().cast_unsigned());
        ProcessState {
            pipes: ChildPipe::ALL.map(number),
            group: self.group.map(|_| self.to_group),
            stop_signal: Some(self.stop_signal),
            outlived: self.outlived.get(),
            stops: self.stops.as_ref().and_then(|stops| stops.number()),
        }
    }

    #[cfg(feature = "holder")]
    fn disown(&mut self) {
        let pipes = self.pipes.iter_mut().filter_map(Option::take);
        pipes.for_each(Registered::release);
    }

    fn run_time(&self) -> Option<RunTime> {
        run_time::of(self.pid)
    }

    fn reap(&self) -> io::Result<Reaped> {
        let collected = match (self.outlived.get(), self.group) {
            (Some(collected), _) => collected,
            (None, None) => return self.collect(),
            (None, Some(_)) => match self.collect()? {
                Reaped::Ended(collected) => collected,
                lives => return Ok(lives),
            },
        };
        self.outlived.set(Some(collected));
        let outlived = self.group.is_some_and(ProcessGroup::outlives_its_leader);
        Ok(if outlived {
            Reaped::Outlived(collected)
        } else {
            Reaped::Ended(collected)
        })
    }

    fn end_from_others(&self) -> Option<Collected> {
        match self.held_child.as_ref()?.reap() {
            Reaped::Ended(collected) => Some(collected),
            _ => None,
        }
    }
}

impl ChildProcess {
    /// Whether its pid is its own: it was not reaped.
    fn is_there(&self) -> io::Result<bool> {
        match &self.held_child {
            Some(held_child) => Ok(held_child.is_there()),
            None => is_ours(self.pid),
        }
    }

    fn signal_alone(&self, number: libc::c_int) -> io::Result<()> {
        match &self.held_child {
            Some(held_child) => held_child.signal(self.pid, number),
            None => signal_one(self.pid, number),
        }
    }

    fn signal_group(&self, group: ProcessGroup, number: libc::c_int) -> io::Result<()> {
        match &self.held_child {
            Some(held_child) => held_child.signal_group(self.pid, number),
            None => group.signal(number),
        }
    }

    fn spares_group(&self, signal: Signal) -> bool {
        self.to_group == ToGroup::Kill && signal != Signal::Kill
    }

    fn number(&self, signal: Signal) -> libc::c_int {
        number(match signal {
            Signal::Interrupt => self.stop_signal,
            other => other,
        })
    }

    /// Collects the status of the child itself, if it has ended.
    fn collect(&self) -> io::Result<Reaped> {
        if let Some(held_child) = &self.held_child {
            return Ok(self.with_evidence(held_child.reap()));
        }
        let out_of_memory = self.evidence()?;
        Ok(match collect(self.pid)? {
            None => Reaped::Not,
            Some(collected) => Reaped::Ended(Collected {
                out_of_memory: out_of_memory && collected.status.is_some(),
                ..collected
            }),
        })
    }

    /// The same of a child that the holder has reaped, once it is told: its own control group is known
    /// no longer.
    fn with_evidence(&self, reaped: Reaped) -> Reaped {
        match reaped {
            Reaped::Ended(collected) if self.may_be_out_of_memory(&collected) => {
                Reaped::Ended(Collected {
                    out_of_memory: self.out_of_memory.has_ended_reaped(self.pid),
                    ..collected
                })
            }
            other => other,
        }
    }

    fn may_be_out_of_memory(&self, collected: &Collected) -> bool {
        let by = collected.status.and_then(|status| status.signal());
        by == Some(libc::SIGKILL) && !self.killed.get() && cfg!(target_os = "linux")
    }

    /// Whether the child was ended for lack of memory. Its control group is known as long as it is
    /// not reaped.
    fn evidence(&self) -> io::Result<bool> {
        if self.killed.get() || !cfg!(target_os = "linux") {
            return Ok(false);
        }
        let killed = match look(libc::P_PID, self.pid as libc::id_t) {
            Ok(ended) => ended.killed,
            // Other code has reaped it, and waiting for it says so.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => false,
            Err(error) => return Err(error),
        };
        Ok(killed && self.out_of_memory.has_ended(self.pid))
    }
}

/// Reaps a child of this process if it has ended. Nothing is known of one that other code has reaped.
pub(super) fn collect(pid: libc::pid_t) -> io::Result<Option<Collected>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both are valid for writes for the length of the call. (nix's wrapper is not used: it
        // collects a child and then fails if it does not know the signal that ended it.)
        let found = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        if found == 0 {
            return Ok(None);
        }
        if found > 0 {
            // SAFETY: all bytes zero are a valid rusage, and wait4 has filled it in.
            let usage = unsafe { usage.assume_init() };
            return Ok(Some(Collected {
                status: Some(WaitStatus::from_raw(status)),
                usage: Some(usage_of(&usage)),
                out_of_memory: false,
            }));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(Some(Collected::default())),
            _ => return Err(error),
        }
    }
}

fn usage_of(usage: &libc::rusage) -> Usage {
    // OK to cast: the kernel counts none of them below zero.
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    // Linux and the BSDs count in KiB, macOS in bytes.
    let unit = if cfg!(target_vendor = "apple") {
        1
    } else {
        1024
    };
    Usage {
        user_time: time(usage.ru_utime),
        system_time: time(usage.ru_stime),
        max_resident: usage.ru_maxrss as u64 * unit,
        minor_faults: usage.ru_minflt as u64,
        major_faults: usage.ru_majflt as u64,
        voluntary_switches: usage.ru_nvcsw as u64,
        involuntary_switches: usage.ru_nivcsw as u64,
    }
}

/// The pipes are deregistered one by one in `close`. A child never drops its siblings.
impl Drop for ChildProcess {
    fn drop(&mut self) {
        ChildPipe::ALL.into_iter().for_each(|pipe| self.close(pipe));
    }
}

pub(super) fn signal_one(pid: libc::pid_t, number: libc::c_int) -> io::Result<()> {
    // SAFETY: `kill` touches no memory; the pid is positive, so no group is meant.
    match unsafe { libc::kill(pid, number) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether `pid` is a child of this process that was not reaped, alive or dead.
pub(super) fn is_ours(pid: libc::pid_t) -> io::Result<bool> {
    match look(libc::P_PID, pid as libc::id_t) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The pid of a child of this process that has ended and was not reaped, ours or the program's. The
/// child is not reaped here: reaping "any" child would take statuses that other code waits for.
pub(crate) fn peek() -> Option<u32> {
    try_peek().ok()?
}

/// The same, with the reason if there is no answer.
pub(crate) fn try_peek() -> io::Result<Option<u32>> {
    let ended = look(libc::P_ALL, 0)?;
    Ok(u32::try_from(ended.pid).ok().filter(|pid| *pid > 0))
}

/// A child that has ended and was not reaped.
struct EndedChild {
    /// Zero if there is none.
    pid: libc::pid_t,
    /// Whether SIGKILL has ended it.
    killed: bool,
}

/// Looks for a child that has ended, and reaps none.
fn look(which: libc::idtype_t, id: libc::id_t) -> io::Result<EndedChild> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writes for the length of the call.
    while unsafe { libc::waitid(which, id, info.as_mut_ptr(), options) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: all bytes zero are a valid siginfo.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid has filled in the fields of SIGCHLD, or left zeros if no child has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(EndedChild {
        pid,
        killed: info.si_code == libc::CLD_KILLED && status == libc::SIGKILL,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The pid of a reaped child may belong to any process by now; it is sent nothing.
    #[test]
    fn o27_who_was_reaped_by_somebody_else_is_ours_no_more() {
        let mut command = Command::new("sleep");
        let mut child = command.arg("1000").spawn().expect("a process");
        let pid = libc::pid_t::try_from(child.id()).expect("a pid");
        assert!(is_ours(pid).expect("an answer"), "it lives");
        child.kill().expect("a signal");
        while look(libc::P_PID, child.id()).expect("an answer").pid == 0 {
            std::thread::yield_now();
        }
        assert!(
            is_ours(pid).expect("an answer"),
            "it is dead and not reaped"
        );
        child.wait().expect("a status");
        assert!(!is_ours(pid).expect("an answer"));
    }

    /// No process is sent a signal that is not our child.
    ///
    /// The parent of this test is alive and accepts signals.
    #[test]
    fn o27_a_stranger_is_not_ours() {
        let parent = nix::unistd::getppid().as_raw();
        assert!(!is_ours(parent).expect("an answer"));
    }
}
