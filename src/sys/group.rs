//! The process group that one child leads: signals to all of it, and whether anybody of it is left when
//! the child has ended. Never our own group, and never one that is not known to be the child's.

#![allow(unsafe_code)]

use nix::libc;
use std::io;

/// The group of a child, whose number is the child's pid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group(libc::pid_t);

impl Group {
    /// Makes the calling process, a new child, the leader of a group.
    pub(crate) fn lead() {
        set_group(0);
    }

    /// The group of the child `pid`, which is made here as well: whichever of the two processes runs first,
    /// there is one when the first signal is sent.
    pub(crate) fn of_child(pid: libc::pid_t) -> Self {
        set_group(pid);
        Self(pid)
    }

    /// Sends a signal to everybody in it. The leader must be a child that was not reaped.
    pub(crate) fn signal(self, number: libc::c_int) -> io::Result<()> {
        match kill(-self.0, number) {
            // It has joined another.
            Err(error) if is_nobody(&error) => kill(self.0, number),
            sent => sent,
        }
    }

    /// Likewise, if the leader was reaped: nothing is sent unless others of the group are left.
    pub(crate) fn signal_rest(self, number: libc::c_int) -> io::Result<()> {
        match self.is_left() {
            true => kill(-self.0, number),
            false => Ok(()),
        }
    }

    /// Whether others of the group live on, now that the leader was reaped. Those that have come to us, as
    /// orphans do where we are the first process of a container, are reaped.
    pub(crate) fn outlives_its_leader(self) -> bool {
        while self.reap_orphan() {}
        self.is_left() && has_living_member(self.0).unwrap_or(true)
    }

    /// Whether there is still such a group, the leader having been reaped.
    ///
    /// The kernel gives a number to no process for as long as there is a group of that number. So if a
    /// process has it, the group has ended, and another has begun.
    fn is_left(self) -> bool {
        let number_is_free = matches!(kill(self.0, 0), Err(error) if is_nobody(&error));
        number_is_free && !matches!(kill(-self.0, 0), Err(error) if is_nobody(&error))
    }

    fn reap_orphan(self) -> bool {
        // SAFETY: no status is asked for, so the call has no memory to write to.
        unsafe { libc::waitpid(-self.0, std::ptr::null_mut(), libc::WNOHANG) > 0 }
    }
}

/// Whether anybody of a group lives: those that have ended stay in it until their parent reaps them, and a
/// careless first process of a container never does. `None` where nothing tells.
fn has_living_member(group: libc::pid_t) -> Option<bool> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let mut told = false;
    for process in processes.flatten() {
        let stat = std::fs::read(process.path().join("stat"));
        if let Some((state, its_group)) = stat.ok().and_then(|stat| state_and_group(&stat)) {
            told = true;
            if its_group == group && !matches!(state, b'Z' | b'X') {
                return Some(true);
            }
        }
    }
    told.then_some(false)
}

/// What stands in a process's `stat` after its name, which is in parentheses and may have some itself: the
/// state, the parent, the group.
fn state_and_group(stat: &[u8]) -> Option<(u8, libc::pid_t)> {
    let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = stat[name_ends + 1..].split(|byte| *byte == b' ').skip(1);
    let state = *fields.next()?.first()?;
    let group = std::str::from_utf8(fields.nth(1)?).ok()?;
    Some((state, group.parse().ok()?))
}

fn set_group(pid: libc::pid_t) {
    // SAFETY: two integers. OK if it fails: the other side has done it, and the child is another program
    // already or has ended.
    unsafe { libc::setpgid(pid, pid) };
}

fn kill(pid: libc::pid_t, number: libc::c_int) -> io::Result<()> {
    // SAFETY: `kill` has no memory to corrupt.
    match unsafe { libc::kill(pid, number) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_nobody(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_group_stand_after_the_last_parenthesis() {
        assert_eq!(state_and_group(b"7 (a) b) S 1 42 42 0"), Some((b'S', 42)));
        assert_eq!(state_and_group(b"7 (sh) Z 1 42 42 0"), Some((b'Z', 42)));
        for bad in [&b""[..], b"7 (sh)", b"7 (sh) S 1", b"7 (sh) S 1 x 2"] {
            assert_eq!(state_and_group(bad), None);
        }
    }
}
