//! Known races of preforking servers: a signal between the fork and the child's own handlers, a
//! child that is culled with a connection in hand, a status of another process, a pid that is
//! reused. Each is produced at a named point, not by chance. (The races of a reload have no test:
//! there is no reload.)

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};

use nix::libc;

use crate::subject;
use crate::subject::{
    Contained, Held, deaths, ends_well, expect_entry, expect_exit, expect_up, has_signal, journal,
    pids, send,
};
use crate::support::{
    SOON, Scenarios, Server, Signal, World, connect, processes, scenarios, until,
};
use crate::tracing::{EPOLL_WAITS, Nursery, Stop, Traced, sleeps_in_epoll};

pub const SCENARIOS: Scenarios = scenarios![
    d09_a_child_that_is_culled_between_accept_and_busy_serves_its_client,
    a12_a_child_that_is_dead_before_its_parent_has_seen_it_is_replaced,
    g05_a_stop_that_finds_the_parent_in_a_fork_reaches_the_child_too,
    g05_a_child_that_is_told_to_stop_before_it_has_handlers_leaves,
    g06_a_signal_for_a_newborn_child_is_not_heeded_by_its_parent,
    g14_a_hook_that_waits_for_its_own_processes_gets_their_statuses,
    g15_a_stale_name_does_not_signal_a_child_with_the_same_pid,
];

/// A server that obeys commands.
fn spawn_commanded(world: &mut World, flags: &[&str]) -> (Server, ChildStdin) {
    let program = world.program("serve").arg("--commanded").args(flags);
    let server = program.stdin(Stdio::piped()).spawn();
    let commands = server.take_stdin().unwrap();
    (server, commands)
}

/// Whether a SIGINT is pending for a process that is held.
#[track_caller]
fn until_interrupted(pid: u32) {
    until("a SIGINT for the child", SOON, || {
        has_signal(pid, "ShdPnd", Signal::SIGINT).then_some(())
    });
}

// The signal between the fork and the handlers.

/// All signals are blocked across the fork. A child unblocks them when its own handlers are
/// installed, and signals that were sent meanwhile arrive there.
///
/// The child is held right after the fork, then at each of its system calls up to its first wait,
/// and told to stop there. Without the mask (`Mask::block_all` that blocks nothing): at the first
/// point, the birth, the parent's handler runs in the child, and the child goes on as if nothing
/// had been said.
fn g05_a_child_that_is_told_to_stop_before_it_has_handlers_leaves(world: &mut World) {
    let (server, mut commands) = spawn_commanded(world, &["--start", "1"]);
    server.address();
    expect_up(&server, 1);
    let mut point = 0;
    while let Some(nursery) = Nursery::watch(server.pid()) {
        commands.write_all(b"f").unwrap();
        let newborn = nursery.newborn();
        let pid = newborn.pid();
        expect_entry(&server, "forked", pid);
        let waits = (0..point).any(|_| is_the_wait(newborn.step()));
        commands.write_all(b"r").unwrap();
        until_interrupted(pid);
        newborn.release();
        expect_exit(&server, pid, "Asked exit status: 0");
        if waits {
            break;
        }
        point += 1;
    }
    eprintln!("told to stop at {point} points");
    ends_well(&server);
}

fn is_the_wait(stop: Stop) -> bool {
    match stop {
        Stop::Call(number) => EPOLL_WAITS.contains(&number),
        Stop::Ended => panic!("the child to wait for a connection, but it ended"),
    }
}

