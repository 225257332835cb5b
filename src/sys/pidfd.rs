//! Pidfds, signals and statuses of children: always of one known child, never of "any".

#![allow(unsafe_code)]

use super::signals;
use crate::core::child::Signal;
use nix::libc;
use std::{
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
};

/// A descriptor that becomes readable when the child ends. The child must not have been reaped.
#[cfg(target_os = "linux")]
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and returns a descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn open(_pid: u32) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends a signal to a child that has not been reaped, so that its pid cannot be a stranger's.
pub(crate) fn kill(pidfd: Option<&OwnedFd>, pid: u32, signal: Signal) -> io::Result<()> {
    let number = signals::number(signal);
    #[cfg(target_os = "linux")]
    if let Some(pidfd) = pidfd {
        let fd = pidfd.as_raw_fd();
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a valid descriptor and a null siginfo, which the call allows.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, info, 0) };
        if sent == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // A sandbox may let pidfds be made and not be used; then nobody could be told to stop. If it
        // is the signal that is forbidden, the call below says so.
        if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
            return Err(error);
        }
    }
    let _ = pidfd;
    // SAFETY: `kill` has no memory to corrupt; the pid is positive, so no group is meant.
    let sent = unsafe { libc::kill(pid as libc::pid_t, number) };
    if sent == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What waiting for a child has found.
#[derive(Debug)]
pub(crate) enum Reaped {
    /// It lives.
    Not,
    /// It has ended; the status is `None` if somebody else has collected it.
    Ended(Option<ExitStatus>),
}

/// Collects the status of one child if it has ended. Never blocks.
pub(crate) fn reap(pid: u32) -> io::Result<Reaped> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for writes for the length of the call. (nix's wrapper is not
        // used: it collects a child and then fails if it does not know the signal that ended it.)
        let found = unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, libc::WNOHANG) };
        if found == 0 {
            return Ok(Reaped::Not);
        }
        if found > 0 {
            return Ok(Reaped::Ended(Some(ExitStatus::from_raw(status))));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(Reaped::Ended(None)),
            _ => return Err(error),
        }
    }
}

/// The pid of some child of this process that has ended and was not reaped, ours or the program's
/// own. It is left as it is: to reap "any" child would steal the status of others.
pub(crate) fn peek() -> Option<u32> {
    // SAFETY: all bytes zero are a valid siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writes for the length of the call.
    let found = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    // SAFETY: waitid has filled in the fields of SIGCHLD, or left zero where there was nobody.
    let pid = unsafe { info.si_pid() };
    (found == 0)
        .then_some(pid)
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|pid| *pid > 0)
}
