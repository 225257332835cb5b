//! strace over the processes of a server: what they call, and faults injected into their calls.
//!
//! It attaches to processes that stand still, at a gate or right after their fork, so that its counts
//! begin at a known point. It never starts a server, and never says what an outcome is worth.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what the test files use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod calls;
mod counts;
mod faults;
mod handover;
mod log;
mod points;
mod seed;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Server, World, until};

pub use calls::without_errors;
pub use counts::{Counts, compare};
pub use faults::{Fault, is_memory};
pub use log::{Call, Log};
pub use points::{Point, Role, points};
pub use seed::{sample, seed};

/// How long strace may take to attach or to end.
const SOON: Duration = Duration::from_secs(10);

/// Whether there is no strace that works here; says so.
pub fn is_missing() -> bool {
    let mut command = Command::new("strace");
    let quiet = command
        .args(["-o", "/dev/null", "true"])
        .stderr(Stdio::null());
    let works = quiet.status().is_ok_and(|status| status.success());
    if !works {
        eprintln!("skipped: it takes strace, and the permission to trace");
    }
    !works
}

/// strace on one process, or on several.
#[derive(Debug)]
pub struct Trace {
    pid: u32,
    strace: Server,
    log: PathBuf,
}

impl Trace {
    /// Attaches to `pid`, with these arguments besides; it follows the forks if they say so.
    #[track_caller]
    pub fn attach(world: &mut World, pid: u32, arguments: &[String]) -> Self {
        let log = world.tempdir().join(format!("{pid}.strace"));
        let launch = world.command("strace").arg("-o").arg(&log);
        let launch = launch.args(&["-p", &pid.to_string()]);
        let strace = arguments
            .iter()
            .fold(launch, |launch, argument| launch.arg(argument))
            .spawn();
        // It interrupts the process before it says so: what has not run by now is counted.
        let attached = format!("Process {pid} attached");
        strace.expect_stderr(&attached, |text| text.contains(&attached));
        Self { pid, strace, log }
    }

    /// Lets a process `go` on, which then forks, and attaches to its first child before that has run.
    #[track_caller]
    pub fn newborn(
        world: &mut World,
        parent: u32,
        go: impl FnOnce(),
        arguments: &[String],
    ) -> Self {
        let child = handover::newborn(parent, go);
        let trace = Self::attach(world, child, arguments);
        // It may have been killed meanwhile.
        let _ = kill(Pid::from_raw(child.cast_signed()), Signal::SIGCONT);
        trace
    }

    /// Whom it was attached to.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until everybody who was traced has ended, and reads what there is to read.
    #[track_caller]
    pub fn finish(self) -> Log {
        until("strace to end", SOON, || self.strace.try_wait());
        let text = fs::read(&self.log).unwrap_or_default();
        // There may be thousands of them.
        let _ = fs::remove_file(&self.log);
        Log::parse(&String::from_utf8_lossy(&text))
    }

    /// Whether strace has ended: no process that it traced is left.
    pub fn has_ended(&self) -> bool {
        self.strace.try_wait().is_some()
    }
}
