//! The walk through an upgrade: over the calls of the process that becomes the new program, before and
//! after its exec, and over those of the trial. Injects nothing itself.
//!
//! Whatever fails, either the new program serves or the old one, and the outcome is told; or the server
//! ends with a typed error, or was killed, and nothing is left. A trial changes nothing in any case. The
//! client that is in a child's hands meanwhile gets its answer, unless the server ends because of an error.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::strace::{Fault, Point, Role, Trace};
use crate::support::{Server, Signal, World};
use crate::walked::{BAD, BEGUN, FAILED, UPGRADED, WalkedClient};
use crate::walking::{Run, send};

/// Starts the program, has it become itself under strace, serves clients and stops it.
pub(super) fn run(world: &mut World, role: Role, point: Option<&Point>) -> Run {
    let program = Program::new(world);
    let launch = world.command(&program.path).args(&["--program", "walked"]);
    let server = launch.args(&["--upgrades", "--patience", "10"]).spawn();
    let address = server.address();
    let held = WalkedClient::connect(&address).and_then(WalkedClient::greeted);
    let held = held.expect("a client in hand");
    // One has the client, and one is idle: nothing else is forked until the trial is.
    server.expect_children(2);
    if role == Role::WayBack {
        program.be(BAD);
    }
    let trace = traced(world, role, &server, point);
    let mut run = Run::new(role, server, Some(address));
    run.await_outcome();
    let answered = held.ends_well();
    // In a shutdown because of an error no child is waited for without end.
    let shut_down = run.status.is_some_and(|status| status.code() == Some(1));
    if let (Err(error), false) = (answered, shut_down) {
        run.fault = Some(format!("the client in hand: {error}"));
    }
    run.complete(world, point, trace)
}

/// The file of the program: a link to one of two names of this test, one of which is that of a program
/// whose children fail.
struct Program {
    path: PathBuf,
}

impl Program {
    fn new(world: &World) -> Self {
        let path = world.tempdir().join("program");
        let own = std::env::current_exe().expect("this program");
        for name in ["good", BAD] {
            let name = path.with_file_name(name);
            if !name.exists() {
                // Another name, not another file: it is large. A copy where that is another file system.
                fs::hard_link(&own, &name)
                    .or_else(|_| fs::copy(&own, &name).map(drop))
                    .expect("a program");
            }
        }
        let program = Self { path };
        program.be("good");
        program
    }

    fn be(&self, name: &str) {
        let fresh = self.path.with_extension("new");
        symlink(Path::new(name), &fresh).expect("a link");
        fs::rename(&fresh, &self.path).expect("its place");
    }
}

/// Begins the upgrade under strace, of the process that is meant.
fn traced(world: &mut World, role: Role, server: &Server, point: Option<&Point>) -> Trace {
    let arguments = point.map_or(Vec::new(), Point::arguments);
    let upgrade = || send(server.pid(), Signal::SIGUSR2);
    if role == Role::Trial {
        return Trace::newborn(world, server.pid(), upgrade, &arguments);
    }
    let trace = Trace::attach(world, server.pid(), &arguments);
    upgrade();
    trace
}

impl Run {
    /// Waits until the program says what came of the upgrade, or has ended.
    fn await_outcome(&mut self) {
        let is_over = |said: &str| said.lines().any(|line| [UPGRADED, FAILED].contains(&line));
        self.await_that("in an upgrade", |run| is_over(&run.server.stdout()));
    }

    /// Whether the exec came before the fault; the last call is that one if the process has ended in it.
    fn has_executed(&self, call: &str) -> bool {
        let last = self.log.calls.last();
        let ended_there = last.is_some_and(|last| last.name == call);
        self.log.injected_after("execveat") || ended_there && self.log.worked("execveat") > 0
    }

    /// Which program has served in the end, where there were two.
    pub(super) fn who_served(&self) -> &'static str {
        let said = self.server.stdout();
        match self.role.is_upgrade() {
            false => "served",
            true if said.lines().any(|line| line == UPGRADED) => "the new program served",
            true => "the old program served",
        }
    }

    /// What a run came to in which the process that is upgraded was interfered with.
    pub(super) fn judge_upgrade(&self, point: &Point) -> Result<&'static str, String> {
        let (outcome, status) = (self.outcome(), self.status.unwrap_or_default());
        let said = self.server.stdout();
        match point.fault {
            _ if outcome == Ok("served") => Ok(self.who_served()),
            _ if outcome.is_ok() => outcome,
            // Each exec has begun a program.
            Fault::Errno(_)
                if self.has_executed(&point.call)
                    && begun(&said) == self.log.worked("execveat") =>
            {
                // The loader and the runtime end the process by themselves.
                self.fault_or("ended before main, and nothing left")
            }
            // In the program that has come back: that is its last place.
            Fault::Errno(_) if self.role == Role::WayBack && self.is_stds_panic(point) => {
                self.fault_or("std's panic at a directory")
            }
            Fault::Errno(_)
                if status.code() == Some(71) && self.stderr_tells("cannot take over") =>
            {
                self.fault_or("neither forth nor back, and nothing left")
            }
            _ => outcome,
        }
    }
}

/// How many programs have come as far as main.
fn begun(said: &str) -> usize {
    said.lines().filter(|line| *line == BEGUN).count()
}
