//! The hooks of the program: in the parent they write down what happens, in the child they do what
//! the flags ask for. Each calls its default.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid, setgid, setuid};
use prefork_server::{
    Child, ChildId, Death, Line, Monitor, Operation, PreForkHooks, Reason, Start, State, States,
    defaults,
};

use super::journal::line;
use super::{misdeeds, seccomp};
use crate::support::{Args, gate};

/// Writes a line to the parent's stdout for whatever happens to a child.
#[derive(Clone, Debug)]
pub struct Journal {
    args: Args,
    forks: usize,
    panicked: bool,
    /// The dead whose names are kept for too long.
    stale: Vec<ChildId>,
}

impl Journal {
    pub fn new(args: &Args) -> Self {
        Self {
            args: args.clone(),
            forks: 0,
            panicked: false,
            stale: Vec::new(),
        }
    }

    /// What a letter on stdin asks for.
    fn obey(&self, monitor: &mut Monitor, command: u8) {
        let youngest = monitor.children().map(Child::id).max();
        match (command, youngest) {
            // Another child.
            (b'f', _) => drop(monitor.fork()),
            (b's', _) => monitor.shutdown(),
            // The youngest is told to stop.
            (b'r', Some(youngest)) => {
                monitor.kill(youngest, prefork_server::Signal::Interrupt);
                monitor.retire(youngest, Reason::Asked);
            }
            // The oldest free children are culled, but two.
            (b'c', _) => {
                monitor.set_max_spare_servers(2);
                monitor.post("forkoff");
            }
            _ => panic!("no such command: {command}"),
        }
    }

    /// A process of the program's own, from its start to its end, between two deaths of children.
    fn run_a_helper(&self, monitor: &mut Monitor) {
        let status = Command::new("sh").args(["-c", "exit 7"]).status();
        note(monitor, "helper", 0, &format!("{status:?}"));
    }

    fn names_a_file(&self, flag: &str) -> bool {
        let path = self.args.value(flag);
        path.is_some_and(|path| Path::new(path).exists())
    }

    /// What the flags make of the child; it may not return.
    fn misbehave(&self) -> io::Result<()> {
        if self.names_a_file("--fail-while") {
            return Err(io::Error::other("no database today"));
        }
        if self.names_a_file("--misdeed-while") {
            misdeeds::commit(self.args.value("--misdeed").unwrap())?;
        }
        if self.names_a_file("--exec-while") {
            let command = self.args.value("--exec").unwrap_or("exec sleep 1000");
            return Err(Command::new("sh").args(["-c", command]).exec());
        }
        if self.args.has("--stuck") {
            loop {
                std::hint::spin_loop();
            }
        }
        if let Some(id) = self.args.parsed("--become") {
            setgid(Gid::from_raw(id))?;
            setuid(Uid::from_raw(id))?;
        }
        if self.args.has("--deaf") {
            let mut deaf = SigSet::empty();
            deaf.add(Signal::SIGINT);
            deaf.thread_block()?;
        }
        Ok(())
    }
}

fn note(monitor: &mut Monitor, event: &str, pid: u32, rest: &str) {
    let text = line(monitor.now().since_start(), event, pid, rest);
    monitor.print_stdout(text);
}

fn note_child(monitor: &mut Monitor, event: &str, child: ChildId) {
    let pid = monitor.child(child).map_or(0, Child::pid);
    note(monitor, event, pid, "");
}

fn record_pid(monitor: &Monitor, child: ChildId) -> u32 {
    monitor.child(child).map_or(0, Child::pid)
}

/// What is known of a death, in the form that `journal::Report` reads.
fn report_of(death: &Death) -> String {
    let micros = |time: Duration| time.as_micros();
    let stuck = death.stuck().map(ToString::to_string);
    let usage = death.usage();
    let lines: Vec<_> = death.last_lines().map(String::from_utf8_lossy).collect();
    format!(
        "age={} connections={} epoch={} in-hand={} cpu={} memory={} stuck={:?} lines={lines:?}",
        micros(death.age()),
        death.connections(),
        death.epoch(),
        death.in_hand_for().map_or(0, micros),
        usage.map_or(0, |usage| micros(usage.cpu_time())),
        usage.map_or(0, |usage| usage.max_resident),
        stuck.unwrap_or_default(),
    )
}

fn state(monitor: &Monitor, child: ChildId) -> Option<State> {
    monitor.child(child).map(Child::state)
}

/// The state that reads commands.
const COMMAND: &str = "command";

