//! The runner's hold on one running scenario: its limits, and its end if it keeps to none.
//!
//! It trusts nothing that the scenario says but its verdict. It never blocks: the runner asks again
//! and again whether the scenario has finished.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::dump::dump;
use super::marker::{Marker, VARIABLE};
use super::patience::FairClock;
use super::processes::{self, Process};
use super::runner::REPEAT;
use super::world::{directory, own_path};

/// The variable with the scenario's directory.
pub const DIRECTORY: &str = "PREFORK_SCENARIO_DIR";

/// The file that says that a scenario came to its end, checks and all.
pub const VERDICT: &str = "passed";

/// How often the processes of a scenario are counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// How much of the end of a failed scenario's output is shown.
const SHOWN: usize = 256 * 1024;

/// What a scenario may use up. The scenario stores it, the runner keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub deadline: Duration,
    pub processes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            processes: 400,
        }
    }
}

impl Limits {
    /// Tells the runner.
    pub fn store(&self, directory: &Path) {
        let text = format!("{} {}", self.deadline.as_millis(), self.processes);
        // By a rename, so that the runner never reads half of it.
        let path = directory.join("limits");
        let draft = directory.join("limits.new");
        let stored = fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path));
        stored.expect("the limits to be stored");
    }

    fn load(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join("limits")).unwrap_or_default();
        let stored = text.split_once(' ').and_then(|(deadline, processes)| {
            let deadline = Duration::from_millis(deadline.parse().ok()?);
            Some(Self {
                deadline,
                processes: processes.parse().ok()?,
            })
        });
        stored.unwrap_or_default()
    }
}

/// A scenario that runs.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    marker: Marker,
    directory: TempDir,
    /// Where its output goes; `None` if that is the runner's own.
    output: Option<File>,
    clock: FairClock,
    counted: Instant,
    /// Whether it has been reaped: its pid may be somebody else's then.
    ended: bool,
    started: Instant,
    /// The time on a processor of all its processes; known once it has ended.
    busy: Duration,
}

/// What a scenario has taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub time: Duration,
    pub busy: Duration,
}

impl Watch {
    /// Starts the scenario `name`.
    pub fn start(name: &str, capture: bool) -> Self {
        // A run inside a scenario keeps to the directory of that scenario.
        let place = directory().unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::Builder::new()
            .prefix("prefork-")
            .tempdir_in(place);
        let directory = directory.expect("a directory for the scenario");
        let output = capture.then(|| output_file(directory.path()));
        let marker = Marker::fresh();
        let mut command = Command::new(own_path());
        command
            .args(["--scenario", name])
            .env(VARIABLE, marker.value())
            .env(DIRECTORY, directory.path())
            // For this runner only, not for one that the scenario may start.
            .env_remove(REPEAT)
            // Never written to: its end tells the scenario that the runner is gone.
            .stdin(Stdio::piped());
        if let Some(output) = &output {
            let clone = || output.try_clone().expect("a descriptor for the output");
            command.stdout(clone()).stderr(clone());
        }
        let child = command.spawn().expect("the scenario's process to start");
        Self {
            child,
            marker,
            directory,
            output,
            clock: FairClock::start(),
            counted: Instant::now(),
            ended: false,
            started: Instant::now(),
            busy: Duration::ZERO,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has taken so far; the time on a processor is known at the end.
    pub fn cost(&self) -> Cost {
        Cost {
            time: self.started.elapsed(),
            busy: self.busy,
        }
    }

    /// How the scenario ended, if it has: its output, if it failed.
    pub fn finished(&mut self) -> Option<Result<(), String>> {
        self.note_busy();
        let status = self.child.try_wait().expect("the status of the scenario");
        let fault = match status {
            Some(status) => {
                self.ended = true;
                self.fault_at_the_end(status)
            }
            None => Some(self.excess()?),
        };
        Some(fault.map_or(Ok(()), |fault| Err(self.fail(&fault))))
    }

    /// Notes what the kernel has counted for a scenario that has ended, and forgets when it is reaped.
    fn note_busy(&mut self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let id = Id::Pid(Pid::from_raw(self.child.id().cast_signed()));
        if waitid(id, flags).is_ok_and(|status| status != WaitStatus::StillAlive) {
            self.busy = processes::busy(self.child.id());
        }
    }

    /// Clears the scenario away.
    pub fn cancel(mut self) {
        self.kill();
    }

    /// Which limit the running scenario has passed.
    fn excess(&mut self) -> Option<String> {
        if self.counted.elapsed() < COUNT_EVERY {
            return None;
        }
        let limits = Limits::load(self.directory.path());
        // Those that the scenario has adopted are below it. One that no process has is found at the end.
        let mut processes = processes::descendants(self.child.id());
        processes.retain(Process::is_alive);
        self.counted = Instant::now();
        if processes.len() > limits.processes {
            return Some(format!(
                "fork bomb: {} processes, and {} are allowed",
                processes.len(),
                limits.processes
            ));
        }
        let deadline = limits.deadline;
        let late = self.clock.elapsed() > deadline;
        late.then(|| format!("the scenario hangs: it did not end within {deadline:?}"))
    }

    /// What is wrong with a scenario that has ended by itself.
    fn fault_at_the_end(&self, status: ExitStatus) -> Option<String> {
        let left = self.processes();
        if !left.is_empty() {
            let left: Vec<String> = left.iter().map(Process::describe).collect();
            return Some(format!("the scenario left behind: {}", left.join("; ")));
        }
        if !status.success() {
            return Some(format!("the scenario ended with {status}"));
        }
        let passed = self.directory.path().join(VERDICT).exists();
        (!passed).then(|| "the scenario exited before its standing check".to_owned())
    }

    /// Notes the fault, dumps what still runs, clears it away, and returns the output.
    fn fail(&mut self, fault: &str) -> String {
        let mut text = String::new();
        if !self.processes().is_empty() {
            text = dump(&self.marker, self.root(), self.directory.path());
        }
        let _ = writeln!(text, "{fault}");
        self.kill();
        let Some(mut output) = self.output.take() else {
            eprint!("{text}");
            return String::new();
        };
        let _ = output.write_all(text.as_bytes());
        let content = fs::read(self.directory.path().join(OUTPUT)).unwrap_or_default();
        let from = content.len().saturating_sub(SHOWN);
        String::from_utf8_lossy(&content[from..]).into_owned()
    }

    /// Its living processes, the scenario's own among them.
    fn processes(&self) -> Vec<Process> {
        let mut processes = self.marker.processes(self.root());
        processes.retain(Process::is_alive);
        processes
    }

    /// The scenario's own process, while it is sure to be that.
    fn root(&self) -> Option<u32> {
        (!self.ended).then(|| self.child.id())
    }

    fn kill(&mut self) {
        self.marker.kill_all(self.root());
        let _ = self.child.wait();
    }
}

const OUTPUT: &str = "output";

fn output_file(directory: &Path) -> File {
    // Appended to: the runner adds its part to what the scenario has written.
    let file = File::options()
        .create(true)
        .append(true)
        .open(directory.join(OUTPUT));
    file.expect("a file for the scenario's output")
}
