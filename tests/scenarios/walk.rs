//! A walk over the system calls of the parent and of a child, from the start to the end of a shutdown:
//! each fails with its likely errnos, and at each the process is killed. strace injects it.
//!
//! After any failure: no orphan, no hang, no panic, the address is free, and either every client
//! was served or the program ended with a typed error. A failure of a child never ends the server:
//! all clients are served then and the server ends with success.
//!
//! `walking` says how the points are chosen, by `WALK`.
//!
//! Left out is what comes before `main` (the loader's calls). Where Rust's allocator gets no memory the
//! process ends by SIGABRT, which is no typed error; the rest must hold then all the same. Calls that
//! get no error are listed with the reason in `strace/calls.rs`. A socket file may be left by a parent
//! that was killed, or that could not remove it: then a server that is started again must take it over.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use crate::strace;
use crate::strace::{Fault, Point, Role, Trace};
use crate::support::{Address, Scenarios, Signal, World, port_is_free, scenarios};
use crate::walking::{HANG, Run, Walk, clear, walk_all};

pub mod upgrade;

pub const SCENARIOS: Scenarios = scenarios![
    the_parent_survives_or_says_why,
    a_child_is_replaced: long,
    the_parent_at_a_unix_socket_survives_or_says_why,
    a_child_at_a_unix_socket_is_replaced,
    an_upgrade_is_done_or_undone: long,
    an_upgrade_to_a_bad_program_is_undone,
    a_trial_changes_nothing: long,
];

/// How many points of each role are walked unless `WALK` says otherwise.
const SAMPLE: usize = 30;

/// As the status of a process has it.
const SIGTERM: i32 = Signal::SIGTERM as i32;

// ---- The scenarios ----

fn the_parent_survives_or_says_why(world: &mut World) {
    walk(world, Role::Parent);
}

fn a_child_is_replaced(world: &mut World) {
    walk(world, Role::Child);
}

fn the_parent_at_a_unix_socket_survives_or_says_why(world: &mut World) {
    walk(world, Role::UnixParent);
}

fn a_child_at_a_unix_socket_is_replaced(world: &mut World) {
    walk(world, Role::UnixChild);
}

fn an_upgrade_is_done_or_undone(world: &mut World) {
    walk(world, Role::Upgrade);
}

fn an_upgrade_to_a_bad_program_is_undone(world: &mut World) {
    walk(world, Role::WayBack);
}

fn a_trial_changes_nothing(world: &mut World) {
    walk(world, Role::Trial);
}

fn walk(world: &mut World, role: Role) {
    let walk = Walk {
        role,
        // Three children fail in each run of it, which takes some seconds.
        sample: if role == Role::WayBack {
            SAMPLE / 3
        } else {
            SAMPLE
        },
        unharmed: "served",
        run: if role.is_upgrade() { upgrade::run } else { run },
        judge,
    };
    walk_all(world, &walk);
}

// ---- One run ----

/// Where the servers at a UNIX socket listen, one after the other.
fn socket_path(world: &World) -> PathBuf {
    world.tempdir().join("socket")
}

/// Starts the program, has it traced, serves its clients and stops it.
fn run(world: &mut World, role: Role, point: Option<&Point>) -> Run {
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
        Trace::newborn(world, server.pid(), || gate.open(), &arguments)
    };
    Run::new(role, server, None).complete(world, point, trace)
}

/// What a run came to, and what came after it.
fn judge(world: &mut World, run: &Run, point: Option<&Point>) -> Result<&'static str, String> {
    let Some(point) = point else {
        return run.outcome();
    };
    let judged = run.judge(point);
    clear(world);
    let judged = judged.and_then(|outcome| restart(world, point, run).map(|()| outcome));
    if judged.is_err() {
        // The next one is not to find it.
        let _ = std::fs::remove_file(socket_path(world));
    }
    judged
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

impl Run {
    /// What the run came to, in a word; or what is wrong with it.
    fn judge(&self, point: &Point) -> Result<&'static str, String> {
        let outcome = self.outcome();
        if !self.log.injected {
            // The calls of a run are not quite those of the recorded one.
            return outcome.map(|_| "not reached");
        }
        let status = self.status;
        if point.role.executes() && point.fault != Fault::Kill {
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
            (true, Fault::Errno(_)) if self.is_stds_panic(point) => {
                self.fault_or("std's panic at a directory")
            }
            (true, Fault::Errno(_)) => outcome,
            (false, _) => {
                outcome.and_then(|outcome| Err(self.report(&format!("only {outcome:?}"))))
            }
            (true, Fault::Kill) => outcome,
        }
    }

    /// std's ReadDir panics if closedir(3) fails, which it does not for a directory of /proc. It is read
    /// before the first fork.
    fn is_stds_panic(&self, point: &Point) -> bool {
        point.call == "close" && self.stderr_tells("error during closedir")
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
}
