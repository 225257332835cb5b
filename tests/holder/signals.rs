//! Signals for the server: they are sent to the holder, and its parent acts on each once, whichever
//! parent that is.

use std::time::Duration;

use nix::sys::signal::killpg;
use nix::unistd::Pid;

use crate::kills::hold;
use crate::support::{SOON, Scenarios, Signal, World, connect, holds, processes, scenarios, until};
use crate::watched::{Watched, send};

pub const SCENARIOS: Scenarios = scenarios![
    a_stop_is_passed_on_and_the_exit_code_comes_back,
    a_stop_of_the_whole_group_counts_once,
    ctrl_z_stops_the_holder_like_the_others,
    a_second_stop_kills,
    a_stop_goes_on_in_the_next_parent,
    a_stop_without_a_parent_is_for_the_next,
    a_reload_is_passed_on_and_the_settings_are_read_again_by_the_next_parent,
    a_parent_that_hangs_is_replaced_at_sigabrt,
    signals_that_are_not_handled_end_the_parent_alone,
    max_clients_that_were_raised_hold_under_the_next_parent,
];

fn a_stop_is_passed_on_and_the_exit_code_comes_back(world: &mut World) {
    let watched = Watched::new(world, &["--code", "3"]);
    watched.expect_ready(4);
    watched.kill_parent();
    watched.server.signal(Signal::SIGTERM);
    assert_eq!(watched.server.wait(SOON).code(), Some(3));
    assert_eq!(watched.said("shutting down"), 1);
}

/// As a terminal or a service manager sends it: to the holder, the parent and the children. A connection
/// in hand is not cut, which a second SIGTERM would do.
fn a_stop_of_the_whole_group_counts_once(world: &mut World) {
    let server = world.program("held").own_group().spawn();
    let watched = Watched::of(server);
    let mut client = connect(&watched.address());
    client.ask("who");
    let group = Pid::from_raw(watched.server.pid().cast_signed());
    killpg(group, Signal::SIGTERM).expect("a signal");
    watched.expect("shutting down", 1);
    client.ask("who");
    client.close_write();
    client.eof();
    assert_eq!(watched.server.wait(SOON).code(), Some(0));
}

/// A shell goes on when all processes of the job have stopped.
fn ctrl_z_stops_the_holder_like_the_others(world: &mut World) {
    let server = world.program("held").own_group().spawn();
    let watched = Watched::of(server);
    let mut client = connect(&watched.address());
    client.ask("who");
    let group = Pid::from_raw(watched.server.pid().cast_signed());
    killpg(group, Signal::SIGTSTP).expect("a signal");
    for pid in [watched.server.pid(), watched.parent()] {
        until("both to have stopped", SOON, || {
            (processes::state(pid) == Some('T')).then_some(())
        });
    }
    killpg(group, Signal::SIGCONT).expect("a signal");
    client.ask("who");
    watched.kill_parent();
    client.ask("who");
    drop(client);
    watched.stop();
}

fn a_second_stop_kills(world: &mut World) {
    let watched = Watched::new(world, &[]);
    let mut client = connect(&watched.address());
    client.ask("who");
    watched.server.signal(Signal::SIGTERM);
    watched.expect("shutting down", 1);
    client.ask("who");
    watched.server.signal(Signal::SIGTERM);
    client.gone();
    assert_eq!(watched.server.wait(SOON).code(), Some(0));
}

/// The parent is killed in the middle of a stop: the next one goes on with it.
fn a_stop_goes_on_in_the_next_parent(world: &mut World) {
    for flags in [&[][..], &["--pre-stop-delay", "300"]] {
        let watched = Watched::new(world, flags);
        let mut client = connect(&watched.address());
        client.ask("who");
        watched.server.signal(Signal::SIGTERM);
        if flags.is_empty() {
            watched.expect("shutting down", 1);
        }
        watched.kill_parent();
        client.ask("who");
        client.close_write();
        client.eof();
        assert_eq!(watched.server.wait(SOON).code(), Some(0));
    }
}

