//! How a server ends: one or several stop signals at any time, and children that do not leave.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::listening::{self, ask, spawn_unix};
use crate::subject::{
    Crowd, Held, deaths, expect_entry, expect_exit, expect_losses, expect_up, pids, send, stop,
};
use crate::support::{SOON, Scenarios, Signal, World, holds, scenarios, until};
use crate::tracing;
use crate::tracing::{Stop, Traced, UNLINKS};

pub const SCENARIOS: Scenarios = scenarios![
    sigterm_ends_after_the_connection_in_hand,
    sigint_ends_after_the_connection_in_hand,
    i02_a_second_sigint_kills_what_is_left,
    i02_a_sigint_after_sigterm_kills_what_is_left,
    i02_a_sigint_in_one_turn_with_sigterm_kills_what_is_left,
    i02_a_second_sigterm_kills_what_is_left,
    i02_a_second_sigquit_changes_nothing,
    a_stop_by_sigquit_has_no_bound,
    a_stop_by_sigquit_is_given_a_bound_by_sigterm,
    a_stop_by_sigquit_waits_for_no_start,
    i02_a_delay_before_a_stop_is_ended_by_a_second_signal,
    a_delay_before_a_stop_lets_all_go_on,
    a_shutdown_of_the_programs_own_has_no_delay,
    i01_a_stop_at_any_point_of_the_start_leaves_nothing,
    i02_a_second_sigterm_at_the_very_end_leaves_no_socket_file,
    i05_a_child_that_is_stuck_is_killed_after_shutdown_timeout,
    i12_each_death_of_a_shutdown_is_counted_as_that,
];

// Scenarios: the end.

fn sigterm_ends_after_the_connection_in_hand(world: &mut World) {
    ends_after_the_connection_in_hand(world, Signal::SIGTERM);
}

fn sigint_ends_after_the_connection_in_hand(world: &mut World) {
    ends_after_the_connection_in_hand(world, Signal::SIGINT);
}

fn ends_after_the_connection_in_hand(world: &mut World, signal: Signal) {
    let server = world.spawn("serve", &["--start", "4"]);
    let mut held = Held::new(&server.address());
    expect_up(&server, 4);
    server.signal(signal);
    assert_eq!(server.expect_children(1), [held.pid]);
    held.is_served();
    holds("it is waited for", Duration::from_millis(300), || {
        server.try_wait().is_none()
    });
    held.is_served();
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert_eq!(deaths(&server, "Shutdown"), 4);
    assert!(!server.stdout().contains("SIGKILL"));
}

/// A second SIGINT kills the children that are left.
fn i02_a_second_sigint_kills_what_is_left(world: &mut World) {
    kills_what_is_left(world, Signal::SIGINT);
}

/// A SIGINT in a shutdown that SIGTERM has begun kills the children that are left.
fn i02_a_sigint_after_sigterm_kills_what_is_left(world: &mut World) {
    kills_what_is_left(world, Signal::SIGTERM);
}

fn kills_what_is_left(world: &mut World, first: Signal) {
    let server = world.spawn("serve", &[]);
    let mut held = Held::new(&server.address());
    server.signal(first);
    assert_eq!(server.expect_children(1), [held.pid]);
    held.is_served();
    server.signal(Signal::SIGINT);
    held.client.gone();
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, held.pid, "Shutdown signal: 9 (SIGKILL)");
    expect_losses(&server, "1 connections: 0 queued, 1 in hand");
}

/// Two signals kill the children also if the parent finds both at once, as after a time in which it
/// did not run.
fn i02_a_sigint_in_one_turn_with_sigterm_kills_what_is_left(world: &mut World) {
    let server = world.spawn("serve", &[]);
    let mut held = Held::new(&server.address());
    stop(server.pid());
    server.signal(Signal::SIGTERM);
    server.signal(Signal::SIGINT);
    server.signal(Signal::SIGCONT);
    held.client.gone();
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, held.pid, "Shutdown signal: 9 (SIGKILL)");
}

/// A second SIGTERM kills the children that are left, as a second SIGINT does.
fn i02_a_second_sigterm_kills_what_is_left(world: &mut World) {
    let server = world.spawn("serve", &[]);
    let mut held = Held::new(&server.address());
    server.signal(Signal::SIGINT);
    assert_eq!(server.expect_children(1), [held.pid]);
    held.is_served();
    server.signal(Signal::SIGTERM);
    held.client.gone();
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, held.pid, "Shutdown signal: 9 (SIGKILL)");
}

