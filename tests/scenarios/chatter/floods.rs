//! Floods of output, and a parent that is stopped while its pipes fill up.

use std::process::Stdio;
use std::time::Duration;

use super::order;
use crate::subject::{Held, await_checks, ends_well, expect_up, hold, pids, stop};
use crate::support::{Address, Scenarios, Server, Signal, World, holds, processes, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    c06_four_floods_at_once_keep_nobody_waiting,
    c09_a_stopped_parent_and_full_pipes_cost_nobody_anything,
    h05_timers_go_off_in_a_flood,
];

fn blamed(server: &Server) -> Vec<u32> {
    [pids(server, "silent-free"), pids(server, "silent-busy")].concat()
}

/// A server with six children, four of which only print, to stdout and stderr.
fn flooded(world: &mut World) -> (Server, Address, Vec<Held>) {
    let server = world
        .program("chatter")
        .args(&["--start", "6", "--quiet"])
        .args(&["--timeout", "1000", "--check", "100"])
        .stderr(Stdio::null())
        .spawn();
    let address = server.address();
    expect_up(&server, 6);
    let mut held = hold(&address, 4);
    held.iter_mut().for_each(|held| order(held, "flood"));
    (server, address, held)
}

/// A turn of the loop reads at most 64 KiB of each output, and the full pipe slows the flooding
/// child down; words, clients and exits of the other children are handled as promptly as ever.
fn c06_four_floods_at_once_keep_nobody_waiting(world: &mut World) {
    let (server, address, flooding) = flooded(world);
    let mut others = hold(&address, 2);
    for _ in 0..20 {
        others.iter_mut().for_each(Held::is_served);
        Held::new(&address).is_served();
    }
    await_checks(&server, 20);
    let flooders: Vec<u32> = flooding.iter().map(|held| held.pid).collect();
    let blamed = blamed(&server);
    assert!(
        blamed.iter().all(|pid| flooders.contains(pid)),
        "{blamed:?}, of whom only {flooders:?} flood"
    );
    others.iter_mut().for_each(Held::is_served);
    drop((others, flooding));
    ends_well(&server);
}

/// Timers go off between turns, and each turn is bounded, however much there is to read.
fn h05_timers_go_off_in_a_flood(world: &mut World) {
    let (server, _, flooding) = flooded(world);
    await_checks(&server, 20);
    drop(flooding);
    ends_well(&server);
}

/// A child whose pipe is full drops its ACK and says it later; a child that prints waits until the
/// parent continues. Children serve meanwhile, and the time does not count as silence.
fn c09_a_stopped_parent_and_full_pipes_cost_nobody_anything(world: &mut World) {
    let arguments = ["--start", "4", "--quiet", "--timeout", "1000"];
    let server = world.spawn("chatter", &[&arguments[..], &["--check", "100"]].concat());
    let address = server.address();
    let children = expect_up(&server, 4);
    let mut chatty = hold(&address, 2);
    stop(server.pid());
    for held in &mut chatty {
        // Thrice what a pipe holds.
        held.client.send_line("fill 200");
    }
    holds("the parent is stopped", Duration::from_secs(2), || {
        processes::state(server.pid()) == Some('T')
            && chatty
                .iter_mut()
                .all(|held| held.client.is_silent(Duration::from_millis(1)))
    });
    Held::new(&address).is_served();
    server.signal(Signal::SIGCONT);
    for held in &mut chatty {
        assert_eq!(held.client.read_line(), "done");
    }
    await_checks(&server, 20);
    assert_eq!(blamed(&server), []);
    chatty.iter_mut().for_each(Held::is_served);
    let now = server.children();
    assert!(children.iter().all(|child| now.contains(child)));
    drop(chatty);
    ends_well(&server);
}
