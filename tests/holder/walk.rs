//! A parent is killed at each of its system calls: of those by which it takes over, and of those by which
//! it forks. Whatever it has done by then, the next parent serves with the same children.
//!
//! ptrace leads it from call to call. `HOLDER_WALK=1` stops at each one, before it and after it; without
//! it only some are tried, to be short.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::{
    Client, SOON, Scenarios, Signal, World, connect, pause, processes, scenarios, until,
};
use crate::upgrades::Upgraded;
use crate::versions::Mode;
use crate::watched::{Watched, send, who};

pub const SCENARIOS: Scenarios = scenarios![
    a_parent_killed_at_each_system_call_of_its_start,
    a_parent_killed_at_each_system_call_of_a_fork,
    a_parent_killed_at_each_system_call_by_which_it_leaves_an_upgrade_to_its_holder,
    a_parent_killed_at_each_system_call_of_a_fork_of_a_program,
];

/// How far the points are apart that are tried.
fn stride(usual: usize) -> usize {
    let wanted = std::env::var("HOLDER_WALK").ok();
    wanted.map_or(usual, |n| n.parse().expect("a number"))
}

/// A process that this thread traces.
struct Traced(Pid);

impl Traced {
    /// `None`, with a message, where processes may not be traced.
    fn seize(pid: u32, options: Options) -> Option<Self> {
        let traced = Self(Pid::from_raw(pid.cast_signed()));
        match ptrace::seize(traced.0, options | Options::PTRACE_O_TRACESYSGOOD) {
            Ok(()) => Some(traced),
            Err(Errno::EPERM | Errno::ENOSYS) => {
                eprintln!("skipped: this machine does not let a process be traced");
                None
            }
            Err(error) => panic!("tracing {pid}: {error}"),
        }
    }

    fn pid(&self) -> u32 {
        self.0.as_raw().cast_unsigned()
    }

    fn wait(&self) -> WaitStatus {
        waitpid(self.0, Some(WaitPidFlag::__WALL)).expect("what it does")
    }

    /// Goes on to the next beginning or end of a system call. False if the process is gone.
    fn step(&self) -> bool {
        let mut signal = None;
        loop {
            if ptrace::syscall(self.0, signal).is_err() {
                return false;
            }
            signal = match self.wait() {
                WaitStatus::PtraceSyscall(_) => return true,
                WaitStatus::Stopped(_, signal) => Some(signal),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return false,
                _ => None,
            };
        }
    }

    /// Kills it, and waits for that, without which no other process learns of it.
    fn kill(self) {
        kill(self.0, Signal::SIGKILL).expect("a signal");
        while !matches!(self.wait(), WaitStatus::Signaled(..)) {}
    }
}

/// The next process that the holder forks, held at its birth.
fn next_parent(holder: Traced) -> Traced {
    loop {
        match holder.wait() {
            WaitStatus::PtraceEvent(_, _, event)
                if event == ptrace::Event::PTRACE_EVENT_FORK as i32 =>
            {
                break;
            }
            WaitStatus::Stopped(_, signal) => ptrace::cont(holder.0, signal).expect("to go on"),
            WaitStatus::PtraceEvent(..) => ptrace::cont(holder.0, None).expect("to go on"),
            other => panic!("the holder to fork, but: {other:?}"),
        }
    }
    let pid = ptrace::getevent(holder.0).expect("a pid");
    let parent = Traced(Pid::from_raw(i32::try_from(pid).expect("a pid")));
    parent.wait();
    ptrace::setoptions(parent.0, Options::PTRACE_O_TRACESYSGOOD).expect("options");
    ptrace::detach(holder.0, None).expect("to leave it");
    parent
}

/// The start of a parent that takes over, up to the wait of its second turn.
fn a_parent_killed_at_each_system_call_of_its_start(world: &mut World) {
    world.deadline(SOON * 30);
    let watched = Watched::new(world, &[]);
    let before = watched.expect_ready(4);
    let address = watched.address();
    let mut points = 0;
    for last in (1..).step_by(stride(11)) {
        // Long enough that its end is no quick one.
        pause(Duration::from_millis(110));
        let Some(holder) = Traced::seize(watched.server.pid(), Options::PTRACE_O_TRACEFORK) else {
            break;
        };
        let times = watched.said("parent ");
        send(watched.parent(), Signal::SIGKILL);
        let parent = next_parent(holder);
        let mut waits = 0;
        let mut steps = 0;
        while steps < last && waits < 4 && parent.step() {
            steps += 1;
            waits += usize::from(processes::is_in_epoll_wait(parent.pid()));
        }
        let is_over = waits == 4;
        parent.kill();
        watched.expect("parent ", times + 1);
        until("the same children", SOON, || {
            (watched.children() == before && watched.known() == before).then_some(())
        });
        who(&address);
        points += 1;
        if is_over {
            println!("{points} of {steps} points");
            break;
        }
    }
    watched.stop();
}

