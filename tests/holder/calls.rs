//! A walk over the system calls of the holder and of its parents: each fails with its likely errnos, and
//! at each the process is killed. strace injects it; `walking` says how the points are chosen, by `WALK`.
//!
//! A holder that is killed takes all with it. A parent that is killed is followed by another, with the
//! same children. What fails in the holder either costs nothing or ends the server with a typed error,
//! before there is a parent. What fails in a parent costs nothing, has another parent take over, or ends
//! the server with a typed error, as without a holder. The client in hand is answered in all other cases.
//! A child, from its fork through the death of its parent, costs no other child anything.

mod program;

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::strace::{self, Fault, Point, Role, Trace};
use crate::support::{Gate, Programs, Scenarios, Signal, World, pause, processes, scenarios};
use crate::walked::WalkedClient;
use crate::walking::{HANG, Run, Walk, send, walk_all};

pub const PROGRAMS: Programs = program::PROGRAMS;

pub const SCENARIOS: Scenarios = scenarios![
    a_holder_goes_on_or_ends_all,
    a_holder_that_gives_up_ends_all,
    a_first_parent_serves_or_another_one_does,
    a_parent_takes_over_or_another_one_does,
    a_child_whose_parent_is_killed_serves_or_is_replaced,
];

const GIVEN_UP: &str = "given up, and nothing left";

/// How long something is waited for on which nothing depends.
const MOMENT: Duration = Duration::from_millis(300);

fn a_holder_goes_on_or_ends_all(world: &mut World) {
    walk(world, Role::Holder, 10, "served");
}

fn a_holder_that_gives_up_ends_all(world: &mut World) {
    walk(world, Role::GivingUp, 4, GIVEN_UP);
}

fn a_first_parent_serves_or_another_one_does(world: &mut World) {
    walk(world, Role::FirstParent, 8, "served");
}

fn a_parent_takes_over_or_another_one_does(world: &mut World) {
    walk(world, Role::NextParent, 10, "served");
}

fn a_child_whose_parent_is_killed_serves_or_is_replaced(world: &mut World) {
    walk(world, Role::HeldChild, 8, "served");
}

fn walk(world: &mut World, role: Role, sample: usize, unharmed: &'static str) {
    let walk = Walk {
        role,
        sample,
        unharmed,
        run,
        judge,
    };
    walk_all(world, &walk);
}

// ---- One run ----

fn run(world: &mut World, role: Role, point: Option<&Point>) -> Run {
    let arguments = point.map_or(Vec::new(), Point::arguments);
    let mut gate = world.gate("split");
    let mut flags = vec!["--patience", "4"];
    if role == Role::GivingUp {
        flags.push("--dies-at-takeover");
    }
    let run = Run::new(role, world.spawn("walked_held", &flags), None);
    gate.reached(HANG);
    match role {
        Role::GivingUp => run.give_up(world, gate, point, &arguments),
        Role::NextParent => run.take_over(world, gate, point, &arguments),
        Role::HeldChild => run.outlive(world, gate, point, &arguments),
        Role::FirstParent => {
            let trace = Trace::newborn(world, run.server.pid(), || gate.open(), &arguments);
            run.live(world, point, trace)
        }
        _ => {
            let trace = Trace::attach(world, run.server.pid(), &arguments);
            gate.open();
            run.live(world, point, trace)
        }
    }
}

impl Run {
    /// From the first parent to a stop; under a holder that is traced, with two parents more.
    fn live(mut self, world: &World, point: Option<&Point>, trace: Trace) -> Self {
        let held = self.begin();
        if self.role == Role::Holder {
            self.replace_parent(&self.children());
        }
        self.go_on(held);
        if self.role == Role::Holder {
            // The program leaves it, so that the holder passes it on and the parent ends by it.
            send(self.server.pid(), Signal::SIGALRM);
            await_briefly(|| self.said("parent ") > 2);
        }
        self.complete(world, point, trace)
    }

    /// From the start of the second parent to a stop.
    fn take_over(
        mut self,
        world: &mut World,
        gate: Gate,
        point: Option<&Point>,
        arguments: &[String],
    ) -> Self {
        gate.open();
        let held = self.begin();
        let before = self.children();
        let kill = || send(self.parent(), Signal::SIGKILL);
        let trace = Trace::newborn(world, self.server.pid(), kill, arguments);
        self.await_that("in a takeover", |run| run.said("parent ") > 1);
        self.expect_alive(&before);
        self.go_on(held);
        self.complete(world, point, trace)
    }

    /// From the fork of a child through the death of its parent to a stop.
    fn outlive(
        mut self,
        world: &mut World,
        gate: Gate,
        point: Option<&Point>,
        arguments: &[String],
    ) -> Self {
        gate.open();
        let held = self.begin();
        let idle = self.idle_child().expect("nothing is injected yet");
        let mut others = self.children();
        others.retain(|pid| *pid != idle);
        let kill = || send(idle, Signal::SIGKILL);
        let trace = Trace::newborn(world, self.parent(), kill, arguments);
        let child = trace.pid();
        self.await_that("before the child waits for clients, or is gone", |_| {
            processes::waits_in_epoll(child) || !processes::is_alive(child)
        });
        self.replace_parent(&others);
        self.go_on(held);
        self.complete(world, point, trace)
    }

    /// From the death of a parent that no other follows to the end.
    fn give_up(
        mut self,
        world: &mut World,
        gate: Gate,
        point: Option<&Point>,
        arguments: &[String],
    ) -> Self {
        gate.open();
        // Its child has to be killed in the end.
        let held = self.begin();
        let trace = Trace::attach(world, self.server.pid(), arguments);
        send(self.parent(), Signal::SIGKILL);
        self.await_that("while it gives up", |_| false);
        drop(held);
        self.end(world, point, trace)
    }

