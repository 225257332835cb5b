//! The end of a parent that could not end its children: killed, crashed, or dropped while running.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::Uid;
use prefork_server::Error;

use crate::subject::{
    Held, announce, builder, ended, ends_well, expect_up, log_warnings, pids, send,
};
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, Signal, World, gate, port_is_free, processes,
    programs, scenarios, until,
};
use crate::tracing::{Nursery, call};

pub const PROGRAMS: Programs = programs![dropper];

pub const SCENARIOS: Scenarios = scenarios![
    f01_idle_children_go_with_the_parent,
    f01_a_busy_child_finishes_and_the_port_is_free_meanwhile,
    f01_a_busy_child_that_does_not_finish_is_ended_after_kill_timeout,
    f06_a_stuck_child_is_ended_after_kill_timeout,
    f01_a_child_that_is_still_starting_goes_too,
    a_server_that_is_dropped_leaves_no_children,
    a_server_that_is_dropped_kills_after_shutdown_timeout,
    f08_a_panic_around_the_server_leaves_no_children,
    f02_a_child_whose_parent_dies_before_it_is_tied_to_it_leaves,
    f04_a_child_that_has_changed_its_user_is_still_tied_to_its_parent,
    f07_a_process_that_a_child_has_started_does_not_keep_orphans_alive,
    f08_children_go_with_a_parent_that_crashes,
    f10_a_new_server_gets_the_port_while_an_orphan_finishes,
    f10_an_orphan_that_is_stuck_keeps_the_port_and_the_error_names_it,
    f11_a_program_that_a_child_starts_has_no_socket_of_the_server,
];

/// Runs a server until the file is there, drops it, and stops at a gate.
fn dropper(args: Args) -> ExitCode {
    log_warnings();
    let result = turn_until_the_file_is_there(&args);
    println!("dropped");
    gate::pass("dropped");
    ended(result)
}

fn turn_until_the_file_is_there(args: &Args) -> Result<(), Error> {
    let file = Path::new(args.value("--until").expect("a file"));
    let mut prefork = builder(args).start()?;
    announce(&prefork);
    while !file.exists() {
        let turn = prefork.turn(Some(Duration::from_millis(20)))?;
        assert!(!turn.is_done());
    }
    assert!(!args.has("--panic"), "the flag is set");
    Ok(())
}

fn expect_nothing_left(world: &World, address: &Address) {
    until("all children to go", SOON, || {
        world.orphans().is_empty().then_some(())
    });
    assert!(port_is_free(address));
}

/// The parent holds the only write end of a pipe that every child watches, and the kernel sends each
/// child SIGINT at the parent's death: an idle one leaves at once.
///
/// Without either of the two it holds; without both (PDEATHSIG not set, the death watch not among what
/// `Waiter` waits on) all twenty live on.
fn f01_idle_children_go_with_the_parent(world: &mut World) {
    let server = world.spawn("serve", &["--start", "20"]);
    let address = server.address();
    expect_up(&server, 20);
    server.kill9();
    expect_nothing_left(world, &address);
}

/// A busy child closes the listening socket and finishes the connection in hand.
///
/// Without `Comm::when_orphaned` the port stays taken.
fn f01_a_busy_child_finishes_and_the_port_is_free_meanwhile(world: &mut World) {
    let server = world.spawn("serve", &["--start", "3", "--kill-timeout", "60000"]);
    let address = server.address();
    let mut held = Held::new(&address);
    expect_up(&server, 3);
    server.kill9();
    until("the port to be free", SOON, || {
        port_is_free(&address).then_some(())
    });
    until("the idle ones to go", SOON, || {
        (world.orphans() == [held.pid]).then_some(())
    });
    held.is_served();
    drop(held);
    expect_nothing_left(world, &address);
}

/// An orphan that does not finish is ended by a timer of the kernel when `kill_timeout` has passed.
fn f01_a_busy_child_that_does_not_finish_is_ended_after_kill_timeout(world: &mut World) {
    let server = world.spawn("serve", &["--kill-timeout", "1500"]);
    let address = server.address();
    let mut held = Held::new(&address);
    let killed = Instant::now();
    server.kill9();
    held.client.gone();
    assert!(killed.elapsed() >= Duration::from_millis(1500));
    expect_nothing_left(world, &address);
}

/// The kernel's SIGINT reaches a child that watches nothing, and its handler sets the timer that
/// ends the child after `kill_timeout`.
///
/// Without the `become_orphan` in that handler it runs forever.
fn f06_a_stuck_child_is_ended_after_kill_timeout(world: &mut World) {
    let server = world.spawn("serve", &["--kill-timeout", "1500"]);
    let address = server.address();
    let mut stuck = Held::new(&address);
    stuck.client.send_line("spin");
    let killed = Instant::now();
    server.kill9();
    stuck.client.gone();
    assert!(killed.elapsed() >= Duration::from_millis(1500));
    expect_nothing_left(world, &address);
}

