//! A process held by ptrace at its system calls: stop points between any two of its actions,
//! without its help.
//!
//! It never changes what a process does, only when. A held process must be released, or ended,
//! before any other process can wait for it. Where tracing is not allowed it prints a message and
//! returns nothing.

use std::fs;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A process that stands still until it is told to go on.
///
/// Its methods wait without a deadline of their own: the scenario's is theirs.
#[derive(Debug)]
pub struct Traced(Pid);

/// Where a process stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// About to make the system call of that number, or just back from it.
    Call(i64),
    /// It has ended.
    Ended,
}

impl Traced {
    /// Holds a process that runs, wherever it is.
    pub fn seize(pid: u32) -> Option<Self> {
        let traced = Self(seize(pid, Options::PTRACE_O_TRACESYSGOOD)?);
        ptrace::interrupt(traced.0).unwrap();
        // A wait that it was in has been interrupted, which it takes for nothing.
        assert!(matches!(
            wait(traced.0),
            WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)
        ));
        Some(traced)
    }

    pub fn pid(&self) -> u32 {
        self.0.as_raw().cast_unsigned()
    }

    /// Lets it go on to the next entry into a system call, or return from one.
    pub fn step(&self) -> Stop {
        let mut signal = None;
        loop {
            ptrace::syscall(self.0, signal).unwrap();
            signal = match wait(self.0) {
                WaitStatus::PtraceSyscall(_) => return Stop::Call(number(self.pid())),
                // A signal, on its way to the process; a stop of another kind has none.
                WaitStatus::Stopped(_, signal) => Some(signal),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Stop::Ended,
                _ => None,
            };
        }
    }

    /// Lets it go on until it is about to make one of these system calls.
    #[track_caller]
    pub fn advance_to(&self, numbers: &[i64]) {
        loop {
            match self.step() {
                Stop::Call(found) if numbers.contains(&found) => return,
                Stop::Call(_) => {}
                Stop::Ended => panic!("it ended before it made the system call {numbers:?}"),
            }
        }
    }

    /// Ends it where it stands. Its parent can collect the status from then on.
    pub fn kill(self) {
        kill(self.0, Signal::SIGKILL).unwrap();
        while !matches!(wait(self.0), WaitStatus::Signaled(..)) {}
    }

    /// Lets it go for good.
    pub fn release(self) {
        ptrace::detach(self.0, None).unwrap();
    }
}

/// Holds the next child of a process at its birth.
#[derive(Debug)]
pub struct Nursery(Pid);

impl Nursery {
    pub fn watch(parent: u32) -> Option<Self> {
        let options = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACESYSGOOD;
        seize(parent, options).map(Self)
    }

    /// The child, which has done nothing yet. Its parent is let go.
    pub fn newborn(self) -> Traced {
        let (parent, child) = self.both();
        parent.release();
        child
    }

    /// The parent, just back from the fork and about to find out about it, and the child.
    pub fn both(self) -> (Traced, Traced) {
        loop {
            let signal = match wait(self.0) {
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_FORK) => break,
                WaitStatus::Stopped(_, signal) => Some(signal),
                WaitStatus::PtraceEvent(..) => None,
                other => panic!("the parent to fork, but: {other:?}"),
            };
            ptrace::cont(self.0, signal).unwrap();
        }
        let child = ptrace::getevent(self.0).unwrap();
        let child = Pid::from_raw(i32::try_from(child).unwrap());
        assert!(matches!(wait(child), WaitStatus::PtraceEvent(..)));
        (Traced(self.0), Traced(child))
    }
}

fn seize(pid: u32, options: Options) -> Option<Pid> {
    let pid = Pid::from_raw(pid.cast_signed());
    match ptrace::seize(pid, options) {
        Ok(()) => Some(pid),
        Err(Errno::EPERM | Errno::ENOSYS) => {
            eprintln!("skipped: this machine does not let a process be traced");
            None
        }
        Err(error) => panic!("tracing {pid}: {error}"),
    }
}

fn wait(pid: Pid) -> WaitStatus {
    waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap()
}

/// The system call that a held process is in.
fn number(pid: u32) -> i64 {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = text.split(' ').next().unwrap_or("");
    number.parse().unwrap_or(-1)
}

/// The number and the first argument of the system call that a held process is in.
pub fn call(pid: u32) -> (i64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let mut words = text.split(' ');
    let number = words.next().and_then(|word| word.parse().ok());
    let first = words.next().and_then(|word| word.strip_prefix("0x"));
    let first = first.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    (number.unwrap_or(-1), first.unwrap_or(0))
}

/// The system calls by which a child waits for a connection.
#[cfg(target_arch = "x86_64")]
pub const EPOLL_WAITS: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait];
#[cfg(not(target_arch = "x86_64"))]
pub const EPOLL_WAITS: &[i64] = &[libc::SYS_epoll_pwait];

/// The system calls by which a file loses its name.
#[cfg(target_arch = "x86_64")]
pub const UNLINKS: &[i64] = &[libc::SYS_unlink, libc::SYS_unlinkat];
#[cfg(not(target_arch = "x86_64"))]
pub const UNLINKS: &[i64] = &[libc::SYS_unlinkat];

/// Whether a process sleeps in its wait for a connection.
pub fn sleeps_in_epoll(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state == Some('S') && EPOLL_WAITS.contains(&number(pid))
}
