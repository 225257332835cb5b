//! The evidence that the kernel has ended a child for lack of memory: the counts of its control
//! group, and where they tell nothing the kernel's log. `core/out_of_memory.rs` interprets both.

#![allow(unsafe_code)]

use super::clock::Clock;
use crate::core::out_of_memory::{Kills, Membership, kills, log_tells};
use nix::libc;
use std::{cell::RefCell, fs, path::Path, time::Duration};

/// What is known of such ends in this process's control group and in those of its children.
#[derive(Debug)]
pub(crate) struct OutOfMemory {
    kills: RefCell<Kills>,
    clock: Clock,
}

impl Default for OutOfMemory {
    fn default() -> Self {
        Self {
            kills: RefCell::default(),
            clock: Clock::new(),
        }
    }
}

impl OutOfMemory {
    /// Notes the present count of this process's own group, in which its children begin.
    pub(super) fn begin(&self) {
        if let Some((group, count)) = count_of("self") {
            self.kills.borrow_mut().begin(&group, count);
        }
    }

    /// Whether a child that SIGKILL has ended, and that was not reaped yet, was ended for lack of
    /// memory.
    pub(super) fn has_ended(&self, pid: libc::pid_t) -> bool {
        let log = || log_has(pid);
        let Some((group, count)) = count_of(&pid.to_string()) else {
            return log().unwrap_or(false);
        };
        let claimed = self
            .kills
            .borrow_mut()
            .claim(&group, count, self.clock.now());
        // A group that was not read before has counted some end; without a log take it for this one.
        claimed.unwrap_or_else(|| log().unwrap_or(true))
    }
}

/// The group of a process that counts such ends, and its count.
fn count_of(process: &str) -> Option<(String, u64)> {
    let cgroup = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let groups = Membership::parse(&cgroup);
    let places = [
        ("/sys/fs/cgroup", groups.unified, "memory.events"),
        ("/sys/fs/cgroup/unified", groups.unified, "memory.events"),
        ("/sys/fs/cgroup/memory", groups.memory, "memory.oom_control"),
    ];
    places.into_iter().find_map(|(root, path, file)| {
        let group = format!("{root}{}", path?);
        let events = fs::read_to_string(Path::new(&group).join(file)).ok()?;
        Some((group, kills(&events)?))
    })
}

/// Whether the kernel's log tells so; `None` where it cannot be read.
fn log_has(pid: libc::pid_t) -> Option<bool> {
    if !is_in_first_namespace() {
        return None;
    }
    let log = read_log()?;
    let forked = start_of(pid).unwrap_or_default();
    Some(log_tells(&log, u32::try_from(pid).ok()?, forked))
}

/// The log names processes as the first pid namespace does.
fn is_in_first_namespace() -> bool {
    const FIRST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() == FIRST)
}

/// When a process was forked, in time since the boot. A second is taken off: the clocks differ a
/// little.
fn start_of(pid: libc::pid_t) -> Option<Duration> {
    /// The 22nd field of the line; the third is the first after the name.
    const START: usize = 22 - 3;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest.split_whitespace().nth(START)?.parse().ok()?;
    // SAFETY: sysconf has no preconditions.
    let each_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let each_second = u64::try_from(each_second).ok().filter(|ticks| *ticks > 0)?;
    Some(Duration::from_secs((ticks / each_second).saturating_sub(1)))
}

/// The end of the kernel's log, where this process may read it.
#[cfg(target_os = "linux")]
fn read_log() -> Option<String> {
    const READ_ALL: libc::c_int = 3;
    let mut buffer = vec![0_u8; 64 * 1024];
    let length = libc::c_int::try_from(buffer.len()).ok()?;
    // SAFETY: the buffer is valid for writes of its length.
    let read = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), length) };
    buffer.truncate(usize::try_from(read).ok()?);
    Some(String::from_utf8_lossy(&buffer).into_owned())
}

#[cfg(not(target_os = "linux"))]
fn read_log() -> Option<String> {
    None
}
