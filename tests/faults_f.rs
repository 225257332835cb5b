//! Section F of the fault catalogue, the parent's death: what `orphans.rs` and `pair.rs` do not have.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod subject;
mod support;
mod tracing;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Duration;

use nix::libc;
use nix::unistd::Uid;
use subject::{Contained, Held, SOON, ends_well, expect_exit, expect_up, pids, send, serve};
use support::{
    Address, Server, Signal, World, holds, port_is_free, processes, programs, scenarios, until,
};
use tracing::{Nursery, call};

fn main() -> ExitCode {
    support::main(
        programs![serve],
        scenarios![
            f02_a_child_whose_parent_dies_before_it_is_tied_to_it_leaves,
            f04_a_child_that_has_changed_its_user_is_still_tied_to_its_parent,
            f05_a_child_of_process_1_is_no_orphan,
            f07_a_process_that_a_child_has_started_does_not_keep_orphans_alive,
            f08_children_go_with_a_parent_that_crashes,
            f10_a_new_server_gets_the_port_while_an_orphan_finishes,
            f10_an_orphan_that_is_stuck_keeps_the_port_and_the_error_names_it,
            f11_a_program_that_a_child_starts_has_no_socket_of_the_server,
        ],
    )
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
/// Without the comparison in `tie_to_parent` it runs for ever.
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

/// The kernel unties a child that changes its user or group, so it is tied once more after the
/// user's `server_start`.
///
/// The child is stuck in a handler, so that it hears of its parent's death by that signal only.
/// Without the second `tie_to_parent` it runs for ever.
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

/// A child compares its parent with the one that it was forked by, and never with 1: in a container
/// the server may itself be process 1. (Every other orphan here is adopted by the scenario's
/// process, a subreaper, which is not process 1 either.)
///
/// Without it (`getppid() == 1` in the child's handler) the child takes itself for an orphan, and its
/// client is cut off after `kill_timeout`.
fn f05_a_child_of_process_1_is_no_orphan(world: &mut World) {
    let flags = ["--max-clients", "1", "--kill-timeout", "100"];
    let Some(server) = Contained::spawn(world, "serve", &flags) else {
        return;
    };
    let mut held = Held::new(&server.outer.address());
    let child = server.expect_children(1)[0];
    // An orphan would be ended after `kill_timeout`.
    send(child, Signal::SIGINT);
    holds("the client is served", Duration::from_millis(500), || {
        held.is_served();
        true
    });
    let pid = held.pid;
    drop(held);
    expect_exit(&server.outer, pid, "Finished exit status: 0");
    server.ends_well();
}

/// The end of the death watch that tells of the parent's life is closed first thing in a child, and
/// on an exec: nobody whom a child has started keeps it open.
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
    assert!(port_is_free(&address));
    send(daemon, Signal::SIGKILL);
}

/// It makes no difference to children how their parent dies.
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

/// An orphan closes the listening socket at once, and keeps but the connection in hand: the port is
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

/// An orphan that is stuck in code keeps the port for `kill_timeout` at the most. Until then a new
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
    let name = |pid| processes::Process::read(pid).map(|process| process.name);
    until("its exec", SOON, || {
        (name(helper).as_deref() == Some("sleep")).then_some(())
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