/// A new child removes the parent's handlers and the pipes that they write to before it unblocks
/// signals, so that a signal for the child does not affect the parent.
///
/// Without the mask (`Mask::block_all` that blocks nothing): the signal runs the parent's handler,
/// which wakes the parent, and the child never leaves.
fn g06_a_signal_for_a_newborn_child_is_not_heeded_by_its_parent(world: &mut World) {
    let (server, mut commands) = spawn_commanded(world, &["--start", "1"]);
    let address = server.address();
    expect_up(&server, 1);
    for (round, signal) in [Signal::SIGTERM, Signal::SIGINT].into_iter().enumerate() {
        let Some(nursery) = Nursery::watch(server.pid()) else {
            break;
        };
        commands.write_all(b"f").unwrap();
        let newborn = nursery.newborn();
        let pid = newborn.pid();
        send(pid, signal);
        newborn.release();
        expect_entry(&server, "exited", pid);
        // One more is owed for it: it left without having been asked.
        expect_up(&server, 2 + round);
        Held::new(&address).is_served();
    }
    assert_eq!(pids(&server, "shutdown"), []);
    ends_well(&server);
}

/// A signal to stop that arrives while the parent forks stays blocked: the parent acts on it in the
/// next turn, when the new child is in its tables and is told like the others.
///
/// Parent and child are held where the fork has returned in neither.
fn g05_a_stop_that_finds_the_parent_in_a_fork_reaches_the_child_too(world: &mut World) {
    let (server, mut commands) = spawn_commanded(world, &["--start", "1"]);
    server.address();
    expect_up(&server, 1);
    let Some(nursery) = Nursery::watch(server.pid()) else {
        return ends_well(&server);
    };
    commands.write_all(b"f").unwrap();
    let (parent, newborn) = nursery.both();
    server.signal(Signal::SIGTERM);
    parent.release();
    expect_entry(&server, "shutdown", 0);
    until_interrupted(newborn.pid());
    let pid = newborn.pid();
    newborn.release();
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, pid, "Shutdown exit status: 0");
    assert_eq!(deaths(&server, "Shutdown"), 2);
}

/// A child that is killed right after the fork, before the parent has entered it into its tables, is
/// a zombie that keeps its pid: it is found, counted as a failed start, and replaced.
///
/// Parent and child are held where the fork has returned in neither, and the child is killed there.
fn a12_a_child_that_is_dead_before_its_parent_has_seen_it_is_replaced(world: &mut World) {
    let (server, mut commands) = spawn_commanded(world, &["--start", "1"]);
    let address = server.address();
    expect_up(&server, 1);
    let Some(nursery) = Nursery::watch(server.pid()) else {
        return ends_well(&server);
    };
    commands.write_all(b"f").unwrap();
    let (parent, newborn) = nursery.both();
    let pid = newborn.pid();
    newborn.kill();
    parent.release();
    expect_exit(&server, pid, "FailedStart signal: 9 (SIGKILL)");
    until("the one that is owed for it", SOON, || {
        (pids(&server, "up").len() == 2).then_some(())
    });
    Held::new(&address).is_served();
    assert_eq!(server.zombies(), []);
    ends_well(&server);
}

// The cull race.

/// Culling asks a child to leave: a child that is told to stop still serves the connection that it
/// has accepted, and has its time for it.
///
/// The child is held where accept(2) has returned a connection and it has not said BUSY, so that
/// its parent counts it as free. Without it (an accept loop that looks at `shutdown_requested`
/// between the accept and the handler): the connection ends without an answer.
fn d09_a_child_that_is_culled_between_accept_and_busy_serves_its_client(world: &mut World) {
    let flags = ["--start", "3", "--cull-after", "0", "--max-spare", "3"];
    let (server, mut commands) = spawn_commanded(world, &flags);
    let address = server.address();
    let children = expect_up(&server, 3);
    for &child in &children {
        until("the children to wait", SOON, || {
            sleeps_in_epoll(child).then_some(())
        });
    }
    // The oldest is the one that will be culled. The others, stopped, take no connection.
    let oldest = pids(&server, "forked")[0];
    let others = children.iter().filter(|&&child| child != oldest);
    others.clone().for_each(|&other| subject::stop(other));
    let go_on = || {
        others
            .clone()
            .for_each(|&other| send(other, Signal::SIGCONT))
    };
    let Some(held) = Traced::seize(oldest) else {
        go_on();
        return ends_well(&server);
    };
    let client = connect(&address);
    until_it_has_accepted(&held);
    assert!(!pids(&server, "busy").contains(&oldest));
    commands.write_all(b"c").unwrap();
    until_interrupted(oldest);
    go_on();
    held.release();
    let mut client = Held::of(client);
    assert_eq!(client.pid, oldest);
    client.is_served();
    drop(client);
    expect_exit(&server, oldest, "Culled exit status: 0");
    ends_well(&server);
}

