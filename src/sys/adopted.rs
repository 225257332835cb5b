//! Orphans that the parent has adopted, as process 1 of a container or as a subreaper: which
//! processes they are, and reaping them. Never reaps a process that the program has started.
//!
//! The kernel does not tell an orphan from a process that the program has started: both are
//! children of the parent. So the children of the server lead process groups, which what they start
//! inherits. An orphan is a process that is no child of the server, and not in the parent's own
//! group. What is in that group the program has started, or what it has started has left it there;
//! its status is left to the program.

#![allow(unsafe_code)]

use crate::core::confinement::Confinement;
use nix::libc;
use std::fs;

/// Whether orphans are reaped.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    /// The attribute `reap_orphans`.
    asked: bool,
    /// Whether children begin sessions, and so have groups already.
    in_sessions: bool,
    /// Whether this parent reaps orphans.
    adopts: bool,
}

impl Adoption {
    /// For children that are confined so, and if they were `asked` for.
    pub(crate) fn new(asked: bool, confinement: &Confinement) -> Self {
        Self {
            asked,
            in_sessions: confinement.begins_session(),
            adopts: false,
        }
    }

    /// Decides, once the process is known that runs the loop.
    pub(crate) fn settle(&mut self) {
        self.adopts = self.asked || std::process::id() == 1;
    }

    /// Whether a new child is to lead a process group.
    pub(crate) fn gives_groups(&self) -> bool {
        self.adopts && !self.in_sessions
    }

    /// Reaps a process that has ended, if it is an orphan. True if it was reaped.
    pub(crate) fn reap(&self, pid: u32) -> bool {
        self.adopts && reap(pid)
    }

    /// Reaps all orphans that have ended. `is_child` says which pids are the server's.
    pub(crate) fn reap_all(&self, is_child: &dyn Fn(u32) -> bool) {
        if self.adopts {
            let others = children().into_iter().filter(|pid| !is_child(*pid));
            others.for_each(|pid| _ = reap(pid));
        }
    }
}

/// Reaps a process that is no child of the server, if it has ended and has left the parent's group.
fn reap(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return false;
    };
    // SAFETY: two calls on integers, of which the second cannot fail. A process that has ended
    // stays in its group until it is reaped.
    let (group, own) = unsafe { (libc::getpgid(pid), libc::getpgrp()) };
    if group < 0 || group == own {
        return false;
    }
    // SAFETY: no status is asked for, so the call writes to no memory. It fails if the process is
    // no child of this one.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) > 0 }
}

/// The children of this thread, to which the kernel gives orphans. None where the system does not
/// tell.
fn children() -> Vec<u32> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let text = fs::read_to_string(path).unwrap_or_default();
    let pids = text.split_whitespace();
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::process::CommandExt, process::Command};

    /// The status of a process that the program has started is the program's.
    #[test]
    fn g14_a_process_of_the_program_is_left_to_it_and_one_of_another_group_is_reaped() {
        let adoption = Adoption {
            adopts: true,
            ..Adoption::default()
        };
        let end = |command: &mut Command| {
            let child = command.spawn().expect("a process");
            let path = format!("/proc/{}/stat", child.id());
            let ended = || fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") Z "));
            while !ended() {
                std::thread::yield_now();
            }
            child
        };
        let mut own = end(&mut Command::new("true"));
        let mut other = end(Command::new("true").process_group(0));
        assert!(!adoption.reap(own.id()));
        assert!(adoption.reap(other.id()));
        assert!(!adoption.reap(other.id()), "it is gone");
        assert!(own.wait().expect("a status").success());
        assert!(other.wait().is_err(), "it was reaped");
        let none = Adoption::default();
        let mut left = end(Command::new("true").process_group(0));
        assert!(!none.reap(left.id()), "orphans are not this parent's");
        assert!(left.wait().expect("a status").success());
    }

    #[test]
    fn only_process_1_and_who_has_asked_reap_orphans() {
        for (asked, adopts) in [(false, false), (true, true)] {
            let mut adoption = Adoption::new(asked, &Confinement::new());
            assert!(!adoption.gives_groups(), "it is not settled");
            adoption.settle();
            assert_eq!(adoption.gives_groups(), adopts);
        }
        let mut in_sessions = Adoption::new(true, &Confinement::new().session());
        in_sessions.settle();
        assert!(!in_sessions.gives_groups());
    }
}
