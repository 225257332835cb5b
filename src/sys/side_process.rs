//! A process that the parent has beside its children: a fork that holds few of the parent's
//! descriptors, handles no signal, and ends with the parent. Counts for no pool, and runs no code of
//! the user's.

#![allow(unsafe_code)]

use super::{
    confine::ConfinementPlan,
    fd_registry::Registered,
    fork::{self, Side},
    null, pipes,
    signals::Mask,
    waiter::poll_any,
};
use crate::core::child::WaitStatus;
use nix::{libc, unistd};
use std::{
    ffi::CStr,
    fmt, io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

/// The exit code of a process that panicked, the same as of a Rust program.
const EXIT_PANIC: i32 = 101;
/// The exit code of one that could not be set up.
const EXIT_SETUP: i32 = 102;
/// How long a process may take to end by itself, and after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(2);

/// The parent's view of the process.
#[derive(Debug)]
pub(crate) struct SideProcess {
    pid: libc::pid_t,
    forked_by: u32,
    /// Closing it tells the process to end. No other process has it.
    life: Option<Registered<OwnedFd>>,
}

/// What a new process is to be.
pub(crate) struct Setup<'a> {
    /// Its name in ps(1), of 15 bytes.
    pub(crate) name: &'a CStr,
    /// What it keeps of the parent's descriptors, besides stderr.
    pub(crate) keeps: &'a [BorrowedFd<'a>],
    pub(crate) confinement: &'a ConfinementPlan,
}

impl SideProcess {
    /// Forks the process, which calls `work` and exits with what that returns. `work` is given a
    /// descriptor that hangs up when the process is to end.
    pub(crate) fn start(
        setup: &Setup<'_>,
        work: impl FnOnce(BorrowedFd<'_>) -> i32,
    ) -> io::Result<Self> {
        let (read, write) = pipes::pipe()?;
        let parent = std::process::id();
        let mask = Mask::block_all()?;
        match fork::fork(&mask) {
            Ok(Side::Child) => be_one(setup, parent, &read, work),
            Ok(Side::Parent(pid)) => {
                mask.restore()?;
                Ok(Self {
                    // OK because the pid comes from fork(2).
                    pid: pid as libc::pid_t,
                    forked_by: parent,
                    life: Some(Registered::parents(write)),
                })
            }
            Err(error) => {
                mask.restore()?;
                Err(error)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// How it has ended, once it has. Then it is reaped, and nothing else may be asked of it.
    pub(crate) fn reap(&self) -> Option<ExitInfo> {
        let mut status = 0;
        // SAFETY: the status is valid for writes for the length of the call.
        match unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } {
            0 => None,
            found if found > 0 => Some(ExitInfo(Some(WaitStatus::from_raw(status)))),
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => None,
            // Other code has reaped it.
            _ => Some(ExitInfo(None)),
        }
    }

    /// Tells it to end, waits for that, and kills it if it does not. Only in the process that has
    /// forked it.
    pub(crate) fn end(mut self) {
        if self.forked_by != std::process::id() {
            return;
        }
        self.life = None;
        if !self.ends_within(PATIENCE) {
            // SAFETY: `kill` touches no memory. The process was not reaped, so the pid is its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            self.ends_within(PATIENCE);
        }
    }

    fn ends_within(&self, time: Duration) -> bool {
        let steps = time.as_nanos() / STEP.as_nanos();
        (0..steps).any(|_| {
            let ended = self.reap().is_some();
            if !ended {
                // OK to ignore: this only waits.
                let _ = poll_any([], Some(STEP));
            }
            ended
        })
    }
}

/// How a process has ended; nothing is known of one that other code has reaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExitInfo(Option<WaitStatus>);

impl fmt::Display for ExitInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => status.fmt(f),
            None => f.write_str("unknown status"),
        }
    }
}

/// Runs in the new process, to its end. Nothing that the parent owns is dropped or flushed here.
fn be_one(
    setup: &Setup<'_>,
    parent: u32,
    life: &OwnedFd,
    work: impl FnOnce(BorrowedFd<'_>) -> i32,
) -> ! {
    use std::os::fd::AsFd;
    let run = AssertUnwindSafe(|| {
        std::panic::set_hook(Box::new(|panic| eprintln!("prefork-status: {panic}")));
        match settle(setup, parent, life.as_raw_fd()) {
            Ok(()) => work(life.as_fd()),
            Err(error) => {
                eprintln!(
                    "{}: cannot be set up: {error}",
                    setup.name.to_string_lossy()
                );
                EXIT_SETUP
            }
        }
    });
    let code = catch_unwind(run).unwrap_or_else(|payload| {
        // A drop of the panic's payload could panic again.
        std::mem::forget(payload);
        EXIT_PANIC
    });
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Gives up what is the parent's. All signals are blocked and stay so: a Ctrl-C is for the parent,
/// which says when this process is to end.
fn settle(setup: &Setup<'_>, parent: u32, life: RawFd) -> io::Result<()> {
    tie(parent)?;
    set_name(setup.name);
    let null = null::open()?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(&null)?;
    drop(null);
    let keeps = setup.keeps.iter().map(AsRawFd::as_raw_fd);
    close_all_but(keeps.chain([life]));
    setup.confinement.perform_without_limits()?;
    // A change of the user or the group has untied it.
    tie(parent)
}

/// Asks the kernel to end this process with its parent, which the end of the pipe does as well.
#[cfg(target_os = "linux")]
fn tie(parent: u32) -> io::Result<()> {
    use nix::sys::{prctl, signal::Signal};
    // OK to ignore: a seccomp profile may forbid the call.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    check_parent(parent)
}

#[cfg(not(target_os = "linux"))]
fn tie(parent: u32) -> io::Result<()> {
    check_parent(parent)
}

fn check_parent(parent: u32) -> io::Result<()> {
    match unistd::getppid().as_raw().cast_unsigned() == parent {
        true => Ok(()),
        false => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

#[cfg(target_os = "linux")]
fn set_name(name: &CStr) {
    // OK to ignore: it is for ps(1).
    let _ = nix::sys::prctl::set_name(name);
}

#[cfg(not(target_os = "linux"))]
fn set_name(_: &CStr) {}

/// Closes all descriptors but the standard streams and these: a listener or a connection that this
/// process held would stay open for its clients, and so would the pipe by which children see the end
/// of their parent.
fn close_all_but(kept: impl Iterator<Item = RawFd>) {
    let mut kept: Vec<_> = kept.map(RawFd::cast_unsigned).collect();
    kept.sort_unstable();
    let mut first = libc::STDERR_FILENO.cast_unsigned() + 1;
    for fd in kept {
        if first < fd {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, libc::c_uint::MAX);
}

fn close_range(first: libc::c_uint, last: libc::c_uint) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: nothing in this process uses or drops a descriptor that it had before, apart from
        // those that are kept.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) } == 0 {
            return;
        }
    }
    close_one_by_one(first, last);
}

/// For kernels before 5.9.
fn close_one_by_one(first: libc::c_uint, last: libc::c_uint) {
    let open = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    let open = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for fd in open.collect::<Vec<libc::c_uint>>() {
        if (first..=last).contains(&fd) {
            // SAFETY: as in `close_range`.
            unsafe { libc::close(fd.cast_signed()) };
        }
    }
}