/// A second SIGQUIT changes nothing, and neither does one after SIGTERM.
fn i02_a_second_sigquit_changes_nothing(world: &mut World) {
    for first in [Signal::SIGQUIT, Signal::SIGTERM] {
        let server = world.spawn("serve", &[]);
        let mut held = Held::new(&server.address());
        server.signal(first);
        assert_eq!(server.expect_children(1), [held.pid]);
        server.signal(Signal::SIGQUIT);
        holds("it is waited for", Duration::from_millis(500), || {
            held.is_served();
            server.try_wait().is_none()
        });
        drop(held);
        assert_eq!(server.wait(SOON).code(), Some(0));
        assert_eq!(pids(&server, "shutdown").len(), 1);
    }
}

/// Without `Stop::is_unbounded` in `Monitor::retire` the client is cut off after the timeout.
fn a_stop_by_sigquit_has_no_bound(world: &mut World) {
    let server = world.spawn("serve", &["--shutdown-timeout", "200"]);
    let mut held = Held::new(&server.address());
    server.signal(Signal::SIGQUIT);
    assert_eq!(server.expect_children(1), [held.pid]);
    holds("it is waited for", Duration::from_millis(1000), || {
        held.is_served();
        server.try_wait().is_none()
    });
    let pid = held.pid;
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, pid, "Shutdown exit status: 0");
}

fn a_stop_by_sigquit_is_given_a_bound_by_sigterm(world: &mut World) {
    let server = world.spawn("serve", &["--shutdown-timeout", "500"]);
    let mut held = Held::new(&server.address());
    server.signal(Signal::SIGQUIT);
    assert_eq!(server.expect_children(1), [held.pid]);
    holds("it is waited for", Duration::from_millis(700), || {
        held.is_served();
        true
    });
    let told = Instant::now();
    server.signal(Signal::SIGTERM);
    held.client.gone();
    assert!(told.elapsed() >= Duration::from_millis(500));
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, held.pid, "Shutdown signal: 9 (SIGKILL)");
}

fn a_stop_by_sigquit_waits_for_no_start(world: &mut World) {
    let mut gate = world.gate("start");
    let server = world.spawn("serve", &["--start", "1", "--drain-timeout", "300"]);
    let child = gate.reached(SOON);
    server.signal(Signal::SIGQUIT);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, child, "Shutdown signal: 9 (SIGKILL)");
}

/// The second signal ends the delay and kills no child; the third kills.
fn i02_a_delay_before_a_stop_is_ended_by_a_second_signal(world: &mut World) {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let server = world.spawn("serve", &["--pre-stop-delay", "60000"]);
        let mut held = Held::new(&server.address());
        server.signal(signal);
        assert_eq!(expect_entry(&server, "announced", 0).rest, "60000");
        Held::new(&server.address()).is_served();
        server.signal(signal);
        expect_entry(&server, "shutdown", 0);
        assert_eq!(server.expect_children(1), [held.pid]);
        held.is_served();
        // The third, or after SIGQUIT the second of those that count.
        until("SIGTERM to kill", SOON, || {
            if server.try_wait().is_none() {
                server.signal(Signal::SIGTERM);
            }
            server.try_wait()
        });
        held.client.gone();
        expect_exit(&server, held.pid, "Shutdown signal: 9 (SIGKILL)");
    }
}

