//! A walk over the system calls of the parent and of a child, from the start to the end of a shutdown:
//! each fails with its likely errnos, and at each the process is killed. strace injects it.
//!
//! After any failure: no orphan, no hang, no panic, the address is free, and either every client
//! was served or the program ended with a typed error. A failure of a child never ends the server:
//! all clients are served then and the server ends with success.
//!
//! The walk takes a sample of the points, drawn from a seed that changes every day. `WALK=all` takes
//! all of them, `WALK=200` so many, `WALK='parent accept4 1 EMFILE'` one, as a failure names it;
//! `WALK_SEED` gives the seed, and `-- --nocapture` shows what was walked.
//!
//! Left out is what comes before `main` (the loader's calls). Where Rust's allocator gets no memory the
//! process ends by SIGABRT, which is no typed error; the rest must hold then all the same. Calls that
//! get no error are listed with the reason in `strace/calls.rs`. A socket file may be left by a parent
//! that was killed, or that could not remove it: then a server that is started anew must take it over.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::strace;
use crate::strace::{Fault, Log, Point, Role, Trace};
use crate::support::{
    Address, Scenarios, Server, Signal, World, pause, port_is_free, processes, scenarios,
};
use crate::walked::pair;

pub mod upgrade;

pub const SCENARIOS: Scenarios = scenarios![
    the_parent_survives_or_says_why,
    a_child_is_replaced,
    the_parent_at_a_unix_socket_survives_or_says_why,
    a_child_at_a_unix_socket_is_replaced,
    an_upgrade_is_done_or_undone,
    a_trial_changes_nothing,
];

/// How many points of each role are walked unless `WALK` says otherwise.
const SAMPLE: usize = 30;

/// A run takes a tenth of a second, or a few seconds where a timeout is involved: a longer run
/// hangs.
const HANG: Duration = Duration::from_secs(40);

/// As the status of a process has it.
const SIGTERM: i32 = Signal::SIGTERM as i32;

/// The connections of a run, two at a time.
const PAIRS: usize = 2;

// ---- The scenarios ----

fn the_parent_survives_or_says_why(world: &mut World) {
    walk_all(world, Role::Parent);
}

fn a_child_is_replaced(world: &mut World) {
    walk_all(world, Role::Child);
}

fn the_parent_at_a_unix_socket_survives_or_says_why(world: &mut World) {
    walk_all(world, Role::UnixParent);
}

fn a_child_at_a_unix_socket_is_replaced(world: &mut World) {
    walk_all(world, Role::UnixChild);
}

fn an_upgrade_is_done_or_undone(world: &mut World) {
    walk_all(world, Role::Upgrade);
}

fn a_trial_changes_nothing(world: &mut World) {
    walk_all(world, Role::Trial);
}

