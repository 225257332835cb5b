//! What the kernel says about a process, beyond what the harness asks it.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::processes::{self, Process};

/// A set of signals of /proc/PID/status: `SigBlk`, `SigIgn`, `SigCgt`, `SigPnd`, `ShdPnd`.
#[track_caller]
pub fn signal_set(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let digits = line.and_then(|line| line.strip_prefix(':'));
    let digits = digits.unwrap_or_else(|| panic!("no {name} in {status}"));
    u64::from_str_radix(digits.trim(), 16).expect("a hexadecimal number")
}

/// Whether `signal` is in the set.
#[track_caller]
pub fn has_signal(pid: u32, name: &str, signal: Signal) -> bool {
    signal_set(pid, name) & (1 << (signal as u32 - 1)) != 0
}

/// How many children, zombies among them, `pid` had in one instant, for certain.
///
/// Reading /proc takes time, in which one child may be reaped and another forked. Those that are
/// still there when all have been found were all there in the instant between.
pub fn children_at_once(pid: u32) -> usize {
    let found = children_quickly(pid);
    let is_there = |child: &&u32| Process::read(**child).is_some_and(|now| now.parent == pid);
    found.iter().filter(is_there).count()
}

/// The kernel's own list, where it has one: to look at every process takes long on a full machine.
fn children_quickly(pid: u32) -> Vec<u32> {
    match fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        Ok(list) => list.split_whitespace().flat_map(str::parse).collect(),
        Err(_) => {
            let children = processes::children(pid);
            children.iter().map(|child| child.pid).collect()
        }
    }
}
