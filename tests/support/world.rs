//! The scenario's process: its isolation, what it can start, and its end.
//!
//! It leads a session of its own and adopts orphans, so that nothing it started escapes it. It
//! never shares a process with another scenario, and never outlives its runner.

use std::fs;
use std::io::Read;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, setsid};

use super::Scenario;
use super::check::standing_check;
use super::dump::dump;
use super::gate::Gate;
use super::launch::{Launch, example};
use super::marker::Marker;
use super::processes::{self, Process};
use super::server::Server;
use super::watch::{DIRECTORY, Limits, VERDICT};

/// Whether a thread of the scenario panicked, other than the one that runs it.
pub(super) static THREAD_PANICKED: AtomicBool = AtomicBool::new(false);

/// What a scenario works with.
#[derive(Debug)]
pub struct World {
    name: String,
    directory: PathBuf,
    limits: Limits,
    pub(super) marker: Marker,
    pub(super) servers: Vec<Server>,
    pub(super) panics_expected: bool,
    pub(super) orphans_expected: bool,
}

impl World {
    /// Starts the program `name` of this test file in a process of its own.
    #[track_caller]
    pub fn spawn(&mut self, name: &str, arguments: &[&str]) -> Server {
        self.program(name).args(arguments).spawn()
    }

    /// Starts the example `name`, which must have been built.
    #[track_caller]
    pub fn run_example(&mut self, name: &str, arguments: &[&str]) -> Server {
        self.example(name).args(arguments).spawn()
    }

    /// The program `name` of this test file, to be started with more than arguments.
    pub fn program(&mut self, name: &str) -> Launch<'_> {
        let mut command = Command::new(own_path());
        command.args(["--program", name]);
        Launch::new(self, name, command)
    }

    /// The example `name`, to be started with more than arguments.
    #[track_caller]
    pub fn example(&mut self, name: &str) -> Launch<'_> {
        let command = Command::new(example(name));
        Launch::new(self, name, command)
    }

    /// Any executable, to be treated as a server.
    pub fn command(&mut self, path: impl AsRef<Path>) -> Launch<'_> {
        let path = path.as_ref();
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        Launch::new(self, &name, Command::new(path))
    }

    /// The name of the scenario.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory for the scenario's files, gone after it; its path is short enough for sockets.
    pub fn tempdir(&self) -> PathBuf {
        let directory = self.directory.join("files");
        if !directory.exists() {
            fs::create_dir(&directory).expect("a directory for the scenario's files");
        }
        directory
    }

    /// Makes a gate at which programs stop that call `gate::pass(name)`.
    pub fn gate(&self, name: &str) -> Gate {
        Gate::create(&self.directory, name)
    }

    /// Sets how long the scenario may take in all; 30 s unless set.
    pub fn deadline(&mut self, deadline: Duration) {
        self.limits.deadline = deadline;
        self.limits.store(&self.directory);
    }

    /// Sets how many processes there may be at once; with more, it counts as a fork bomb. 400
    /// unless set.
    pub fn process_limit(&mut self, processes: usize) {
        self.limits.processes = processes;
        self.limits.store(&self.directory);
    }

    /// Allows panics in the servers' stderr.
    pub fn expect_panics(&mut self) {
        self.panics_expected = true;
    }

    /// Allows servers to exit with success and to leave children that they have not reaped.
    pub fn expect_orphans(&mut self) {
        self.orphans_expected = true;
    }

    /// Living processes that have lost their parent, which makes them children of the scenario.
    pub fn orphans(&self) -> Vec<u32> {
        let adopted = self.adopted().into_iter().filter(Process::is_alive);
        adopted.map(|process| process.pid).collect()
    }

    /// Reaps the adopted processes that are dead, and returns their pids.
    pub fn reap_orphans(&self) -> Vec<u32> {
        let mut dead = self.adopted();
        dead.retain(|process| !process.is_alive());
        let reap = |process: &Process| {
            let pid = Pid::from_raw(process.pid.cast_signed());
            waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_ok()
        };
        dead.iter()
            .filter(|process| reap(process))
            .map(|process| process.pid)
            .collect()
    }

    /// Every living process of the scenario but its own, however it came to be.
    pub fn processes(&self) -> Vec<Process> {
        let mut found = self.marker.processes(Some(std::process::id()));
        found.retain(Process::is_alive);
        found
    }

    /// The children of the scenario that it did not start as servers.
    pub(super) fn adopted(&self) -> Vec<Process> {
        let mut adopted = processes::children(std::process::id());
        adopted.retain(|child| self.servers.iter().all(|server| server.pid() != child.pid));
        adopted
    }

    pub(super) fn adopt(&mut self, server: Server) {
        self.servers.push(server);
    }

    /// Where the outputs of the next server go, without the extension.
    pub(super) fn output_stem(&self, name: &str) -> PathBuf {
        self.directory
            .join(format!("{:03}-{name}", self.servers.len()))
    }
}

/// The directory of the scenario that this process belongs to.
pub(super) fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

/// Runs a scenario in this process, which is there for it alone.
pub(super) fn play(name: &str, scenario: Scenario) -> ExitCode {
    let (Some(marker), Some(directory)) = (Marker::own(), directory()) else {
        eprintln!("a scenario is started by its runner: give its name as an argument");
        return ExitCode::from(2);
    };
    isolate();
    end_with_the_runner(marker.clone(), directory.clone());
    dump_on_panic(marker.clone(), directory.clone());
    let mut world = World {
        name: name.to_owned(),
        directory: directory.clone(),
        limits: Limits::default(),
        marker: marker.clone(),
        servers: Vec::new(),
        panics_expected: false,
        orphans_expected: false,
    };
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        (scenario.run)(&mut world);
        standing_check(&world);
    }));
    if outcome.is_err() {
        marker.kill_all(Some(std::process::id()));
        return ExitCode::from(101);
    }
    fs::write(directory.join(VERDICT), "").expect("the verdict to be written");
    ExitCode::SUCCESS
}

/// Cuts the process off from the terminal, and makes every orphan below it its child.
fn isolate() {
    setsid().expect("a session of the scenario's own");
    set_child_subreaper(true).expect("to adopt orphans");
    setrlimit(Resource::RLIMIT_CORE, 0, 0).expect("a core limit of 0");
}

/// Kills everything when the runner is gone, even by SIGKILL: its end of the pipe closes.
fn end_with_the_runner(marker: Marker, directory: PathBuf) {
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        // The directory goes first: once the servers are dead the scenario may end by itself.
        let _ = fs::remove_dir_all(&directory);
        marker.kill_all(Some(std::process::id()));
        std::process::exit(101);
    });
}

/// Dumps at the moment of a panic: unwinding would close connections and change what is to be seen.
fn dump_on_panic(marker: Marker, directory: PathBuf) {
    let own = thread::current().id();
    let own_pid = Some(std::process::id());
    let standard = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        standard(panic);
        if thread::current().id() == own {
            eprint!("{}", dump(&marker, own_pid, &directory));
        } else {
            THREAD_PANICKED.store(true, Ordering::Relaxed);
        }
    }));
}

/// The path of this executable.
pub(super) fn own_path() -> PathBuf {
    std::env::current_exe().expect("the path of this executable")
}
