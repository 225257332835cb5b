//! The process of one child: its pipes, signals to it and to its process group, its status. Acts
//! only on a known child, never on "any".

mod ended;
#[cfg(test)]
mod tests;

pub(crate) use self::ended::peek;
#[cfg(all(feature = "holder", target_os = "linux"))]
pub(crate) use self::ended::try_peek;
pub(super) use self::ended::{collect, is_ours, signal_one};

use self::ended::look;
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
    child::{ChildId, Collected, Signal, Stuck},
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
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
};

/// What the parent has for all of its children.
#[derive(Debug)]
pub(crate) struct Means {
    pub(super) watch: Rc<OutputWatch>,
    /// Where they are told to stop; `None` for those that are told by signals alone.
    pub(super) stops: Option<Rc<StopBoard>>,
    pub(super) out_of_memory: Rc<OutOfMemory>,
}

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
    means: Means,
    /// If the holder reaps it.
    held_child: Option<HeldChild>,
}

impl ChildProcess {
    pub(crate) fn new(terms: ForkTerms, pid: u32, ends: ParentEnds, means: Means) -> Self {
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
            means,
            held_child: None,
        }
    }

    /// A child that an earlier program of this process has forked, or an earlier parent. Its descriptors
    /// were verified, and belong to it from now on.
    pub(crate) fn adopted(state: &ChildState, outlived: Option<Collected>, means: Means) -> Self {
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
            means,
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
                self.means.watch.add(fd.as_raw_fd(), source)?;
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
        if let Err(error) = self.means.watch.remove(fd.as_raw_fd()) {
            log::debug!("deregistering an output of {}: {error}", self.id);
        }
    }

    /// The board reaches the child even if it ignores the signal at present.
    fn tell_to_leave(&self, queued: QueuedClients) {
        if let Some(stops) = &self.means.stops {
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
            stops: self.means.stops.as_ref().and_then(|stops| stops.number()),
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
                    out_of_memory: self.means.out_of_memory.has_ended_reaped(self.pid),
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
        Ok(killed && self.means.out_of_memory.has_ended(self.pid))
    }
}

/// The pipes are deregistered one by one in `close`. A child never drops its siblings.
impl Drop for ChildProcess {
    fn drop(&mut self) {
        ChildPipe::ALL.into_iter().for_each(|pipe| self.close(pipe));
    }
}
