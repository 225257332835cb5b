//! Processes of the benchmark's own executable that play a role, and their end. Measures nothing.

use super::{beside, numbers, pid, proc};
use nix::sys::signal::{Signal, kill};
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A process that plays a role. It and its children always end with the benchmark.
pub(crate) struct Actor {
    process: process::Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Actor {
    pub(crate) fn spawn(role: &[&str]) -> Self {
        Self::spawn_from(&env::current_exe().expect("our own path"), role)
    }

    /// Like `spawn`, from the same benchmark of another build.
    pub(crate) fn spawn_from(program: &Path, role: &[&str]) -> Self {
        Self::of(Command::new(program).arg("--role").args(role))
    }

    /// Like `spawn_from`, with another nice value.
    pub(crate) fn spawn_nice(niceness: i32, program: &Path, role: &[&str]) -> Self {
        let mut command = Command::new("nice");
        let command = command.args(["-n", &niceness.to_string()]);
        Self::of(command.arg(program).arg("--role").args(role))
    }

    fn of(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        Self {
            process,
            stdin,
            stdout,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next line that it prints; the benchmark fails at its end of output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.stdout.read_line(&mut line).expect("read");
        assert!(count > 0, "process {} has ended too early", self.pid());
        line.trim_end().to_owned()
    }

    /// Writes a byte to it, and returns the line of figures that it answers.
    pub(crate) fn ask(&mut self) -> Vec<u64> {
        let stdin = self.stdin.as_mut().expect("open");
        stdin.write_all(b"?").expect("write");
        stdin.flush().expect("flush");
        numbers(&self.line())
    }

    /// Sends SIGTERM and says how long it took to end.
    pub(crate) fn terminate(mut self) -> Duration {
        let start = Instant::now();
        kill(pid(self.process.id()), Signal::SIGTERM).expect("kill");
        self.process.wait().expect("wait");
        start.elapsed()
    }

    /// All its processes, itself first.
    pub(crate) fn tree(&self) -> Vec<u32> {
        proc::tree(self.pid())
    }

    /// Waits until it has `count` children that sleep.
    pub(crate) fn settle(&self, count: usize) {
        let patience = Duration::from_secs(60)
            + Duration::from_millis(20) * u32::try_from(count).expect("a count");
        let deadline = Instant::now() + patience;
        while proc::tree(self.pid()).len() <= count {
            assert!(Instant::now() < deadline, "{count} children never came");
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.process.try_wait() {
            return;
        }
        // Its children end by themselves when it does; these signals are for those that do not.
        let children = self.tree().split_off(1);
        self.stdin = None;
        let _ = kill(pid(self.process.id()), Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !matches!(self.process.try_wait(), Ok(Some(_))) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if let Ok(Some(status)) = self.process.try_wait()
            && status.code().is_some()
        {
            return; // An orderly end: there is nobody left.
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The kernel ends the children of the bare servers with their parent; no pid is signalled
        // that another process may have by now.
        let deadline = Instant::now() + Duration::from_secs(10);
        while children.iter().any(|&child| is_ours(child)) {
            if Instant::now() > deadline {
                eprintln!("children of process {} are still there", self.process.id());
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn is_ours(pid: u32) -> bool {
    let exe = fs::read_link(format!("/proc/{pid}/exe"));
    exe.is_ok_and(|exe| env::current_exe().is_ok_and(|own| own == exe) || beside().contains(&exe))
}
