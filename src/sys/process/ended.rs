//! Which children of this process have ended, and how: statuses, and whether a process id is still
//! ours. Reaps a child that is named, and never "any".

#![allow(unsafe_code)]

use crate::core::child::{Collected, Usage, WaitStatus};
use nix::libc;
use std::{io, mem::MaybeUninit, time::Duration};

/// Reaps a child of this process if it has ended. Nothing is known of one that other code has reaped.
pub(in crate::sys) fn collect(pid: libc::pid_t) -> io::Result<Option<Collected>> {
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

pub(in crate::sys) fn signal_one(pid: libc::pid_t, number: libc::c_int) -> io::Result<()> {
    // SAFETY: `kill` touches no memory; the pid is positive, so no group is meant.
    match unsafe { libc::kill(pid, number) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether `pid` is a child of this process that was not reaped, alive or dead.
pub(in crate::sys) fn is_ours(pid: libc::pid_t) -> io::Result<bool> {
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
pub(super) struct EndedChild {
    /// Zero if there is none.
    pub(super) pid: libc::pid_t,
    /// Whether SIGKILL has ended it.
    pub(super) killed: bool,
}

/// Looks for a child that has ended, and reaps none.
pub(super) fn look(which: libc::idtype_t, id: libc::id_t) -> io::Result<EndedChild> {
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