/// Clients are served, and a child that dies is replaced. Then the stop begins by itself.
///
/// Without the delay (`StopEffect::Shutdown` in place of `StopEffect::Announce`) the clients are refused at once.
fn a_delay_before_a_stop_lets_all_go_on(world: &mut World) {
    let server = world.spawn("serve", &["--start", "4", "--pre-stop-delay", "1500"]);
    let address = server.address();
    expect_up(&server, 4);
    let crowd = Crowd::come(&address, 4);
    crowd.is_served(10);
    let told = Instant::now();
    server.signal(Signal::SIGTERM);
    crowd.is_served(50);
    let victim = Held::new(&address);
    send(victim.pid, Signal::SIGKILL);
    expect_entry(&server, "exited", victim.pid);
    until("another child", SOON, || {
        (pids(&server, "forked").len() > 4).then_some(())
    });
    assert_eq!(pids(&server, "shutdown"), []);
    crowd.leave_refused();
    assert!(told.elapsed() >= Duration::from_millis(1500));
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// `handler_run_error` and the like cannot wait: the delay is for signals.
fn a_shutdown_of_the_programs_own_has_no_delay(world: &mut World) {
    let flags = ["--commanded", "--pre-stop-delay", "60000"];
    let (commands, mut to_server) = std::io::pipe().unwrap();
    let server = world.program("serve").args(&flags).stdin(commands).spawn();
    Held::new(&server.address()).is_served();
    to_server.write_all(b"s").unwrap();
    assert_eq!(server.wait(SOON).code(), Some(0));
}

// The start and the end.

/// The signal handlers are installed before the first socket is opened. Before that a signal ends
/// the process, which holds nothing yet; after that the loop acts on it in its first turn.
///
/// The server is held at every third stop at a system call from before its start to its first wait, and told to
/// stop there.
/// Without the handlers (`Subscription::new` that installs none) the signal ends the process with the file
/// there.
fn i01_a_stop_at_any_point_of_the_start_leaves_nothing(world: &mut World) {
    let path = world.tempdir().join("socket");
    let (mut point, mut died, mut ended) = (0, 0, 0);
    loop {
        let mut gate = world.gate("before-start");
        let server = spawn_unix(world, &path);
        gate.reached(SOON);
        let held = Traced::seize(server.pid());
        gate.open();
        let Some(held) = held else {
            server.address();
            return listening::stop(&server);
        };
        let waits = (0..point).any(|_| is_a_wait(held.step()));
        server.signal(Signal::SIGTERM);
        held.release();
        let status = server.wait(SOON);
        match (status.code(), status.signal()) {
            (Some(0), None) => ended += 1,
            (None, Some(signal)) if signal == Signal::SIGTERM as i32 => died += 1,
            _ => panic!("at point {point}: {status}\n{}", server.stderr()),
        }
        let left = path.symlink_metadata().is_ok() || !world.orphans().is_empty();
        assert!(!left, "at point {point}: {status}");
        world.reap_orphans();
        if waits {
            break;
        }
        point += 3;
    }
    eprintln!("{point} points: {died} times ended by the signal, {ended} times in order");
    assert!(died > 0 && ended > 0, "{died} and {ended}");
}

fn is_a_wait(stop: Stop) -> bool {
    match stop {
        Stop::Call(number) => tracing::EPOLL_WAITS.contains(&number),
        Stop::Ended => panic!("the server to run"),
    }
}

/// The server restores signal dispositions last, when its socket file has been removed.
///
/// The server is held where it is about to remove the file, and told to stop once more.
/// Without it (`System::close` before `handler_stop`) the signal ends the process, and the file stays.
fn i02_a_second_sigterm_at_the_very_end_leaves_no_socket_file(world: &mut World) {
    let path = world.tempdir().join("socket");
    let server = spawn_unix(world, &path);
    ask(&server.address());
    let Some(held) = Traced::seize(server.pid()) else {
        return listening::stop(&server);
    };
    server.signal(Signal::SIGTERM);
    held.advance_to(UNLINKS);
    server.signal(Signal::SIGTERM);
    server.signal(Signal::SIGINT);
    held.release();
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert!(path.symlink_metadata().is_err());
}

/// A child that does not leave gets SIGKILL when `shutdown_timeout` has passed.
fn i05_a_child_that_is_stuck_is_killed_after_shutdown_timeout(world: &mut World) {
    let server = world.spawn("serve", &["--shutdown-timeout", "500"]);
    let mut stuck = Held::new(&server.address());
    stuck.client.send_line("spin");
    server.signal(Signal::SIGTERM);
    let shutdown = expect_entry(&server, "shutdown", 0);
    stuck.client.gone();
    assert_eq!(server.wait(SOON).code(), Some(0));
    let end = expect_exit(&server, stuck.pid, "Shutdown signal: 9 (SIGKILL)");
    assert!(end.at - shutdown.at >= Duration::from_millis(500));
}

/// A shutdown is a success however it went: `run` returns the report, in which each death has its
/// cause, and the program chooses its exit code.
fn i12_each_death_of_a_shutdown_is_counted_as_that(world: &mut World) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = world.spawn("serve", &["--start", "3"]);
        let address = server.address();
        expect_up(&server, 3);
        let victim = Held::new(&address).pid;
        send(victim, Signal::SIGKILL);
        expect_entry(&server, "exited", victim);
        let held = Held::new(&address);
        until("its successor", SOON, || {
            (pids(&server, "forked").len() == 4).then_some(())
        });
        let children = server.expect_children(3).len() as u64;
        server.signal(signal);
        server.expect_children(1);
        // One that a signal ends in a shutdown is one of the shutdown.
        send(held.pid, Signal::SIGKILL);
        assert_eq!(server.wait(SOON).code(), Some(0));
        let count = (deaths(&server, "Killed"), deaths(&server, "Shutdown"));
        assert_eq!(count, (1, children));
    }
}
