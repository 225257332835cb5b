//! Processes as the kernel shows them under /proc.
//!
//! It never signals, reaps or changes anything, and never keeps an answer: each call looks again. A
//! list is not a snapshot, since processes come and go while it is read: compare through `until`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// One process, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// The letter of the kernel: R, S, D, T, Z and so on.
    pub state: char,
    pub name: String,
}

impl Process {
    /// Looks at one process; `None` if there is no such process any more.
    pub fn read(pid: u32) -> Option<Self> {
        let stat = fs::read(file(pid, "stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name stands in parentheses and may itself contain some, and spaces.
        let (before, after) = stat.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let mut fields = after.split_whitespace();
        Some(Self {
            pid,
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            name: name.to_owned(),
        })
    }

    /// Whether it still runs: a zombie does not.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    /// A line that tells a reader which process this is.
    pub fn describe(&self) -> String {
        let Self {
            pid, parent, state, ..
        } = self;
        format!(
            "pid {pid} (parent {parent}, state {state}): {}",
            self.command_line()
        )
    }

    /// What it was started with; a zombie has but its name.
    fn command_line(&self) -> String {
        let words = fs::read(file(self.pid, "cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&words).replace('\0', " ");
        if line.is_empty() {
            format!("[{}]", self.name)
        } else {
            line.trim_end().to_owned()
        }
    }
}

/// Every process there is.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc to be readable");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).collect()
}

/// The direct children of `pid`, zombies among them, by pid.
///
/// By the lists that the kernel has of them: to look at every process of a machine that runs a few
/// scenarios takes milliseconds.
pub fn children(pid: u32) -> Vec<Process> {
    let mut children = listed_children(pid).unwrap_or_else(all);
    children.retain(|process| process.parent == pid);
    children.sort_by_key(|process| process.pid);
    children
}

/// Those that the kernel lists, of each thread; `None` if it has no such lists, or they change
/// right now.
fn listed_children(pid: u32) -> Option<Vec<Process>> {
    if !Path::new("/proc/thread-self/children").exists() {
        return None;
    }
    // The kernel may leave one out where another ends while it writes the list.
    let [pids, again] = [(); 2].map(|()| child_pids(pid));
    (pids == again).then(|| pids.into_iter().filter_map(Process::read).collect())
}

fn child_pids(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(file(pid, "task")) else {
        return Vec::new();
    };
    let lists = threads.filter_map(|thread| fs::read(thread.ok()?.path().join("children")).ok());
    let lists: Vec<u8> = lists.flatten().collect();
    let words = String::from_utf8_lossy(&lists);
    let pids = words.split_whitespace();
    pids.filter_map(|pid| pid.parse().ok()).collect()
}

/// The children of `pid`, their children, and so on, zombies among them.
pub fn descendants(pid: u32) -> Vec<Process> {
    let mut found = children(pid);
    let mut done = 0;
    while let Some(next) = found.get(done) {
        found.extend(children(next.pid));
        done += 1;
    }
    found
}

/// The same, in a list of all processes.
pub(super) fn descendants_in(all: &[Process], pid: u32) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut next = Some(pid);
    let mut done = 0;
    while let Some(parent) = next {
        let children = all.iter().filter(|process| process.parent == parent);
        found.extend(children.cloned());
        next = found.get(done).map(|process| process.pid);
        done += 1;
    }
    found
}

/// Whether `pid` runs: neither gone nor a zombie.
pub fn is_alive(pid: u32) -> bool {
    Process::read(pid).is_some_and(|process| process.is_alive())
}

/// The kernel's letter for the state of `pid`; `None` if it is gone.
pub fn state(pid: u32) -> Option<char> {
    Process::read(pid).map(|process| process.state)
}

/// The number of the system call that `pid` is in; `None` if it is in none, or gone.
pub fn system_call(pid: u32) -> Option<i64> {
    let text = fs::read_to_string(file(pid, "syscall")).ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Whether `pid` is in the wait of an epoll, which is where a child waits for a connection.
pub fn is_in_epoll_wait(pid: u32) -> bool {
    #[cfg(target_arch = "x86_64")]
    const WAITS: &[i64] = &[nix::libc::SYS_epoll_wait, nix::libc::SYS_epoll_pwait];
    #[cfg(not(target_arch = "x86_64"))]
    const WAITS: &[i64] = &[nix::libc::SYS_epoll_pwait];
    system_call(pid).is_some_and(|call| WAITS.contains(&call))
}

/// Whether `pid` sleeps there.
pub fn waits_in_epoll(pid: u32) -> bool {
    state(pid) == Some('S') && is_in_epoll_wait(pid)
}

/// Whether `pid` sleeps in accept(2), as children do that take turns.
pub fn waits_in_accept(pid: u32) -> bool {
    state(pid) == Some('S') && system_call(pid) == Some(nix::libc::SYS_accept4)
}

/// The time that `pid` and the processes below it that have been reaped were on a processor.
pub(super) fn busy(pid: u32) -> Duration {
    let stat = text(pid, "stat");
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    // utime, stime, cutime and cstime.
    let ticks = fields.split_whitespace().skip(11).take(4);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Duration::from_secs(1).mul_f64(f64::from(ticks) / a_second as f64)
}

/// For how long the first thread of `pid` could have run and was not given a processor; `None` where the
/// kernel does not tell, or `pid` is gone.
pub fn waited_for_a_processor(pid: u32) -> Option<Duration> {
    let schedule = text(pid, "schedstat");
    let waited = schedule.split(' ').nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(waited))
}

/// How many threads `pid` has; 0 if it is gone.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(file(pid, "task")).map_or(0, Iterator::count)
}

/// The open descriptors of `pid` and what each leads to, by number; empty if it is gone.
pub fn descriptors(pid: u32) -> Vec<(i32, String)> {
    let Ok(entries) = fs::read_dir(file(pid, "fd")) else {
        return Vec::new();
    };
    let mut descriptors: Vec<(i32, String)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            // One that was closed since the directory was read has no target: it is left out.
            let target = fs::read_link(&path).ok()?;
            let number = path.file_name()?.to_str()?.parse().ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .collect();
    descriptors.sort();
    descriptors
}

/// Whether a descriptor of `pid` is open for reading only; false if it is gone.
pub(super) fn is_read_only(pid: u32, number: i32) -> bool {
    let info = text(pid, &format!("fdinfo/{number}"));
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 0o3 == 0)
}

/// The value of a variable in the environment that `pid` was started with.
///
/// A child made by fork alone has the one of its parent; a zombie has none.
pub fn variable(pid: u32, name: &str) -> Option<String> {
    let environment = fs::read(file(pid, "environ")).ok()?;
    let mut entries = environment.split(|&byte| byte == 0);
    entries.find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).into_owned())
    })
}

/// A file of the process in /proc, trimmed; empty if it cannot be read.
pub(super) fn text(pid: u32, name: &str) -> String {
    let text = fs::read(file(pid, name)).unwrap_or_default();
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

fn file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}