fn a_parent_killed_at_each_system_call_of_a_fork(world: &mut World) {
    killed_in_forks(world, "held");
}

/// The child is the holder's from its first moment, and the kernel notes its pid.
fn a_parent_killed_at_each_system_call_of_a_fork_of_a_program(world: &mut World) {
    killed_in_forks(world, "held_programs");
}

/// A client comes, so that a spare child is missing: the parent reads of that, forks, and notes it.
fn killed_in_forks(world: &mut World, program: &str) {
    world.deadline(SOON * 30);
    const POINTS: usize = 130;
    let server = world.spawn(program, &["--children", "1", "--max", "300"]);
    let watched = Watched::of(server);
    let mut clients: Vec<(Client, u32)> = Vec::new();
    let (mut before_a_fork, mut after) = (0, 0);
    for last in (1..=POINTS).step_by(stride(9)) {
        pause(Duration::from_millis(110));
        until("one child to be spare", SOON, || {
            let all = watched.children().len();
            (all == clients.len() + 1 && watched.known().len() == all).then_some(())
        });
        let Some(parent) = Traced::seize(watched.parent(), Options::empty()) else {
            break;
        };
        ptrace::interrupt(parent.0).expect("an interruption");
        parent.wait();
        let mut client = connect(&watched.address());
        let pid = client.ask("who").parse().expect("a pid");
        clients.push((client, pid));
        let times = watched.said("parent ");
        for _ in 0..last {
            assert!(parent.step(), "it is there");
        }
        // The spare child has just become busy, and its successor is there or not.
        let has_forked = watched.children().len() > clients.len();
        *(if has_forked {
            &mut after
        } else {
            &mut before_a_fork
        }) += 1;
        parent.kill();
        watched.expect("parent ", times + 1);
        for (client, pid) in &mut clients {
            assert_eq!(client.ask("who"), pid.to_string(), "the same child");
        }
    }
    let expected = clients.len() + 1;
    until("the parent to know all children", SOON, || {
        let all = watched.children();
        (all.len() == expected && watched.known() == all).then_some(())
    });
    println!("{before_a_fork} points before a fork, {after} after it");
    assert!(
        before_a_fork > 0 && after > 0,
        "the walk has missed the fork"
    );
    drop(clients);
    watched.stop();
}

/// From the trial of the new program on, which waits at a gate, to the parent's own end. Before its last
/// words the upgrade is over; after them the holder goes on with it.
fn a_parent_killed_at_each_system_call_by_which_it_leaves_an_upgrade_to_its_holder(
    world: &mut World,
) {
    world.deadline(SOON * 60);
    let upgraded = Upgraded::new(world, &[]);
    let (mut failed, mut done) = (0, 0);
    let mut version = 1;
    for last in (1..).step_by(stride(23)) {
        let mut gate = world.gate("trial");
        let next = 2 + failed + done;
        let mut client = connect(&upgraded.address());
        let pid = client.ask("who");
        let began = upgraded.said("upgrade began");
        upgraded.ask(next, Mode::Good);
        gate.reached(SOON);
        let parents = upgraded.said("parent ");
        let Some(parent) = Traced::seize(upgraded.parent(), Options::empty()) else {
            break;
        };
        ptrace::interrupt(parent.0).expect("an interruption");
        parent.wait();
        gate.open();
        let is_over = !(0..last).all(|_| parent.step());
        if !is_over {
            parent.kill();
        }
        upgraded.expect("parent ", parents + 1);
        assert_eq!(client.ask("who"), pid, "the same child");
        let is_new = upgraded.goes_on_with(next, began + 1);
        if is_new {
            upgraded.expect(&format!("upgraded to {next},"), 1);
            version = next;
        }
        *(if is_new { &mut done } else { &mut failed }) += 1;
        upgraded.expect_version(version);
        upgraded.expect_holder();
        if is_over {
            println!("{last} calls: {failed} upgrades have failed, {done} have not");
            assert!(is_new && failed > 0, "the walk has missed the goodbye");
            break;
        }
    }
    upgraded.stop();
}
