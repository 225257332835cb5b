//! The process group that a child leads: signals to the group, and whether members are left after
//! the child's end. Never acts on our own group or on a group that may not be the child's.

#![allow(unsafe_code)]

use nix::libc;
use std::io;

/// The process group of a child. Its number is the child's pid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessGroup(libc::pid_t);

impl ProcessGroup {
    /// Makes the calling process, a new child, the leader of a group.
    pub(crate) fn lead() {
        set_group(0);
    }

    /// The group of the child `pid`, created here as well: whichever process runs first, the group
    /// exists before the first signal is sent.
    pub(crate) fn of_child(pid: libc::pid_t) -> Self {
        set_group(pid);
        Self(pid)
    }

    /// The group that a process leads. It is not created here.
    #[cfg(all(feature = "holder", target_os = "linux"))]
    pub(crate) fn led_by(pid: libc::pid_t) -> Self {
        Self(pid)
    }

    /// Makes a child the leader of a group that is sent no signals.
    pub(crate) fn of_new_child(pid: u32) {
        // OK because the pid comes from fork(2).
        set_group(pid as libc::pid_t);
    }

    /// Sends a signal to every member. The leader must be a child that was not reaped.
    pub(crate) fn signal(self, number: libc::c_int) -> io::Result<()> {
        match kill(-self.0, number) {
            // The child has joined another group.
            Err(error) if is_no_such_process(&error) => kill(self.0, number),
            sent => sent,
        }
    }

    /// The same after the leader was reaped: sends nothing unless other members are left.
    pub(crate) fn signal_rest(self, number: libc::c_int) -> io::Result<()> {
        match self.is_left() {
            true => kill(-self.0, number),
            false => Ok(()),
        }
    }

    /// Whether other members are alive after the leader was reaped. Members that became our
    /// children are reaped here: as the first process of a container we adopt orphans.
    pub(crate) fn outlives_its_leader(self) -> bool {
        self.reap_orphans();
        let outlives = self.is_left() && has_living_member(self.0).unwrap_or(true);
        // Again: the last one may have ended since, and this is the last look.
        self.reap_orphans();
        outlives
    }

    /// Whether the group still exists after its leader was reaped.
    ///
    /// The kernel gives the number to no process while a group of that number exists. So if a
    /// process has this pid, the child's group has ended and another may have begun.
    fn is_left(self) -> bool {
        let number_is_free = matches!(kill(self.0, 0), Err(error) if is_no_such_process(&error));
        number_is_free && !matches!(kill(-self.0, 0), Err(error) if is_no_such_process(&error))
    }

    fn reap_orphans(self) {
        // SAFETY: no status is requested, so the call writes to no memory.
        while unsafe { libc::waitpid(-self.0, std::ptr::null_mut(), libc::WNOHANG) > 0 } {}
    }
}

/// Whether a member of a group is alive. A zombie stays in its group until its parent reaps it, and
/// the first process of a container may never do so. `None` if the system does not tell.
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

/// The state, the parent and the group in a process's `stat`. They follow its name, which is in
/// parentheses and may contain parentheses itself.
fn state_and_group(stat: &[u8]) -> Option<(u8, libc::pid_t)> {
    let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = stat[name_ends + 1..].split(|byte| *byte == b' ').skip(1);
    let state = *fields.next()?.first()?;
    let group = std::str::from_utf8(fields.nth(1)?).ok()?;
    Some((state, group.parse().ok()?))
}

fn set_group(pid: libc::pid_t) {
    // SAFETY: two integers. OK if it fails: the other side has done it and the child is already
    // another program, or the child has ended.
    unsafe { libc::setpgid(pid, pid) };
}

fn kill(pid: libc::pid_t, number: libc::c_int) -> io::Result<()> {
    // SAFETY: `kill` touches no memory.
    match unsafe { libc::kill(pid, number) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_no_such_process(error: &io::Error) -> bool {
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
