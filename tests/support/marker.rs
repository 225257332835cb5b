//! The marker: an environment variable that every process of a scenario carries.
//!
//! Forks inherit it and so do execs, whatever session or parent a process gives itself: a leaked
//! daemon is found too. It never names a process outside its scenario, and never looks at names.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::processes::{self, Process};
use super::wait::pause;

/// The variable; its value is unique to one run of one scenario.
pub const VARIABLE: &str = "PREFORK_SCENARIO";

/// For how long processes are killed again and again before they are given up.
const KILLING: Duration = Duration::from_secs(10);

/// The mark of one run of one scenario.
#[derive(Clone, Debug)]
pub struct Marker {
    value: String,
}

impl Marker {
    /// A mark that no other run has.
    ///
    /// A run inside a scenario extends the mark of that scenario, which so keeps hold of it.
    pub fn fresh() -> Self {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let outer = std::env::var(VARIABLE).map_or(String::new(), |outer| outer + "/");
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = since.map_or(0, |since| since.as_nanos());
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        Self {
            value: format!("{outer}{pid}-{nanos}-{run}"),
        }
    }

    /// The mark of the scenario that this process belongs to.
    pub fn own() -> Option<Self> {
        std::env::var(VARIABLE).ok().map(|value| Self { value })
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    /// Every process of the scenario but this one, zombies among them.
    ///
    /// `root` is the scenario's own process, while it exists. Below it everything counts, marked or
    /// not, since an exec may have emptied the environment.
    pub fn processes(&self, root: Option<u32>) -> Vec<Process> {
        let own = std::process::id();
        let all = processes::all();
        let below = |root| processes::descendants_in(&all, root);
        let mut found = root.map_or(Vec::new(), below);
        for process in all {
            let known = found.iter().any(|other| other.pid == process.pid);
            if !known && self.marks(process.pid) {
                found.push(process);
            }
        }
        found.retain(|process| process.pid != own);
        found.sort_by_key(|process| process.pid);
        found
    }

    /// Whether `pid` belongs to another scenario, neither around nor inside this one.
    pub fn is_foreign(&self, pid: u32) -> bool {
        processes::variable(pid, VARIABLE)
            .is_some_and(|value| !within(&value, &self.value) && !within(&self.value, &value))
    }

    /// Kills every process of the scenario but this one, until none is left alive.
    ///
    /// Once is not enough: a process that forks while the list is read leaves one that is not in
    /// it. The dead that are children of this process are reaped.
    pub fn kill_all(&self, root: Option<u32>) {
        let start = Instant::now();
        while start.elapsed() < KILLING {
            let (alive, dead): (Vec<_>, Vec<_>) = self
                .processes(root)
                .into_iter()
                .partition(Process::is_alive);
            for process in &alive {
                let _ = kill(pid_of(process), Signal::SIGKILL);
            }
            dead.iter().for_each(reap);
            if alive.is_empty() {
                return;
            }
            pause(Duration::from_millis(2));
        }
        eprintln!("some processes of the scenario outlived SIGKILL");
    }

    fn marks(&self, pid: u32) -> bool {
        processes::variable(pid, VARIABLE).is_some_and(|value| within(&value, &self.value))
    }
}

/// Reaps a dead child of this process. Others are left to their parents.
fn reap(process: &Process) {
    if process.parent == std::process::id() {
        let _ = waitpid(pid_of(process), Some(WaitPidFlag::WNOHANG));
    }
}

/// The process in the type that signals are sent with.
fn pid_of(process: &Process) -> Pid {
    Pid::from_raw(process.pid.cast_signed())
}

/// Whether `value` is the mark `outer` or the mark of a run inside it.
fn within(value: &str, outer: &str) -> bool {
    let rest = value.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
