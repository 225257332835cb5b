//! The end of a parent that could not see to its children: killed, or dropped in the midst.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod subject;
mod support;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use prefork_server::Error;
use subject::{Held, SOON, announce, builder, ended, expect_up, log_warnings, serve};
use support::{
    Address, Args, Server, World, gate, port_is_free, processes, programs, scenarios, until,
};

fn main() -> ExitCode {
    support::main(
        programs![serve, dropper],
        scenarios![
            f01_idle_children_go_with_the_parent,
            f01_a_busy_child_finishes_and_the_port_is_free_meanwhile,
            f01_a_busy_child_that_does_not_finish_is_ended_after_kill_timeout,
            f06_a_stuck_child_is_ended_after_kill_timeout,
            f01_a_child_that_is_still_starting_goes_too,
            a_server_that_is_dropped_leaves_no_children,
            a_server_that_is_dropped_kills_after_kill_timeout,
            f08_a_panic_around_the_server_leaves_no_children,
        ],
    )
}

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

/// The SIGINT of the kernel reaches a child that watches nothing, and its handler sets the timer that
/// ends it after `kill_timeout`.
///
/// Without the `become_orphan` in that handler it runs for ever.
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

/// A child that is still starting goes as soon as it has started.
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

/// Fails without the second `kill_all` in the `Drop` of `Shell`.
fn a_server_that_is_dropped_kills_after_kill_timeout(world: &mut World) {
    let mut dropped = world.gate("dropped");
    let (server, drop_it) = spawn_dropper(world, &["--kill-timeout", "1500"]);
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