    /// Waits for the first parent, and has a client in hand and an idle child then.
    fn begin(&mut self) -> Option<WalkedClient> {
        let start = Instant::now();
        self.await_that("before it has a parent", |run| {
            run.find_address();
            run.address.is_some() && run.said("parent ") > 0
        });
        let address = self.address.clone()?;
        let mut held = None;
        while held.is_none() && !self.has_ended() && start.elapsed() < HANG {
            held = WalkedClient::connect(&address)
                .and_then(WalkedClient::greeted)
                .ok();
        }
        // One that has not come so far may end with its parent.
        self.await_that("before a second child waits for clients", |run| {
            run.children().len() == 2 && run.idle_child().is_some()
        });
        held
    }

    fn idle_child(&self) -> Option<u32> {
        let mut idle = self.children().into_iter();
        idle.find(|pid| processes::waits_in_epoll(*pid))
    }

    /// Kills the parent, and waits for another one that has these children.
    fn replace_parent(&mut self, children: &[u32]) {
        if !self.has_ended() && self.fault.is_none() {
            send(self.parent(), Signal::SIGKILL);
            self.await_that("without a parent", |run| run.said("parent ") > 1);
            self.expect_alive(children);
        }
    }

    /// The client in hand is answered, a signal is passed on, and a child dies.
    fn go_on(&mut self, held: Option<WalkedClient>) {
        let answered = held.map_or(Ok(()), WalkedClient::ends_well);
        if let Err(error) = answered {
            self.loss = Some(format!("the client in hand: {error}"));
        }
        if self.has_ended() || self.fault.is_some() {
            return;
        }
        send(self.server.pid(), Signal::SIGUSR1);
        if self.role != Role::HeldChild
            && let Some(&child) = self.children().first()
        {
            send(child, Signal::SIGKILL);
            await_briefly(|| processes::Process::read(child).is_none());
        }
    }

    /// No child is lost with its parent.
    fn expect_alive(&mut self, children: &[u32]) {
        let dead = children.iter().find(|pid| !processes::is_alive(**pid));
        if let Some(dead) = dead {
            self.loss = Some(format!("child {dead} is gone"));
        }
    }

    /// The parent that has told of itself last.
    fn parent(&self) -> u32 {
        self.parents().pop().unwrap_or_default()
    }

    fn parents(&self) -> Vec<u32> {
        let said = self.server.stdout();
        let told = said.lines().filter_map(|line| line.strip_prefix("parent "));
        told.filter_map(|pid| pid.parse().ok()).collect()
    }

    /// The children that live, whatever process their parent is.
    fn children(&self) -> Vec<u32> {
        let mut all = processes::descendants(self.server.pid());
        let parents = self.parents();
        all.retain(|process| process.is_alive() && !parents.contains(&process.pid));
        all.iter().map(|process| process.pid).collect()
    }
}

fn await_briefly(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() && start.elapsed() < MOMENT {
        pause(Duration::from_millis(2));
    }
}

// ---- What a run came to ----

fn judge(_: &mut World, run: &Run, point: Option<&Point>) -> Result<&'static str, String> {
    let outcome = outcome(run)?;
    let Some(point) = point else {
        return Ok(outcome);
    };
    // The line may be what cannot be written.
    let is_told = run.stderr_tells("before they come to work");
    if outcome == GIVEN_UP && !is_told && !["pwritev2", "write"].contains(&point.call.as_str()) {
        return Err(run.report("given up without a word"));
    }
    if !run.log.injected {
        // The calls of a run are not quite those of the recorded one.
        return Ok("not reached");
    }
    let is_error = point.fault != Fault::Kill;
    let is_expected = match outcome {
        "served" => point.role != Role::GivingUp,
        GIVEN_UP => point.role == Role::GivingUp,
        "killed, and nothing left" => !is_error,
        "no memory" => is_error && strace::is_memory(&point.call),
        // A parent that has not taken over is followed by another.
        _ if point.role == Role::HeldChild => false,
        _ => is_error && (point.role != Role::NextParent || has_taken_over(run)),
    };
    match is_expected {
        true => Ok(outcome),
        false => Err(run.report(&format!("only {outcome:?}"))),
    }
}

/// Whether the parent that was traced has taken over.
fn has_taken_over(run: &Run) -> bool {
    run.said(&format!("taken over {}", run.traced)) > 0
}

fn outcome(run: &Run) -> Result<&'static str, String> {
    run.fault_or("")?;
    if run.stderr_tells("panicked") || run.server.stdout().contains("panicked") {
        return Err(run.report("a panic"));
    }
    let status = run.status.unwrap_or_default();
    let signal = status.signal().and_then(|it| Signal::try_from(it).ok());
    let is_served = run.served && run.loss.is_none();
    match (status.code(), signal) {
        (Some(0), _) if is_served => Ok("served"),
        (Some(1), _) if run.stderr_tells("error: ") => Ok("a typed error"),
        (Some(70), _) => Ok(GIVEN_UP),
        // A parent that has announced its end is followed by no other: the holder ends as it has ended.
        (_, Some(Signal::SIGKILL)) if is_served || run.role.is_the_holder() => {
            Ok("killed, and nothing left")
        }
        (_, Some(Signal::SIGABRT)) => Ok("no memory"),
        _ => {
            let loss = run.loss.as_deref().unwrap_or_default();
            Err(run.report(&format!("neither served nor a typed error; {loss}")))
        }
    }
}
