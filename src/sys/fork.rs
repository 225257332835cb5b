//! The fork, and the first steps of a child: standard streams, the parent's buffered output, the
//! other servers' descriptors, the tie to the parent's life. Runs no code of the user's.

#![allow(unsafe_code)]

use super::{
    atfork,
    fd_registry::{self, PreForkId},
    limits, null, pipes,
    signals::{self, Mask},
    stdio,
};
use nix::unistd::{self, ForkResult};
use std::{
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

/// In which process the system call has returned.
pub(crate) enum Side {
    /// The parent; the child has this process id.
    Parent(u32),
    Child,
}

/// Forks.
///
/// All signals must be blocked: a signal that reached the child before it has its own handlers
/// would run the parent's handler in the child.
pub(crate) fn fork(_blocked: &Mask) -> io::Result<Side> {
    // SAFETY: after a fork in a process with several threads only async-signal-safe functions may
    // be called. The loop counts the threads before it forks and refuses if there is more than one.
    match atfork::ours(|| unsafe { unistd::fork() })? {
        // OK because the pid of a child is positive.
        ForkResult::Parent { child } => Ok(Side::Parent(child.as_raw() as u32)),
        ForkResult::Child => Ok(Side::Child),
    }
}

/// To whose lives a child is tied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tie {
    pub(crate) parent: u32,
    /// The process that keeps the child when its parent is gone.
    pub(crate) holder: Option<u32>,
}

impl Tie {
    /// Whether the kernel has given the child to neither of them.
    #[cfg(target_os = "linux")]
    fn is_cut(self) -> bool {
        let parent = unistd::getppid().as_raw().cast_unsigned();
        parent != self.parent && Some(parent) != self.holder
    }
}

/// What a new process needs to become a child.
pub(crate) struct ChildSetup<'a> {
    pub(crate) id: PreForkId,
    pub(crate) tie: Tie,
    pub(crate) null: &'a OwnedFd,
    pub(crate) stdout: &'a OwnedFd,
    pub(crate) stderr: &'a OwnedFd,
    /// How long a child lives on after its parent's death.
    pub(crate) grace: Duration,
}

/// Makes a new process a child and gives it its stop event. The event is readable when the child
/// should leave. The order of the steps matters.
pub(crate) fn become_child(setup: &ChildSetup<'_>, mask: Mask) -> io::Result<OwnedFd> {
    signals::become_child(setup.tie, setup.grace)?;
    // What the parent has buffered and not written now exists twice. The child discards its copy; a
    // flush in the parent before the fork could block the parent.
    unistd::dup2_stdout(setup.null)?;
    unistd::dup2_stderr(setup.null)?;
    // OK to ignore: these bytes are to be discarded.
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
    stdio::flush_outputs();
    null::empty(setup.null);
    unistd::dup2_stdout(setup.stdout)?;
    unistd::dup2_stderr(setup.stderr)?;
    unistd::dup2_stdin(setup.null)?;
    signals::keep_null(setup.null.as_raw_fd());
    // By number, without deregistering from the poller: the child shares the parent's epoll
    // instance, so the parent would lose its events.
    fd_registry::close_in_child(setup.id);
    limits::restore_open_files();
    let (write_end, stop) = pipes::event()?;
    signals::set_stop_event(write_end);
    tie_to_parent(setup.tie)?;
    // Last: signals sent to the child meanwhile arrive now, at its own handlers.
    mask.for_child()?;
    Ok(stop)
}

/// Asks the kernel to send SIGINT when the parent dies. It backs up the death watch and also
/// reaches a child that is stuck in code and watches nothing. A change of user or group clears it,
/// so it is set again after the user's own set-up.
#[cfg(target_os = "linux")]
pub(crate) fn tie_to_parent(tie: Tie) -> io::Result<()> {
    use nix::{
        errno::Errno,
        sys::signal::{Signal, raise},
    };
    match nix::sys::prctl::set_pdeathsig(Signal::SIGINT) {
        // A seccomp profile may forbid the call. The death watch works without it.
        Ok(()) | Err(Errno::EPERM | Errno::ENOSYS) => {}
        Err(errno) => return Err(errno.into()),
    }
    // The parent may have died before the call above.
    if tie.is_cut() {
        raise(Signal::SIGINT)?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn tie_to_parent(_: Tie) -> io::Result<()> {
    Ok(())
}

/// Ends the process at once, after flushing the C library's buffers. `exit` would run what the
/// parent has registered with `atexit`.
pub(crate) fn exit(code: i32) -> ! {
    stdio::flush_all();
    atfork::connection_is_over();
    // SAFETY: `_exit` has no preconditions.
    unsafe { nix::libc::_exit(code) }
}
