//! A running server process, seen from the scenario.
//!
//! It never stops the process when it is dropped: whatever is left running is for the standing
//! check to report.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::address::Address;
use super::leak;
use super::processes;
use super::wait::{pause, until};

/// For how long a server may take to say where it listens, or to do what `expect_` asks for.
const SOON: Duration = Duration::from_secs(10);

/// What the warning of a call that took long says after its time.
pub const SLOW: &str = " ms, in which the parent did nothing else";

/// A handle to one server process; clones are of the same one.
#[derive(Clone, Debug)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    stdout: Option<PathBuf>,
    stderr: Option<PathBuf>,
    /// Whether the scenario has learnt how the process ended.
    waited: AtomicBool,
    addresses: Mutex<Vec<Address>>,
    /// How many descriptors it held when it had said where it listens, but for those of its children.
    descriptors: Mutex<Option<usize>>,
}

impl Server {
    pub(super) fn new(
        name: String,
        child: Child,
        stdout: Option<PathBuf>,
        stderr: Option<PathBuf>,
    ) -> Self {
        Self(Arc::new(Inner {
            name,
            pid: child.id(),
            child: Mutex::new(child),
            stdout,
            stderr,
            waited: AtomicBool::new(false),
            addresses: Mutex::default(),
            descriptors: Mutex::default(),
        }))
    }

    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Where it listens: waits for a line `listening on ADDRESS` on its stdout.
    #[track_caller]
    pub fn address(&self) -> Address {
        self.addresses(1).remove(0)
    }

    /// The first `count` addresses that it says it listens on.
    #[track_caller]
    pub fn addresses(&self, count: usize) -> Vec<Address> {
        let what = format!("{self} to say `listening on` {count} time(s)");
        let said = until(&what, SOON, || {
            // Whether it has ended is asked first: what it wrote before is then there to be read.
            let ended = self.ended();
            let said = listening_lines(&self.stdout());
            if let (Some(status), true) = (ended, said.len() < count) {
                panic!(
                    "waited for {what}, but it ended with {status}\n{}",
                    self.stderr()
                );
            }
            (said.len() >= count).then(|| said[..count].to_vec())
        });
        lock(&self.0.descriptors).get_or_insert_with(|| leak::own_descriptors(self.0.pid));
        let mut known = lock(&self.0.addresses);
        known.extend(said.iter().cloned());
        known.dedup();
        said
    }