fn a_stop_without_a_parent_is_for_the_next(world: &mut World) {
    let watched = Watched::new(world, &[]);
    watched.expect_ready(4);
    watched.server.signal(Signal::SIGSTOP);
    send(watched.parent(), Signal::SIGKILL);
    watched.server.signal(Signal::SIGTERM);
    watched.server.signal(Signal::SIGCONT);
    assert_eq!(watched.server.wait(SOON).code(), Some(0));
    assert_eq!(watched.said("shutting down"), 1);
}

fn a_reload_is_passed_on_and_the_settings_are_read_again_by_the_next_parent(world: &mut World) {
    let watched = Watched::new(world, &[]);
    let before = watched.expect_ready(4);
    watched.server.signal(Signal::SIGHUP);
    watched.expect("reloaded", 1);
    let renewed = watched.expect_ready(4);
    assert!(before.is_disjoint(&renewed));
    watched.kill_parent();
    watched.expect("settings read 1", 2);
    // They are those of the reload, so none is replaced.
    let as_before = || watched.children() == renewed;
    holds(
        "no child is replaced",
        Duration::from_millis(300),
        as_before,
    );
    watched.server.signal(Signal::SIGTTIN);
    // Of two signals that wait, that for a stop comes first.
    watched.expect("max_clients is now 41", 1);
    let stdout = watched.stop();
    assert!(stdout.contains("max_clients 41"), "{stdout}");
}

/// As a watchdog sends it, which sees that the parent does nothing any more.
fn a_parent_that_hangs_is_replaced_at_sigabrt(world: &mut World) {
    let watched = Watched::new(world, &[]);
    let before = watched.expect_ready(4);
    let (mut client, pid) = hold(&watched.address());
    send(watched.parent(), Signal::SIGSTOP);
    watched.server.signal(Signal::SIGABRT);
    watched.expect("parent ", 2);
    assert_eq!(watched.said("the one before: None Some(9)"), 1);
    assert_eq!(client.ask("who"), pid.to_string());
    assert_eq!(watched.children(), before);
    drop(client);
    watched.stop();
}

/// With `handle_signals` off the holder sends the parent what it gets.
fn signals_that_are_not_handled_end_the_parent_alone(world: &mut World) {
    world.expect_orphans();
    let watched = Watched::new(world, &["--set", "handle_signals=false"]);
    let before = watched.expect_ready(4);
    watched.server.signal(Signal::SIGTERM);
    watched.expect("parent ", 2);
    assert_eq!(watched.said("the one before: None Some(15)"), 1);
    assert_eq!(watched.children(), before);
    // Nobody handles a stop.
    let mut all = before;
    all.insert(watched.parent());
    watched.server.kill9();
    until("all of them to be gone", SOON, || {
        let alive = |pid: &u32| processes::is_alive(*pid);
        (!all.iter().any(alive)).then_some(())
    });
}

/// Children beyond the `max_clients` of the start are not kept, and are replaced.
fn max_clients_that_were_raised_hold_under_the_next_parent(world: &mut World) {
    let watched = Watched::new(world, &["--children", "2", "--max", "2"]);
    watched.expect_children(2);
    let mut held: Vec<_> = (0..2).map(|_| hold(&watched.address())).collect();
    // Two at the same time would be one.
    watched.server.signal(Signal::SIGTTIN);
    let (beyond, gone) = hold(&watched.address());
    watched.server.signal(Signal::SIGTTIN);
    watched.expect_ready(4);
    watched.kill_parent();
    for (client, pid) in &mut held {
        assert_eq!(client.ask("who"), pid.to_string(), "the same child");
    }
    // It finishes what it has in hand, as without a holder.
    drop(beyond);
    until("that child to be gone", SOON, || {
        (!processes::is_alive(gone)).then_some(())
    });
    held.push(hold(&watched.address()));
    watched.expect_ready(4);
    drop(held);
    let stdout = watched.stop();
    assert!(stdout.contains("max_clients 4"), "{stdout}");
}