/// A child that is still starting leaves as soon as it has started.
fn f01_a_child_that_is_still_starting_goes_too(world: &mut World) {
    let mut start = world.gate("start");
    let server = world.spawn("serve", &["--start", "1"]);
    let address = server.address();
    let pid = start.reached(SOON);
    server.kill9();
    assert!(processes::is_alive(pid));
    start.open();
    expect_nothing_left(world, &address);
}

fn spawn_dropper(world: &mut World, flags: &[&str]) -> (Server, impl FnOnce()) {
    let file = world.tempdir().join("drop");
    let flag = ["--until", file.to_str().unwrap()];
    let server = world.spawn("dropper", &[&flag, flags].concat());
    (server, move || fs::write(file, "").unwrap())
}

fn expect_nothing_below(server: &Server, address: &Address) {
    assert_eq!(processes::children(server.pid()).len(), 0);
    assert!(port_is_free(address));
}

fn a_server_that_is_dropped_leaves_no_children(world: &mut World) {
    let mut dropped = world.gate("dropped");
    let (server, drop_it) = spawn_dropper(world, &["--start", "10"]);
    let address = server.address();
    expect_up(&server, 10);
    drop_it();
    dropped.reached(SOON);
    expect_nothing_below(&server, &address);
    dropped.open();
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// With no bound but `kill_timeout`, as before there was one stop for all, it is killed 8 s later.
fn a_server_that_is_dropped_kills_after_shutdown_timeout(world: &mut World) {
    let mut dropped = world.gate("dropped");
    let (server, drop_it) = spawn_dropper(world, &["--shutdown-timeout", "1500"]);
    let address = server.address();
    // It watches nothing any more, so nothing but SIGKILL ends it.
    let mut stuck = Held::new(&address);
    stuck.client.send_line("spin");
    let told = Instant::now();
    drop_it();
    stuck.client.gone();
    assert!(told.elapsed() >= Duration::from_millis(1500));
    dropped.reached(SOON);
    expect_nothing_below(&server, &address);
    dropped.open();
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// A server that is dropped, as by a panic of the program around it, ends and reaps its children.
fn f08_a_panic_around_the_server_leaves_no_children(world: &mut World) {
    world.expect_panics();
    let (server, drop_it) = spawn_dropper(world, &["--panic"]);
    let address = server.address();
    let children = expect_up(&server, 2);
    drop_it();
    assert_eq!(server.wait(SOON).code(), Some(101));
    assert!(children.iter().all(|&pid| processes::state(pid).is_none()));
    assert!(port_is_free(&address));
    assert_eq!(world.orphans(), []);
}

#[track_caller]
fn expect_no_orphans(world: &World) {
    until("all children to go", SOON, || {
        world.orphans().is_empty().then_some(())
    });
}

/// After it has asked the kernel for a signal at its parent's death, a child compares its parent with
/// the one it was forked by, and sends itself that signal if it is another.
///
/// The child is held at the very call, its parent is killed, and it gets stuck in its start, where
/// it watches nothing.
/// Without the comparison in `tie_to_parent` it runs forever.
fn f02_a_child_whose_parent_dies_before_it_is_tied_to_it_leaves(world: &mut World) {
    let flags = ["--start", "1", "--stuck", "--kill-timeout", "200"];
    let mut start = world.gate("announced");
    let server = world.spawn("serve", &flags);
    start.reached(SOON);
    let Some(nursery) = Nursery::watch(server.pid()) else {
        start.open();
        server.expect_children(1);
        server.kill9();
        return expect_no_orphans(world);
    };
    start.open();
    let newborn = nursery.newborn();
    let tie = (libc::SYS_prctl, libc::PR_SET_PDEATHSIG as u64);
    while call(newborn.pid()) != tie {
        newborn.advance_to(&[libc::SYS_prctl]);
    }
    server.kill9();
    newborn.release();
    expect_no_orphans(world);
}

/// The kernel clears PDEATHSIG of a child that changes its user or group, so the child sets it
/// again after the user's `server_start`.
///
/// The child is stuck in a handler, so that it learns of its parent's death only by that signal.
/// Without the second `tie_to_parent` it runs forever.
fn f04_a_child_that_has_changed_its_user_is_still_tied_to_its_parent(world: &mut World) {
    if !Uid::effective().is_root() {
        return eprintln!("skipped: only root can change the user");
    }
    let nobody = "65534";
    let flags = ["--become", nobody, "--kill-timeout", "200"];
    let server = world.spawn("serve", &flags);
    let mut stuck = Held::new(&server.address());
    assert_eq!(owner(stuck.pid), nobody);
    stuck.client.send_line("spin");
    server.kill9();
    stuck.client.gone();
    expect_no_orphans(world);
}

/// The user that a process runs as.
fn owner(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.unwrap().split_whitespace().next().unwrap().to_owned()
}

/// A child closes the writing end of the death watch before anything else, and an exec closes it:
/// so no process that a child has started keeps it open.
///
/// Without it (no `close_in_child`, and no PDEATHSIG, which hides it) none of them leaves.
fn f07_a_process_that_a_child_has_started_does_not_keep_orphans_alive(world: &mut World) {
    let server = world.spawn("serve", &["--start", "3"]);
    let address = server.address();
    expect_up(&server, 3);
    let mut held = Held::new(&address);
    let daemon: u32 = held.client.ask("grandchild").parse().unwrap();
    server.kill9();
    drop(held);
    until("all but the daemon to go", SOON, || {
        (world.orphans() == [daemon]).then_some(())
    });
    // The kernel closes what an exec closes a moment after the exec has been reported.
    until("the port to be free", SOON, || {
        port_is_free(&address).then_some(())
    });
    send(daemon, Signal::SIGKILL);
}

/// Children leave in the same way however their parent dies.
fn f08_children_go_with_a_parent_that_crashes(world: &mut World) {
    for signal in [Signal::SIGABRT, Signal::SIGILL, Signal::SIGSYS] {
        let server = world.spawn("serve", &["--start", "3"]);
        let address = server.address();
        let mut held = Held::new(&address);
        expect_up(&server, 3);
        let status = server.stop(signal, SOON);
        assert_eq!(status.signal(), Some(signal as i32));
        until("the idle ones to go", SOON, || {
            (world.orphans() == [held.pid]).then_some(())
        });
        held.is_served();
        drop(held);
        expect_no_orphans(world);
        assert!(port_is_free(&address));
    }
}

fn spawn_on(world: &mut World, address: &Address) -> Server {
    world.spawn("serve", &["--port", &address.port().to_string()])
}

/// An orphan closes the listening socket at once and keeps only the connection in hand: the port is
/// free for a new server.
fn f10_a_new_server_gets_the_port_while_an_orphan_finishes(world: &mut World) {
    let server = world.spawn("serve", &["--kill-timeout", "60000"]);
    let address = server.address();
    let mut held = Held::new(&address);
    server.kill9();
    until("the port to be free", SOON, || {
        port_is_free(&address).then_some(())
    });
    let next = spawn_on(world, &address);
    assert_eq!(next.address(), address);
    Held::new(&address).is_served();
    held.is_served();
    drop(held);
    expect_no_orphans(world);
    ends_well(&next);
}

/// An orphan that is stuck in code keeps the port for at most `kill_timeout`. Until then a new
/// server refuses to start, with an error that names the address.
fn f10_an_orphan_that_is_stuck_keeps_the_port_and_the_error_names_it(world: &mut World) {
    let server = world.spawn("serve", &["--kill-timeout", "60000"]);
    let address = server.address();
    let mut stuck = Held::new(&address);
    stuck.client.send_line("spin");
    server.kill9();
    let refused = spawn_on(world, &address);
    assert_eq!(refused.wait(SOON).code(), Some(1));
    let error = format!("error: bind {address}: address already in use");
    assert!(refused.stderr().contains(&error), "{}", refused.stderr());
    assert_eq!(pids(&refused, "forked"), []);
    send(stuck.pid, Signal::SIGKILL);
    expect_no_orphans(world);
    let next = spawn_on(world, &address);
    Held::new(&next.address()).is_served();
    ends_well(&next);
}

/// Every descriptor of the server is close-on-exec: a program that a child starts has its standard
/// streams and no more.
fn f11_a_program_that_a_child_starts_has_no_socket_of_the_server(world: &mut World) {
    world.expect_orphans();
    let server = world.spawn("serve", &[]);
    let mut held = Held::new(&server.address());
    let helper: u32 = held.client.ask("grandchild").parse().unwrap();
    // Before that its loader has the files of libraries open.
    until("its sleep", SOON, || {
        let call = processes::system_call(helper)?;
        (call == libc::SYS_clock_nanosleep).then_some(())
    });
    let own = processes::descriptors(std::process::id());
    let mut more = processes::descriptors(helper);
    // What the test tools have left open is everybody's.
    more.retain(|(number, target)| *number > 2 && own.iter().all(|(_, other)| other != target));
    assert_eq!(more, []);
    send(helper, Signal::SIGKILL);
    drop(held);
    ends_well(&server);
}