    /// Sends a signal to the process; panics if the scenario knows that it has ended.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        // Under the lock, and refused once it is reaped: the pid may be somebody else's then.
        let mut child = lock(&self.0.child);
        let status = child.try_wait().expect("the status of a child");
        if let Some(status) = status {
            panic!("{signal} for {self}, but it ended with {status}");
        }
        let sent = kill(Pid::from_raw(self.0.pid.cast_signed()), signal);
        sent.unwrap_or_else(|error| panic!("{signal} for {self}: {error}"));
    }

    /// Kills it with SIGKILL and waits for it.
    #[track_caller]
    pub fn kill9(&self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.wait(SOON)
    }

    /// Sends `signal` and waits until the process has ended. Before, it has to hold the descriptors that
    /// it held when it had said where it listens, and those of the children that it has: that part of
    /// the standing check cannot be made once it has ended.
    #[track_caller]
    pub fn stop(&self, signal: Signal, deadline: Duration) -> ExitStatus {
        let before = *lock(&self.0.descriptors);
        if let Some(before) = before {
            leak::expect_none(self, before);
        }
        self.signal(signal);
        self.wait(deadline)
    }

    /// Waits until the process has ended.
    #[track_caller]
    pub fn wait(&self, deadline: Duration) -> ExitStatus {
        until(&format!("{self} to end"), deadline, || self.try_wait())
    }

    /// How the process ended, if it has.
    pub fn try_wait(&self) -> Option<ExitStatus> {
        let status = self.ended();
        if status.is_some() {
            self.0.waited.store(true, Ordering::Relaxed);
        }
        status
    }

    /// What it has written to stdout so far.
    #[track_caller]
    pub fn stdout(&self) -> String {
        self.output(self.0.stdout.as_ref(), "stdout")
    }

    /// How many bytes it has written to stdout so far.
    #[track_caller]
    pub fn stdout_length(&self) -> u64 {
        let path = self.kept(self.0.stdout.as_ref(), "stdout");
        fs::metadata(path).expect("the file of its stdout").len()
    }

    /// What it has written to stdout after so many bytes: what a long run reads again and again.
    #[track_caller]
    pub fn stdout_after(&self, length: u64) -> String {
        let path = self.kept(self.0.stdout.as_ref(), "stdout");
        let mut file = File::open(path).expect("the file of its stdout");
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(length)).expect("its place");
        file.read_to_end(&mut bytes).expect("the rest of it");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it has written to stderr so far.
    #[track_caller]
    pub fn stderr(&self) -> String {
        self.output(self.0.stderr.as_ref(), "stderr")
    }

    /// What it has written to stderr so far, but for the warning of a call that took long: a machine
    /// that lets the parent wait makes each of them long.
    #[track_caller]
    pub fn complaints(&self) -> String {
        let stderr = self.stderr();
        let lines = stderr.split_inclusive('\n');
        lines.filter(|line| !line.contains(SLOW)).collect()
    }

    /// Waits until `is_there` holds for what it has written to stdout, and returns that.
    #[track_caller]
    pub fn expect_stdout(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let what = format!("{what} on the stdout of {self}");
        until(&what, SOON, || {
            Some(self.stdout()).filter(|text| is_there(text))
        })
    }

    /// Waits until `is_there` holds for what it has written to stderr, and returns that.
    #[track_caller]
    pub fn expect_stderr(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let what = format!("{what} on the stderr of {self}");
        until(&what, SOON, || {
            Some(self.stderr()).filter(|text| is_there(text))
        })
    }

    /// Its living direct children, by pid.
    pub fn children(&self) -> Vec<u32> {
        self.children_that(processes::Process::is_alive)
    }

    /// Its dead direct children that it has not reaped, by pid.
    pub fn zombies(&self) -> Vec<u32> {
        self.children_that(|process| process.state == 'Z')
    }

    /// Waits until it has exactly `count` living children, and returns them.
    #[track_caller]
    pub fn expect_children(&self, count: usize) -> Vec<u32> {
        let what = format!("{self} to have {count} children");
        until(&what, SOON, || {
            Some(self.children()).filter(|children| children.len() == count)
        })
    }

    /// Its open descriptors and what each leads to, by number.
    pub fn descriptors(&self) -> Vec<(i32, String)> {
        processes::descriptors(self.0.pid)
    }

    /// Its descriptors once they have stayed the same for a tenth of a second.
    #[track_caller]
    pub fn descriptors_settled(&self) -> Vec<(i32, String)> {
        until(
            &format!("the descriptors of {self} to settle"),
            SOON,
            || {
                let before = self.descriptors();
                let unchanged = (0..5).all(|_| {
                    pause(Duration::from_millis(20));
                    self.descriptors() == before
                });
                unchanged.then_some(before)
            },
        )
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        processes::threads(self.0.pid)
    }

    /// The end of a pipe that was given as [`stdin`](super::Launch::stdin).
    pub fn take_stdin(&self) -> Option<ChildStdin> {
        lock(&self.0.child).stdin.take()
    }

    /// The end of a pipe that was given as [`stdout`](super::Launch::stdout).
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        lock(&self.0.child).stdout.take()
    }

    /// The end of a pipe that was given as [`stderr`](super::Launch::stderr).
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        lock(&self.0.child).stderr.take()
    }

    /// How the process ended, without the scenario having learnt of it.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        lock(&self.0.child)
            .try_wait()
            .expect("the status of a child")
    }

    pub(super) fn was_waited_for(&self) -> bool {
        self.0.waited.load(Ordering::Relaxed)
    }

    pub(super) fn known_addresses(&self) -> Vec<Address> {
        lock(&self.0.addresses).clone()
    }

    /// What stderr holds, if it is a file of the harness.
    pub(super) fn stderr_if_kept(&self) -> String {
        self.0.stderr.as_ref().map_or(String::new(), read)
    }

    fn children_that(&self, wanted: fn(&processes::Process) -> bool) -> Vec<u32> {
        let children = processes::children(self.0.pid).into_iter();
        children.filter(wanted).map(|process| process.pid).collect()
    }

    #[track_caller]
    fn output(&self, path: Option<&PathBuf>, which: &str) -> String {
        read(self.kept(path, which))
    }

    #[track_caller]
    fn kept<'a>(&self, path: Option<&'a PathBuf>, which: &str) -> &'a PathBuf {
        path.unwrap_or_else(|| panic!("the {which} of {self} is not kept in a file"))
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server {:?} (pid {})", self.0.name, self.0.pid)
    }
}

/// The addresses in the complete lines of `stdout`.
fn listening_lines(stdout: &str) -> Vec<Address> {
    let complete = stdout
        .rsplit_once('\n')
        .map_or("", |(complete, _)| complete);
    let addresses = complete
        .lines()
        .filter_map(|line| line.split_once("listening on "));
    addresses
        .map(|(_, rest)| Address::parse(rest.split_whitespace().next().unwrap_or("")))
        .collect()
}

fn read(path: &PathBuf) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The lock, also after a panic of another thread: the data is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