impl PreForkHooks for Journal {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        if self.args.has("--commanded") {
            states.add(COMMAND);
            let watched = states.select_read(io::stdin(), COMMAND);
            watched.expect("a stdin to watch");
        }
    }

    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        if state != COMMAND {
            return defaults::handler_state(self, monitor, state);
        }
        let mut commands = [0; 256];
        let count = io::stdin().read(&mut commands).expect("commands");
        for &command in &commands[..count] {
            self.obey(monitor, command);
        }
    }

    fn before_fork(&mut self, monitor: &mut Monitor) {
        if self.args.has("--helpers") {
            self.run_a_helper(monitor);
        }
        self.forks += 1;
        if self.args.parsed("--thread-at-fork") == Some(self.forks) {
            spawn_thread();
        }
        if self.args.parsed("--no-fork-after") == Some(self.forks - 1) {
            seccomp::refuse_forks(Errno::EAGAIN).expect("a filter");
        }
    }

    fn server_forked(&mut self, monitor: &mut Monitor, child: ChildId) {
        if self.args.has("--block-sigchld") {
            // Each time: the framework opens the mask when it comes to need the signal.
            let mut deaf = SigSet::empty();
            deaf.add(Signal::SIGCHLD);
            deaf.thread_block().expect("a mask");
        }
        note_child(monitor, "forked", child);
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        gate::pass("start");
        self.misbehave()?;
        defaults::server_start(self, start)
    }

    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        let known = |child: &Child| child.has_acked();
        if !monitor.child(child).is_some_and(known) {
            note_child(monitor, "up", child);
            for dead in self.stale.drain(..) {
                monitor.kill(dead, prefork_server::Signal::Kill);
            }
        }
        defaults::server_ack(self, monitor, child);
    }

    fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        if !self.args.has("--quiet") {
            defaults::server_stdout(self, monitor, child, line);
        }
    }

    fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        let before = state(monitor, child);
        defaults::server_busy(self, monitor, child);
        if state(monitor, child) != before {
            note_child(monitor, "busy", child);
        }
        if self.args.has("--panic-once") && !std::mem::replace(&mut self.panicked, true) {
            panic!("the hook was told to");
        }
    }

    fn server_not_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        let held = |child: &Child| child.has_waited();
        if !monitor.child(child).is_some_and(held) {
            note_child(monitor, "ready", child);
        }
        let before = state(monitor, child);
        defaults::server_not_busy(self, monitor, child);
        if state(monitor, child) != before {
            note_child(monitor, "idle", child);
        }
    }

    fn server_timeout_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        note_child(monitor, "silent-busy", child);
        defaults::server_timeout_busy(self, monitor, child);
    }

    fn server_timeout_free(&mut self, monitor: &mut Monitor, child: ChildId) {
        note_child(monitor, "silent-free", child);
        defaults::server_timeout_free(self, monitor, child);
    }

    fn server_overtime(&mut self, monitor: &mut Monitor, child: ChildId) {
        let record = monitor.child(child).expect("a record");
        let since = record.busy_since().unwrap_or(record.start_time());
        let took = monitor.now().since(since).as_micros().to_string();
        note(monitor, "overtime", record_pid(monitor, child), &took);
        if !self.args.has("--lenient") {
            defaults::server_overtime(self, monitor, child);
        }
    }

    fn handler_server_timeout_check(&mut self, monitor: &mut Monitor) {
        note(monitor, "check", 0, "");
        defaults::handler_server_timeout_check(self, monitor);
    }

    fn handler_server_closed(&mut self, monitor: &mut Monitor, child: ChildId) {
        note_child(monitor, "closed", child);
        defaults::handler_server_closed(self, monitor, child);
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        let how = format!("{:?} {death}", death.cause());
        note(monitor, "death", child.pid(), &report_of(death));
        note(monitor, "exited", child.pid(), &how);
        if self.args.has("--reuse-pids") {
            self.stale.push(child.id());
            let last = (child.pid() - 1).to_string();
            // The kernel counts on from there, so the next process gets the pid of the dead one.
            fs::write("/proc/sys/kernel/ns_last_pid", last).expect("a pid namespace of our own");
        }
        defaults::server_exited(self, monitor, child, death);
    }

    fn fork_failed(&mut self, monitor: &mut Monitor, error: &io::Error, retry_in: Duration) {
        note(monitor, "failed", 0, &retry_in.as_millis().to_string());
        defaults::fork_failed(self, monitor, error, retry_in);
    }

    fn handler_run_error(
        &mut self,
        monitor: &mut Monitor,
        operation: Operation,
        error: &io::Error,
        child: Option<ChildId>,
    ) {
        note(monitor, "error", 0, operation.as_str());
        defaults::handler_run_error(self, monitor, operation, error, child);
    }

    fn reopen_logs(&mut self, monitor: &mut Monitor) {
        note(monitor, "reopen", 0, "");
        defaults::reopen_logs(self, monitor);
    }

    fn handler_shutdown(&mut self, monitor: &mut Monitor) {
        if !monitor.is_child() {
            note(monitor, "shutdown", 0, "");
        }
        defaults::handler_shutdown(self, monitor);
    }
}

/// Starts a thread that does nothing, forever, and waits until it has its name.
pub fn spawn_thread() {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("pesky".to_owned());
    let spawned = thread.spawn(move || {
        tell.send(()).expect("somebody who waits");
        loop {
            std::thread::park();
        }
    });
    spawned.expect("a thread");
    told.recv().expect("a thread that runs");
}
