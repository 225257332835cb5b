//! Orphans that the parent has adopted, as process 1 of a container or as a subreaper: which
//! processes they are, and reaping them. Never reaps a process that the program has started.
//!
//! The kernel does not tell an orphan from a process that the program has started: both are
//! children of the parent. So the children of the server lead process groups, which what they start
//! inherits. An orphan is a process that is no child of the server, and not in the parent's own
//! group. What is in that group the program has started, or what it has started has left it there;
//! its status is left to the program.
//!
//! A program that a holder has executed is told which of its children are orphans, in whatever group
//! they are.

#![allow(unsafe_code)]

use crate::core::{confinement::Confinement, state::EncodedList};
use nix::libc;
use std::{collections::BTreeSet, fs};

/// Whether orphans are reaped.
#[derive(Debug, Default)]
pub(crate) struct Adoption {
    /// The attribute `reap_orphans`.
    asked: bool,
    /// Whether children begin sessions, and so have groups already.
    in_sessions: bool,
    /// Whether this parent reaps orphans.
    adopts: bool,
    /// The orphans that a holder had which has become this program.
    inherited: BTreeSet<u32>,
}

impl Adoption {
    /// For children that are confined so, and if they were `asked` for.
    pub(crate) fn new(asked: bool, confinement: &Confinement) -> Self {
        Self {
            asked,
            in_sessions: confinement.begins_session(),
            adopts: false,
            inherited: BTreeSet::new(),
        }
    }

    /// In a program that a holder has executed: takes over the orphans of that one.
    pub(crate) fn inherit(&mut self, orphans: &[u32]) {
        let all = orphans.iter().copied();
        self.inherited = all.filter(|pid| !has_left(*pid)).collect();
    }

    /// The orphans that it has taken over, for the next program.
    pub(crate) fn inherited(&self) -> EncodedList<u32> {
        EncodedList(self.inherited.iter().copied().collect())
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
    pub(crate) fn reap(&mut self, pid: u32) -> bool {
        match self.inherited.remove(&pid) {
            true => has_left(pid),
            false => self.adopts && reap(pid),
        }
    }

    /// Reaps all orphans that have ended. `is_child` says which pids are the server's.
    pub(crate) fn reap_all(&mut self, is_child: &dyn Fn(u32) -> bool) {
        self.inherited.retain(|pid| !has_left(*pid));
        if self.adopts {
            let all = children_of(std::process::id()).into_iter();
            let others = all.filter(|pid| !is_child(*pid));
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
    wait(pid) > 0
}

/// Reaps an orphan, if it has ended. Whether it is a child of this process no longer.
fn has_left(pid: u32) -> bool {
    libc::pid_t::try_from(pid).map_or(true, |pid| wait(pid) != 0)
}

/// Reaps one process. Zero if it lives, and less if it is no child of this process.
fn wait(pid: libc::pid_t) -> libc::pid_t {
    // SAFETY: no status is asked for, so the call writes to no memory.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) }
}

/// The children of a process, which the kernel lists by thread. None where the system does not tell.
pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let lists = threads.filter_map(|it| fs::read_to_string(it.ok()?.path().join("children")).ok());
    let pids = |list: String| -> Vec<u32> {
        let pids = list.split_whitespace();
        pids.filter_map(|pid| pid.parse().ok()).collect()
    };
    lists.flat_map(pids).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::process::CommandExt, process::Command};

    /// The status of a process that the program has started is the program's.
    #[test]
    fn g14_a_process_of_the_program_is_left_to_it_and_one_of_another_group_is_reaped() {
        let mut adoption = Adoption {
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
        let mut none = Adoption::default();
        let mut left = end(Command::new("true").process_group(0));
        assert!(!none.reap(left.id()), "orphans are not this parent's");
        assert!(left.wait().expect("a status").success());
    }

    /// Whichever has ended first, and whatever group they are in.
    #[test]
    fn orphans_of_a_holder_are_reaped_by_the_program_that_it_becomes() {
        let run = || {
            Command::new("sleep")
                .arg("1000")
                .spawn()
                .expect("a process")
        };
        let (mut servers, mut orphan, mut other) = (run(), run(), run());
        let own: BTreeSet<_> = children_of(std::process::id()).into_iter().collect();
        assert!(own.is_superset(&[servers.id(), orphan.id(), other.id()].into()));
        let mut adoption = Adoption::default();
        let orphans = [orphan.id(), other.id()];
        // The last one is no child of this process.
        adoption.inherit(&[orphans[0], orphans[1], 1]);
        assert_eq!(adoption.inherited, orphans.into());
        adoption.reap_all(&|_| false);
        assert_eq!(adoption.inherited, orphans.into(), "they live");
        let end = |child: &mut std::process::Child| {
            child.kill().expect("it lives");
            let path = format!("/proc/{}/stat", child.id());
            while !fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") Z ")) {
                std::thread::yield_now();
            }
        };
        [&mut servers, &mut orphan, &mut other]
            .into_iter()
            .for_each(end);
        adoption.reap_all(&|_| false);
        assert!(adoption.inherited.is_empty());
        assert!(orphan.wait().is_err() && other.wait().is_err());
        assert!(!adoption.reap(servers.id()) && servers.wait().is_ok());
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
