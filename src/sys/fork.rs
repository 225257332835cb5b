//! The fork itself, and what the child does first: standard streams, the parent's buffered output,
//! the other servers' descriptors, the tie to the parent's life. FdRanges no code of the user's.

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

/// Forks. All signals must be blocked: one that arrived before the child has its own handlers would
/// run the parent's in it.
pub(crate) fn fork(_blocked: &Mask) -> io::Result<Side> {
    // SAFETY: after a fork in a process with several threads only async-signal-safe functions may
    // be called. The loop counts the threads before it forks and refuses if there is more than one.
    match atfork::ours(|| unsafe { unistd::fork() })? {
        // OK because the pid of a child is positive.
        ForkResult::Parent { child } => Ok(Side::Parent(child.as_raw() as u32)),
        ForkResult::Child => Ok(Side::Child),
    }
}

/// What a child needs to become one.
pub(crate) struct ChildSetup<'a> {
    pub(crate) id: PreForkId,
    pub(crate) parent: u32,
    pub(crate) null: &'a OwnedFd,
    pub(crate) stdout: &'a OwnedFd,
    pub(crate) stderr: &'a OwnedFd,
    /// How long an orphan may live on.
    pub(crate) grace: Duration,
}

/// Makes a new process a child and gives it its stop bell, readable when it should leave. The order
/// matters; each step says why.
pub(crate) fn become_child(setup: &ChildSetup<'_>, mask: Mask) -> io::Result<OwnedFd> {
    signals::become_child(setup.parent, setup.grace)?;
    // What the parent had buffered and not written exists twice now. The child's copy is flushed
    // into nothing; flushing in the parent before the fork could block the parent.
    unistd::dup2_stdout(setup.null)?;
    unistd::dup2_stderr(setup.null)?;
    // OK to ignore: the bytes are to vanish.
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
    stdio::flush_outputs();
    null::empty(setup.null);
    unistd::dup2_stdout(setup.stdout)?;
    unistd::dup2_stderr(setup.stderr)?;
    unistd::dup2_stdin(setup.null)?;
    signals::keep_null(setup.null.as_raw_fd());
    // By number, without telling the poller: the epoll instance is the parent's, and to deregister
    // from it here would blind the parent.
    fd_registry::close_in_child(setup.id);
    limits::restore_open_files();
    let (bell, stop) = pipes::bell()?;
    signals::ring_at_stop(bell);
    tie_to_parent(setup.parent)?;
    // Last: what was sent to the child meanwhile arrives now, at handlers of its own.
    mask.for_child()?;
    Ok(stop)
}

/// Has the kernel send SIGINT when the parent dies. The second belt beside the death watch: it also
/// reaches a child that is stuck in code and watches nothing. A change of the user or group unties,
/// so it is done once more after the user's own set-up.
#[cfg(target_os = "linux")]
pub(crate) fn tie_to_parent(parent: u32) -> io::Result<()> {
    use nix::{
        errno::Errno,
        sys::signal::{Signal, raise},
    };
    match nix::sys::prctl::set_pdeathsig(Signal::SIGINT) {
        // A seccomp profile may forbid it. The death watch is there all the same.
        Ok(()) | Err(Errno::EPERM | Errno::ENOSYS) => {}
        Err(errno) => return Err(errno.into()),
    }
    // It may have died before the call above.
    if unistd::getppid().as_raw() as u32 != parent {
        raise(Signal::SIGINT)?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn tie_to_parent(_parent: u32) -> io::Result<()> {
    Ok(())
}

/// Ends the process at once, but for what C code has buffered. `exit` would run what the parent has
/// registered with `atexit`.
pub(crate) fn exit(code: i32) -> ! {
    stdio::flush_all();
    atfork::connection_is_over();
    // SAFETY: `_exit` has no preconditions.
    unsafe { nix::libc::_exit(code) }
}