/// Lets a child go on until it is back from an accept that has given it a connection.
fn until_it_has_accepted(child: &Traced) {
    let sockets = || {
        let mut held = processes::descriptors(child.pid());
        held.retain(|(_, target)| target.starts_with("socket:"));
        held.len()
    };
    let before = sockets();
    while sockets() == before {
        child.advance_to(&[libc::SYS_accept4]);
    }
}

// Strangers.

/// The parent waits only for its own children, each by its pid: other processes of the program keep
/// their statuses.
///
/// Without it (`ChildProcess::reap` that waits for any child): the end of the program's own process is
/// taken for that of the child that was killed.
fn g14_a_hook_that_waits_for_its_own_processes_gets_their_statuses(world: &mut World) {
    // Its own is there, dead, all the time that children come and go.
    let flags = ["--start", "2", "--helpers", "--stranger"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    // Not by the number of its children: the helpers are among those.
    until("two children", SOON, || {
        (pids(&server, "up").len() == 2).then_some(())
    });
    for _ in 0..10 {
        let held = Held::new(&address);
        let pid = held.pid;
        send(pid, Signal::SIGKILL);
        expect_exit(&server, pid, "Killed signal: 9 (SIGKILL)");
    }
    let mut helpers = journal(&server);
    helpers.retain(|entry| entry.event == "helper");
    assert!(helpers.len() >= 12, "{helpers:?}");
    let statuses: BTreeSet<String> = helpers.into_iter().map(|entry| entry.rest).collect();
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    assert!(statuses.first().unwrap().contains("ExitStatus"));
    ends_well(&server);
    let stdout = server.stdout();
    assert!(stdout.contains("stranger: exit status: 0"), "{stdout}");
}

// Pids that are used again.

/// Hooks name a child by slot and serial, and the name of a dead child finds none, even if a living
/// child has its pid.
///
/// In a pid namespace every dead child's pid is given to its successor; then the dead child's name
/// is used to send SIGKILL.
fn g15_a_stale_name_does_not_signal_a_child_with_the_same_pid(world: &mut World) {
    let write = "echo 100 > /proc/sys/kernel/ns_last_pid";
    let attempt = Command::new("unshare")
        .args(["-Urpf", "--mount-proc", "sh", "-c", write])
        .output();
    if !attempt.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: this machine lets nobody choose pids");
    }
    let flags = ["--start", "1", "--max-clients", "1", "--reuse-pids"];
    let Some(server) = Contained::spawn(world, "serve", &flags) else {
        return;
    };
    let address = server.outer.address();
    let mut seen = BTreeSet::new();
    for round in 1..=20 {
        until("a new child", SOON, || {
            (pids(&server.outer, "up").len() == round).then_some(())
        });
        let child = server.expect_children(1)[0];
        let mut held = Held::new(&address);
        held.is_served();
        seen.insert(held.pid);
        send(child, Signal::SIGKILL);
        until("its death", SOON, || {
            (pids(&server.outer, "exited").len() == round).then_some(())
        });
    }
    until("the last child", SOON, || {
        (pids(&server.outer, "up").len() == 21).then_some(())
    });
    Held::new(&address).is_served();
    server.ends_well();
    assert_eq!(seen.len(), 1, "one pid for all of them: {seen:?}");
}
