//! The evidence that the kernel has ended a child for lack of memory: the count of the machine, those
//! of the child's control group, and where they tell nothing the kernel's log. `core/out_of_memory.rs` interprets both.

#![allow(unsafe_code)]

use super::clock::Clock;
use crate::core::out_of_memory::{Kills, MachineCount, Membership, kills, log_tells};
use nix::libc;
use std::{
    cell::RefCell,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

/// What is known of such ends in the control groups of this process and of its children.
#[derive(Debug)]
pub(crate) struct OutOfMemory {
    machine: RefCell<MachineCount>,
    kills: RefCell<Kills>,
    /// The group of this process, in which its children begin.
    own: RefCell<Option<PathBuf>>,
    clock: Clock,
}

impl Default for OutOfMemory {
    fn default() -> Self {
        Self {
            machine: RefCell::default(),
            kills: RefCell::default(),
            own: RefCell::default(),
            clock: Clock::new(),
        }
    }
}

impl OutOfMemory {
    /// Notes the present counts of the machine and of this process's own group.
    pub(super) fn begin(&self) {
        self.machine.borrow_mut().begin(of_the_machine());
        let own = group_of("self");
        if let Some((group, count)) = own.as_deref().and_then(counted) {
            self.kills.borrow_mut().begin(group, count);
        }
        self.own.replace(own);
    }

    /// Whether a child that SIGKILL has ended, and that was not reaped yet, was ended for lack of
    /// memory.
    pub(super) fn has_ended(&self, pid: libc::pid_t) -> bool {
        self.may_have_ended_one()
            && match group_of(&pid.to_string()) {
                // A group that was not read before has counted some end; without a log it is this one.
                Some(group) => self
                    .claim(&group)
                    .unwrap_or_else(|| log_has(pid).unwrap_or(true)),
                // In version 1 a process that has ended is in no group.
                None => self.has_ended_in_own_group(pid),
            }
    }

    /// The same of a child that was reaped, as the holder does it.
    pub(super) fn has_ended_reaped(&self, pid: libc::pid_t) -> bool {
        self.may_have_ended_one() && self.has_ended_in_own_group(pid)
    }

    /// Whether the kernel has ended any process of late: to read its log takes longer than to replace
    /// a child.
    fn may_have_ended_one(&self) -> bool {
        let (count, now) = (of_the_machine(), self.clock.now());
        self.machine.borrow_mut().may_have_ended_one(count, now)
    }

    /// The same of a child of whose group nothing is known: it may have been in ours.
    fn has_ended_in_own_group(&self, pid: libc::pid_t) -> bool {
        let own = self.own.borrow();
        let claimed = own.as_deref().and_then(|own| self.claim(own));
        claimed == Some(true) || log_has(pid).unwrap_or(false)
    }

    fn claim(&self, group: &Path) -> Option<bool> {
        let (group, count) = counted(group)?;
        let now = self.clock.now();
        self.kills.borrow_mut().claim(group, count, now)
    }
}

/// The file that counts such ends in the group of a process.
fn group_of(process: &str) -> Option<PathBuf> {
    let cgroup = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let groups = Membership::parse(&cgroup);
    let memory = groups.memory.filter(|path| *path != "/");
    let places = [
        ("/sys/fs/cgroup", groups.unified, "memory.events"),
        ("/sys/fs/cgroup/unified", groups.unified, "memory.events"),
        ("/sys/fs/cgroup/memory", memory, "memory.oom_control"),
    ];
    places.into_iter().find_map(|(root, path, file)| {
        let counter = PathBuf::from(format!("{root}{}", path?)).join(file);
        counter.exists().then_some(counter)
    })
}

fn of_the_machine() -> Option<u64> {
    let mut text = Vec::with_capacity(16 * 1024);
    let mut file = File::open("/proc/vmstat").ok()?;
    file.read_to_end(&mut text).ok()?;
    kills(str::from_utf8(&text).ok()?)
}

/// A counter by its name, and its count.
fn counted(counter: &Path) -> Option<(&str, u64)> {
    let count = kills(&fs::read_to_string(counter).ok()?)?;
    Some((counter.to_str()?, count))
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
