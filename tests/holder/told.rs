//! Children that were told to stop when their parent is killed: under the next one they have the time that
//! they had, and end for the same reason. So does a reload.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::kills::hold;
use crate::support::{Client, SOON, Scenarios, Signal, World, connect, holds, scenarios, until};
use crate::watched::{Watched, send, who};

pub const SCENARIOS: Scenarios = scenarios![
    f01_a_child_that_is_replaced_finishes_with_its_client_under_the_next_parent,
    f01_a_stop_gives_its_own_time_under_the_next_parent,
    a_second_stop_kills_under_the_next_parent,
    a_reload_is_completed_by_the_next_parent,
    a_reload_to_bad_settings_is_given_up_by_the_next_parent,
    what_was_in_force_before_a_reload_is_put_back_by_the_next_parent,
    a_reload_that_has_just_begun_is_completed_by_the_next_parent,
    a_reload_that_has_not_begun_is_done_by_the_next_parent,
];

/// Short, so that a child that is killed then is killed during the scenario.
const KILL: [&str; 2] = ["--set", "kill_timeout=300ms"];
/// So long is looked whether it is.
const LOOK: Duration = Duration::from_millis(1_500);

#[track_caller]
fn serves_on(client: &mut Client, pid: u32) {
    let what = format!("child {pid} serves its client");
    holds(&what, LOOK, || client.ask("who") == pid.to_string());
}

/// With a holder a child that is to go, and may finish what it has in hand, may do so under the next parent
/// as well.
fn f01_a_child_that_is_replaced_finishes_with_its_client_under_the_next_parent(world: &mut World) {
    for reason in ["Reloaded", "Recycled"] {
        let watched = Watched::new(world, &KILL);
        watched.expect_ready(4);
        let (mut client, pid) = hold(&watched.address());
        match reason {
            "Reloaded" => watched.server.signal(Signal::SIGHUP),
            _ => _ = client.ask("replace"),
        }
        watched.expect(&format!("told {pid} {reason}"), 1);
        watched.kill_parent();
        serves_on(&mut client, pid);
        drop(client);
        watched.expect(&format!("exited {pid} {reason} exit status: 0"), 1);
        watched.stop();
    }
}

/// With a holder a stop has the same bound, or none, under the next parent.
fn f01_a_stop_gives_its_own_time_under_the_next_parent(world: &mut World) {
    for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
        let watched = Watched::new(world, &[KILL, ["--set", "shutdown_timeout=60s"]].concat());
        let (mut client, pid) = hold(&watched.address());
        watched.server.signal(signal);
        watched.expect("shutting down", 1);
        watched.kill_parent();
        serves_on(&mut client, pid);
        client.close_write();
        client.eof();
        assert_eq!(watched.server.wait(SOON).code(), Some(0));
        let stdout = watched.server.stdout();
        let ended = format!("exited {pid} Shutdown exit status: 0");
        assert!(stdout.contains(&ended), "{stdout}");
    }
}

/// Whichever parent has heard the first one.
fn a_second_stop_kills_under_the_next_parent(world: &mut World) {
    let flags = ["--set", "shutdown_timeout=60s", "--set", "kill_timeout=60s"];
    let watched = Watched::new(world, &flags);
    let (mut client, _) = hold(&watched.address());
    watched.server.signal(Signal::SIGTERM);
    watched.expect("shutting down", 1);
    watched.kill_parent();
    client.ask("who");
    watched.server.signal(Signal::SIGTERM);
    client.gone();
    assert_eq!(watched.server.wait(SOON).code(), Some(0));
}

fn a_reload_is_completed_by_the_next_parent(world: &mut World) {
    let watched = Watched::new(world, &[]);
    let before = watched.expect_ready(4);
    watched.server.signal(Signal::SIGHUP);
    watched.expect("forked ", 5);
    watched.kill_parent();
    watched.expect("reloaded", 1);
    // A successor that had not begun when its parent was killed ends with it, and is replaced as well.
    until("the new children alone", SOON, || {
        let after = watched.children();
        (before.is_disjoint(&after) && (4..=5).contains(&after.len())).then_some(())
    });
    watched.stop();
}

fn a_reload_to_bad_settings_is_given_up_by_the_next_parent(world: &mut World) {
    let watched = Watched::new(world, &["--bad-settings"]);
    let before = watched.expect_ready(4);
    watched.server.signal(Signal::SIGHUP);
    watched.expect("exited ", 1);
    watched.kill_parent();
    watched.expect("reload failed", 1);
    // A successor that was under way may still be about to end.
    until("the old ones alone", SOON, || {
        (watched.children() == before).then_some(())
    });
    assert_eq!(watched.said("told "), 0);
    watched.stop();
}

/// The settings of the start, then of a reload that works, then of one whose children fail after a kill.
fn what_was_in_force_before_a_reload_is_put_back_by_the_next_parent(world: &mut World) {
    let file = world.tempdir().join("settings");
    let write = |text: &str| std::fs::write(&file, text).expect("a file of settings");
    let watched = Watched::new(world, &["--settings", file.to_str().expect("a path")]);
    watched.expect_ready(4);
    write("50 good");
    watched.server.signal(Signal::SIGHUP);
    watched.expect("reloaded", 1);
    write("60 bad");
    watched.server.signal(Signal::SIGHUP);
    watched.expect("exited ", 4 + 1);
    watched.kill_parent();
    watched.expect("reload failed", 1);
    who(&watched.address());
    let stdout = watched.stop();
    assert!(stdout.contains("max_clients 50"), "{stdout}");
}

/// One that was asked for by a hook, in the turn in which the parent is killed: no signal comes again.
fn a_reload_that_has_just_begun_is_completed_by_the_next_parent(world: &mut World) {
    let mut gate = world.gate("wait");
    let watched = Watched::new(world, &[]);
    let before = watched.expect_ready(4);
    connect(&watched.address()).ask("reload and wait");
    let parent = gate.reached(SOON);
    assert_eq!(
        (parent, watched.said("settings read")),
        (watched.parent(), 1)
    );
    send(parent, Signal::SIGKILL);
    gate.open();
    watched.expect("parent ", 2);
    expect_all_new(&watched, &before);
}

/// It waits behind forks, for the next turn, when the parent is killed.
fn a_reload_that_has_not_begun_is_done_by_the_next_parent(world: &mut World) {
    let watched = Watched::new(world, &["--max", "50"]);
    let before = watched.expect_ready(4);
    let mut gate = world.gate("fork");
    connect(&watched.address()).ask("reload behind 33 forks");
    for _ in 0..32 {
        let parent = gate.reached(SOON);
        gate.release(parent);
    }
    let parent = gate.reached(SOON);
    assert_eq!(
        (parent, watched.said("settings read")),
        (watched.parent(), 0)
    );
    send(parent, Signal::SIGKILL);
    gate.open();
    watched.expect("parent ", 2);
    expect_all_new(&watched, &before);
}

#[track_caller]
fn expect_all_new(watched: &Watched, before: &BTreeSet<u32>) {
    watched.expect("reloaded", 1);
    until("the new children alone", SOON, || {
        before.is_disjoint(&watched.children()).then_some(())
    });
    watched.stop();
}