fn walk_all(world: &mut World, role: Role) {
    if strace::is_missing() {
        return;
    }
    world.deadline(Duration::from_secs(4 * 60 * 60));
    world.expect_orphans();
    // Each run is judged by itself, panics and all; only that of std's, below, is let pass.
    world.expect_panics();
    let Some(points) = chosen(world, role) else {
        return;
    };
    let mut faults = Vec::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let started = Instant::now();
    for point in &points {
        let run = run(world, role, Some(point));
        let outcome = run.judge(point);
        clear(world);
        match outcome.and_then(|outcome| restart(world, point, &run).map(|()| outcome)) {
            Ok(outcome) => {
                if !outcome.ends_with("served") && !outcome.starts_with("killed") {
                    let stderr = run.server.stderr();
                    let why = stderr.lines().last().unwrap_or_default();
                    eprintln!("{point}: {outcome}: {why}");
                }
                *outcomes.entry(outcome).or_default() += 1;
            }
            Err(fault) => {
                let text = format!(
                    "{fault}\n  at: {}\n  alone: WALK='{point}' cargo test --test walk -- --nocapture",
                    point.command()
                );
                eprintln!("{text}");
                faults.push(text);
                // The next one is not to find it.
                let _ = std::fs::remove_file(socket_path(world));
            }
        }
    }
    eprintln!(
        "{role}: {} points walked in {:.0?}, {} failed; {outcomes:?}",
        points.len(),
        started.elapsed(),
        faults.len()
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The points that are to be walked; `None` if none is of this role.
fn chosen(world: &mut World, role: Role) -> Option<Vec<Point>> {
    let wanted = std::env::var("WALK").unwrap_or_default();
    if wanted.contains(' ') && !wanted.starts_with(&format!("{role} ")) {
        return None;
    }
    let recorded = run(world, role, None);
    let outcome = recorded.outcome();
    assert_eq!(outcome, Ok("served"), "with nothing injected");
    // The end is walked without an upgrade.
    let counts = match role.is_upgrade() {
        true => recorded.log.counts_until_stopped(),
        false => recorded.log.counts(),
    };
    let all = strace::points(role, &counts);
    eprintln!("{role}: {} points, of the calls {counts:?}", all.len());
    for (call, _) in counts {
        if let Some(reason) = strace::without_errors(&call) {
            eprintln!("{role}: no error for {call}: it {reason}");
        }
    }
    if wanted == "all" {
        return Some(all);
    }
    if wanted.contains(' ') {
        // The calls of a run are not quite those of another: one that was not recorded may be meant.
        return Some(vec![Point::parse(&wanted).expect("ROLE CALL N FAULT")]);
    }
    let seed = strace::seed();
    let size = wanted.parse().unwrap_or(SAMPLE);
    eprintln!("{role}: WALK_SEED={seed}, {size} points");
    Some(strace::sample(&all, size, seed))
}

// ---- One run ----

/// What came of a run.
struct Run {
    role: Role,
    server: Server,
    address: Option<Address>,
    status: Option<ExitStatus>,
    /// Whether every client got its answer.
    served: bool,
    log: Log,
    /// What went wrong whatever was injected.
    fault: Option<String>,
}

/// Where the servers at a UNIX socket listen, one after the other.
fn socket_path(world: &World) -> PathBuf {
    world.tempdir().join("socket")
}

/// A server that could not remove its socket file leaves it to its successor.
fn restart(world: &mut World, point: &Point, before: &Run) -> Result<(), String> {
    let path = Address::Unix(socket_path(world));
    if !point.role.is_unix() || port_is_free(&path) {
        return Ok(());
    }
    let about_the_file = ["newfstatat", "statx", "lstat", "unlink", "unlinkat"];
    // The signals are the program's again a moment before the file is removed.
    let was_ended = before.status.and_then(|status| status.signal()).is_some();
    if !was_ended && !about_the_file.contains(&point.call.as_str()) {
        return Err("the socket file is left".to_owned());
    }
    let again = run(world, point.role, None);
    match again.outcome()? {
        "served" if port_is_free(&path) => Ok(()),
        outcome => Err(again.report(&format!("the restart: {outcome}"))),
    }
}

/// Starts the program, has it traced, serves its clients and stops it.
fn run(world: &mut World, role: Role, point: Option<&Point>) -> Run {
    if role.is_upgrade() {
        return upgrade::run(world, role, point);
    }
    let arguments = point.map_or(Vec::new(), Point::arguments);
    let mut gate = world.gate("walk");
    let path = socket_path(world);
    let mut flags = Vec::new();
    if role.is_unix() {
        flags.extend(["--unix", path.to_str().expect("a path of text")]);
    }
    if !role.is_parent() {
        // One child has to do everything, and its replacement what is left.
        flags.extend(["--max-clients", "1"]);
    }
    let server = world.spawn("walked", &flags);
    gate.reached(HANG);
    let trace = if role.is_parent() {
        let trace = Trace::attach(world, server.pid(), &arguments);
        gate.open();
        trace
    } else {
        let child = strace::newborn(&server, || gate.open());
        let trace = Trace::attach(world, child, &arguments);
        send(child, Signal::SIGCONT);
        trace
    };
    let start = Instant::now();
    let run = Run {
        role,
        address: None,
        status: None,
        served: false,
        log: Log::default(),
        fault: None,
        server,
    };
    run.complete(world, point, trace, start)
}

impl Run {
    /// Serves clients, stops the server, and looks at what is left.
    fn complete(
        mut self,
        world: &World,
        point: Option<&Point>,
        trace: Trace,
        start: Instant,
    ) -> Self {
        if self.fault.is_none() {
            self.serve(start);
            self.stop(start);
        }
        if self.fault.is_none() {
            // It says that somebody else has reaped the child, and nobody has.
            let is_lie = point.is_some_and(|point| point.fault == Fault::Errno("ECHILD"));
            self.look_for_orphans(world, &trace, is_lie);
        }
        if self.fault.is_some() {
            // Not before: a process that hangs is to be seen as it is.
            clear(world);
        }
        self.log = trace.finish();
        self
    }

    /// Serves all clients, unless the server ends first.
    fn serve(&mut self, start: Instant) {
        while !self.has_ended() {
            let said = self.server.stdout();
            if let Some(address) = said
                .lines()
                .find_map(|line| line.strip_prefix("listening on "))
            {
                self.address = Some(Address::parse(address));
                break;
            }
            if start.elapsed() > HANG {
                return self.hangs("before it listens");
            }
            pause(Duration::from_millis(2));
        }
        let Some(address) = self.address.clone() else {
            return;
        };
        let mut left = PAIRS;
        while left > 0 && !self.has_ended() {
            match pair(&address, self.role.serves_two()) {
                Ok(()) => left -= 1,
                Err(_) if start.elapsed() < HANG => pause(Duration::from_millis(2)),
                Err(error) => return self.hangs(&format!("while clients wait: {error}")),
            }
        }
        self.served = left == 0;
        self.settle();
    }

    /// Gives the parent the time to cull, so that this is walked too. Nothing depends on it.
    fn settle(&self) {
        let start = Instant::now();
        while self.role.is_parent()
            && start.elapsed() < Duration::from_millis(500)
            && processes::children(self.server.pid()).len() > 2
        {
            pause(Duration::from_millis(2));
        }
    }

    fn stop(&mut self, start: Instant) {
        if !self.has_ended() && self.fault.is_none() {
            send(self.server.pid(), Signal::SIGTERM);
        }
        while self.fault.is_none() && !self.has_ended() {
            if start.elapsed() > 2 * HANG {
                self.hangs("in the shutdown");
            }
            pause(Duration::from_millis(2));
        }
    }

    /// A server that ended well has reaped its children; after any other end they leave by themselves.
    fn look_for_orphans(&mut self, world: &World, trace: &Trace, zombies_allowed: bool) {
        let reaped = world.reap_orphans();
        let well = self.status.is_some_and(|status| status.success());
        let well = well && !zombies_allowed;
        let start = Instant::now();
        loop {
            let left = world.processes();
            if well && !(reaped.is_empty() && world.orphans().is_empty()) {
                self.fault = Some("a server exited without reaping".to_owned());
                return;
            }
            if left.is_empty() && trace.has_ended() {
                break;
            }
            if start.elapsed() > HANG {
                let left: Vec<String> = left.iter().map(processes::Process::describe).collect();
                self.fault = Some(format!("orphans: {}", left.join("; ")));
                return;
            }
            world.reap_orphans();
            pause(Duration::from_millis(2));
        }
        world.reap_orphans();
        if let Some(address @ Address::Tcp(_)) = &self.address
            && !port_is_free(address)
        {
            self.fault = Some(format!("{address} is not free"));
        }
    }

    fn has_ended(&mut self) -> bool {
        self.status = self.status.or_else(|| self.server.try_wait());
        self.status.is_some()
    }

    fn hangs(&mut self, when: &str) {
        let mut all = processes::descendants(self.server.pid());
        all.extend(processes::Process::read(self.server.pid()));
        let all: Vec<String> = all.iter().map(processes::Process::describe).collect();
        self.fault = Some(format!("it hangs {when}: {}", all.join("; ")));
    }

    /// What the run came to, in a word; or what is wrong with it.
    fn judge(&self, point: &Point) -> Result<&'static str, String> {
        let outcome = self.outcome();
        if !self.log.injected {
            // The calls of a run are not quite those of the recorded one.
            return outcome.map(|_| "not reached");
        }
        let status = self.status;
        if point.role == Role::Upgrade && point.fault != Fault::Kill {
            return self.judge_upgrade(point);
        }
        let signal = status.and_then(|status| status.signal());
        match (point.role.is_parent(), point.fault) {
            _ if outcome == Ok("served") => Ok(self.who_served()),
            (true, Fault::Kill) if signal == Some(Signal::SIGKILL as i32) => {
                self.fault_or("killed, and nothing left")
            }
            (true, Fault::Errno(_))
                if strace::is_memory(&point.call) && signal == Some(Signal::SIGABRT as i32) =>
            {
                self.fault_or("no memory")
            }
            // std's ReadDir panics if closedir(3) fails, which it does not for a directory of /proc. It
            // is read before the first fork.
            (true, Fault::Errno(_))
                if point.call == "close" && self.stderr_tells("error during closedir") =>
            {
                self.fault_or("std's panic at a directory")
            }
            (true, Fault::Errno(_)) => outcome,
            (false, _) => {
                outcome.and_then(|outcome| Err(self.report(&format!("only {outcome:?}"))))
            }
            (true, Fault::Kill) => outcome,
        }
    }

    fn fault_or(&self, outcome: &'static str) -> Result<&'static str, String> {
        self.fault
            .as_ref()
            .map_or(Ok(outcome), |fault| Err(self.report(fault)))
    }

    /// What the run came to by itself: everybody served, or a typed error.
    fn outcome(&self) -> Result<&'static str, String> {
        self.fault_or("")?;
        let stderr = self.server.stderr();
        // std panics before main where it gets no memory, and at closedir(3), which leads back.
        let of_std = [
            "fatal runtime error: initialization",
            "error during closedir",
        ];
        let of_std = of_std.iter().any(|text| stderr.contains(text));
        let panics = stderr.contains("panicked") && !(self.role.is_upgrade() && of_std);
        if panics || self.server.stdout().contains("panicked") {
            return Err(self.report("a panic"));
        }
        let status = self.status.unwrap_or_default();
        let said_why = stderr.contains("error: ");
        match (status.code(), status.signal()) {
            (Some(0), _) if self.served => Ok("served"),
            (Some(1), _) if said_why => Ok("a typed error"),
            // It had shut down because of that error, and the signals were the program's again, when
            // it was told to stop.
            (_, Some(SIGTERM)) if said_why => Ok("a typed error"),
            _ => Err(self.report("neither served nor a typed error")),
        }
    }

    fn stderr_tells(&self, text: &str) -> bool {
        self.server.stderr().contains(text)
    }

    fn report(&self, fault: &str) -> String {
        format!(
            "{fault} (served: {}, status: {:?})\n---- stdout\n{}---- stderr\n{}----",
            self.served,
            self.status,
            self.server.stdout(),
            self.server.stderr()
        )
    }
}

fn send(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

/// Ends what a failed run has left, so that the next begins with nothing.
fn clear(world: &World) {
    loop {
        world.reap_orphans();
        let left = world.processes();
        if left.is_empty() {
            return;
        }
        for process in left {
            send(process.pid, Signal::SIGKILL);
        }
        pause(Duration::from_millis(2));
    }
}
