//! The process of a child of the holder's: one that an earlier parent has forked, or that becomes a
//! program. This parent can neither wait for it nor trust its pid. Sends signals, and reads what the
//! holder has collected.

#![allow(unsafe_code)]

use super::journal_memory::Journal;
use crate::{
    core::{child::ChildId, system::Reaped},
    sys::group::ProcessGroup,
};
use nix::{errno::Errno, libc};
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

/// A child of the holder.
#[derive(Clone, Debug)]
pub(crate) struct HeldChild {
    journal: Journal,
    child: ChildId,
}

impl HeldChild {
    pub(super) fn new(journal: Journal, child: ChildId) -> Self {
        Self { journal, child }
    }

    /// Whether the holder has not begun to reap it, so that its pid is its own.
    pub(crate) fn is_there(&self) -> bool {
        let record = self.journal.record(self.child.slot());
        record.serial == self.child.serial() && record.lives()
    }

    /// Sends a signal to this process and to no other.
    pub(crate) fn signal(&self, pid: libc::pid_t, number: libc::c_int) -> io::Result<()> {
        Ok(send(&self.open(pid)?, number, 0)?)
    }

    /// Sends a signal to the group that this process leads, and to no other.
    pub(crate) fn signal_group(&self, pid: libc::pid_t, number: libc::c_int) -> io::Result<()> {
        let process = self.open(pid)?;
        match send(&process, number, TO_GROUP) {
            // The child has joined another group.
            Err(Errno::ESRCH) => Ok(send(&process, number, 0)?),
            // A kernel before 6.9. There the number of the group has to do, right after the look.
            Err(Errno::EINVAL) => ProcessGroup::led_by(pid).signal(number),
            sent => Ok(sent?),
        }
    }

    /// A descriptor of this process, which is there.
    fn open(&self, pid: libc::pid_t) -> io::Result<OwnedFd> {
        let process = open(pid)?;
        // The descriptor was made before the look, so it is that of the child if the child is there now.
        match self.is_there() {
            true => Ok(process),
            false => Err(Errno::ESRCH.into()),
        }
    }

    /// What the holder has collected, once it has.
    pub(crate) fn reap(&self) -> Reaped {
        let record = self.journal.record(self.child.slot());
        match record.end {
            Some(collected) if record.serial == self.child.serial() => Reaped::Ended(collected),
            _ => Reaped::Not,
        }
    }
}

/// PIDFD_SIGNAL_PROCESS_GROUP.
const TO_GROUP: libc::c_uint = 1 << 2;

fn send(process: &OwnedFd, number: libc::c_int, flags: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: integers, and no information about the signal.
    let sent = unsafe {
        let none = std::ptr::null::<libc::siginfo_t>();
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            number,
            none,
            flags,
        )
    };
    Errno::result(sent).map(drop)
}

/// A descriptor of the process that has this pid now.
fn open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, close-on-exec; it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        child::Collected,
        journal::{JournalRecord, LifePhase},
        time::Time,
    };
    use std::{
        os::unix::process::ExitStatusExt,
        process::{Command, Stdio},
    };

    /// The pid of a child that another process reaps is looked up by a descriptor first, and signalled
    /// only if that process has not begun to reap it.
    #[test]
    fn o27_a_signal_reaches_a_child_until_the_holder_reaps_it_and_nobody_after_that() {
        let journal = Journal::new(2).unwrap();
        let id = ChildId::new(1, 7);
        let mut command = Command::new("sleep");
        let mut process = command.arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pid = libc::pid_t::try_from(process.id()).unwrap();
        let lives = JournalRecord {
            phase: LifePhase::Lives,
            pid: process.id(),
            ..JournalRecord::forking(id, 0, false, Time::START)
        };
        let held_child = HeldChild::new(journal.clone(), id);
        let refused = |held_child: &HeldChild| {
            let error = held_child
                .signal(pid, libc::SIGTERM)
                .expect_err("a refusal");
            assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
        };
        refused(&held_child);
        journal.put(1, &lives);
        held_child.signal(pid, 0).unwrap();
        assert_eq!(held_child.reap(), Reaped::Not);
        let ending = JournalRecord {
            phase: LifePhase::Ending,
            ..lives
        };
        journal.put(1, &ending);
        refused(&held_child);
        journal.put(1, &lives);
        held_child.signal(pid, libc::SIGKILL).unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(libc::SIGKILL));
        journal.put(1, &lives.ended(Collected::default()));
        refused(&held_child);
        assert_eq!(held_child.reap(), Reaped::Ended(Collected::default()));
        let successor = HeldChild::new(journal, ChildId::new(1, 8));
        assert_eq!(successor.reap(), Reaped::Not);
    }
}
