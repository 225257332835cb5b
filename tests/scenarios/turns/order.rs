//! Children that take turns, and that those in line still react to signals. That the oldest goes first
//! otherwise is asked in `tests/counts`: it depends on who runs first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{CHILDREN, SOON, pool, stop, until_they_take_turns};
use crate::support::processes::{self, waits_in_accept, waits_in_epoll};
use crate::support::{
    Scenarios, Signal, World, connect, port_is_free, scenarios, try_connect, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    children_take_turns,
    children_take_turns_on_a_unix_socket,
    few_children_without_a_limit_take_turns_unasked,
    who_takes_turns_says_ack_and_leaves_the_line_in_a_lull,
    a_child_in_line_leaves_when_told_to,
    f01_children_in_line_go_with_the_parent,
];

// The scenarios.

/// With `AcceptOrder::InTurn` each idle child gets its share. Without the wait in accept
/// (`WaitMode::new` always `Epoll`) a few children serve all connections.
fn children_take_turns(world: &mut World) {
    let (server, address) = pool(world, &["--order", "in-turn"]);
    until_they_take_turns(&address);
    stop(&server);
}

fn children_take_turns_on_a_unix_socket(world: &mut World) {
    let path = world.tempdir().join("socket");
    let path = path.to_str().unwrap();
    let (server, address) = pool(world, &["--order", "in-turn", "--unix", path]);
    until_they_take_turns(&address);
    stop(&server);
}

fn few_children_without_a_limit_take_turns_unasked(world: &mut World) {
    let (server, address) = pool(world, &[]);
    until_they_take_turns(&address);
    stop(&server);
}

/// With ACKs due every fifty milliseconds, and no child timed out in two seconds of taking turns; then each
/// of the children goes where it does not wake up for nothing.
fn who_takes_turns_says_ack_and_leaves_the_line_in_a_lull(world: &mut World) {
    let server = world.spawn("in_turns", &["--order", "in-turn", "--timeout", "1000"]);
    let address = server.address();
    let before = server.expect_children(CHILDREN);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        until_they_take_turns(&address);
    }
    until("a lull", SOON, || {
        let waits = |&child: &u32| waits_in_epoll(child);
        server.children().iter().all(waits).then_some(())
    });
    assert_eq!(server.children(), before, "nobody was timed out");
    stop(&server);
}

/// Every one of them is told to stop while clients come without a pause, and they wait in accept.
fn a_child_in_line_leaves_when_told_to(world: &mut World) {
    let server = world.spawn("in_turns", &["--order", "in-turn"]);
    let address = server.address();
    let children = server.expect_children(CHILDREN);
    until_they_take_turns(&address);
    for child in children {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // So many that a turn comes before a child gives up waiting for it, on a busy machine too.
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            connect(&address).ask("who?");
                        }
                    })
                })
                .collect();
            let is_refused = || clients.iter().any(|client| client.is_finished());
            until("it to wait in accept", SOON, || {
                (is_refused() || waits_in_accept(child)).then_some(())
            });
            kill(Pid::from_raw(child.cast_signed()), Signal::SIGTERM).unwrap();
            until("it to leave", SOON, || {
                (is_refused() || !processes::is_alive(child)).then_some(())
            });
            over.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().expect("every client to be answered");
            }
        });
        server.expect_children(CHILDREN);
    }
    stop(&server);
}

/// They are not where they would see the death watch: the kernel's signal ends accept(2), and a word
/// without a reader ends the rest.
fn f01_children_in_line_go_with_the_parent(world: &mut World) {
    let (server, address) = pool(world, &["--order", "in-turn"]);
    until_they_take_turns(&address);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Refused, or cut off: there is no server any more.
                if let Ok(mut client) = try_connect(&address) {
                    let _ = client.try_send_line("who?");
                    let _ = client.try_read_line();
                }
            }
        });
        server.kill9();
        until("all children to go", SOON, || {
            world.orphans().is_empty().then_some(())
        });
        over.store(true, Ordering::Relaxed);
    });
    assert!(port_is_free(&address));
}
