//! Children that have fallen silent, or do not hear: who is told to stop, who is killed, who is not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod subject;
mod support;

use std::process::ExitCode;
use std::time::Duration;

use subject::{
    Held, SOON, deaths, ends_well, expect_entry, expect_exit, expect_up, has_signal, pids, send,
    serve, stop,
};
use support::{Server, Signal, World, holds, processes, programs, scenarios, until};

fn main() -> ExitCode {
    support::main(
        programs![serve],
        scenarios![
            a_silent_free_child_is_told_then_killed_and_replaced,
            a_child_stuck_in_code_is_killed_and_the_others_serve,
            a_client_slower_than_timeout_is_served,
            a_deaf_child_that_is_culled_is_killed_after_kill_timeout,
            a_deaf_child_is_killed_after_shutdown_timeout,
            a_parent_that_was_stopped_blames_nobody,
            h02_a_server_that_was_stopped_as_a_whole_blames_nobody,
        ],
    )
}

/// Waits until the parent has looked for silent children `count` more times.
fn await_checks(server: &Server, count: usize) {
    let wanted = pids(server, "check").len() + count;
    until("more timeout checks", SOON, || {
        (pids(server, "check").len() >= wanted).then_some(())
    });
}

fn nobody_was_blamed(server: &Server) {
    for event in ["silent-free", "silent-busy", "exited"] {
        assert_eq!(pids(server, event), [], "{event}");
    }
}

/// Fails without the SIGKILL of `Child::kill_at`.
fn a_silent_free_child_is_told_then_killed_and_replaced(world: &mut World) {
    const KILL_TIMEOUT: Duration = Duration::from_secs(2);
    let server = world.spawn(
        "serve",
        &[
            "--min-spare",
            "2",
            "--timeout",
            "1000",
            "--kill-timeout",
            "2000",
        ],
    );
    let address = server.address();
    let victim = expect_up(&server, 2)[0];
    stop(victim);
    let silent = expect_entry(&server, "silent-free", victim);
    until("SIGINT for the child", SOON, || {
        has_signal(victim, "ShdPnd", Signal::SIGINT).then_some(())
    });
    // It is no spare child any more, so another is forked before it is dead.
    until("a replacement", SOON, || {
        (server.children().len() == 3).then_some(())
    });
    let end = expect_exit(&server, victim, "TimedOut signal: 9 (SIGKILL)");
    assert!(end.at - silent.at >= KILL_TIMEOUT);
    Held::new(&address).is_served();
    ends_well(&server);
    assert_eq!(deaths(&server, "TimedOut"), 1);
}

fn a_child_stuck_in_code_is_killed_and_the_others_serve(world: &mut World) {
    const KILL_TIMEOUT: Duration = Duration::from_secs(1);
    let server = world.spawn("serve", &["--timeout", "1000", "--kill-timeout", "1000"]);
    let address = server.address();
    let mut stuck = Held::new(&address);
    stuck.client.send_line("spin");
    let other = Held::new(&address).pid;
    assert_ne!(other, stuck.pid);
    let silent = expect_entry(&server, "silent-busy", stuck.pid);
    Held::new(&address).is_served();
    let end = expect_exit(&server, stuck.pid, "TimedOut signal: 9 (SIGKILL)");
    assert!(end.at - silent.at >= KILL_TIMEOUT);
    stuck.client.gone();
    Held::new(&address).is_served();
    until("a replacement", SOON, || {
        (server.children().len() >= 2).then_some(())
    });
    ends_well(&server);
}

/// Fails without the ACKs that `Comm::wait_stream` sends.
fn a_client_slower_than_timeout_is_served(world: &mut World) {
    let server = world.spawn("serve", &["--timeout", "1000", "--kill-timeout", "100"]);
    let mut held = Held::new(&server.address());
    await_checks(&server, 3);
    held.is_served();
    drop(held);
    nobody_was_blamed(&server);
    ends_well(&server);
}

fn a_deaf_child_that_is_culled_is_killed_after_kill_timeout(world: &mut World) {
    let server = world.spawn(
        "serve",
        &[
            "--deaf",
            "--start",
            "3",
            "--max-spare",
            "2",
            "--cull-after",
            "500",
            "--kill-timeout",
            "700",
            "--shutdown-timeout",
            "100",
        ],
    );
    server.address();
    let oldest = until("three children", SOON, || {
        Some(pids(&server, "forked")).filter(|forked| forked.len() == 3)
    })[0];
    let born = expect_entry(&server, "forked", oldest).at;
    let end = expect_exit(&server, oldest, "Culled signal: 9 (SIGKILL)");
    assert!(end.at - born >= Duration::from_millis(1200));
    assert_eq!(server.children().len(), 2);
    ends_well(&server);
}

/// Fails without the SIGKILL of `Child::kill_at`.
fn a_deaf_child_is_killed_after_shutdown_timeout(world: &mut World) {
    let server = world.spawn(
        "serve",
        &[
            "--deaf",
            "--shutdown-timeout",
            "1500",
            "--kill-timeout",
            "100",
        ],
    );
    server.address();
    let children = expect_up(&server, 2);
    server.signal(Signal::SIGTERM);
    let shutdown = expect_entry(&server, "shutdown", 0);
    assert_eq!(server.wait(SOON).code(), Some(0));
    for pid in children {
        let end = expect_exit(&server, pid, "Shutdown signal: 9 (SIGKILL)");
        assert!(end.at - shutdown.at >= Duration::from_millis(1500));
    }
    assert_eq!(deaths(&server, "Shutdown"), 2);
}

/// The ACKs that came meanwhile are read before anybody is judged. Fails if timers fire before the
/// reading, and (by chance) if a wait that SIGCONT has interrupted is taken to have found nothing.
fn a_parent_that_was_stopped_blames_nobody(world: &mut World) {
    let server = world.spawn("serve", &["--timeout", "1000", "--kill-timeout", "100"]);
    let mut held = Held::new(&server.address());
    expect_up(&server, 2);
    stop(server.pid());
    stays_stopped(&server);
    server.signal(Signal::SIGCONT);
    await_checks(&server, 2);
    nobody_was_blamed(&server);
    held.is_served();
    drop(held);
    ends_well(&server);
}

/// Time in which the parent should have run and did not is nobody's silence, and the first check
/// after it is put off until children have had the time to say ACK: after SIGSTOP, a paused machine
/// or a suspend nobody is killed.
fn h02_a_server_that_was_stopped_as_a_whole_blames_nobody(world: &mut World) {
    // Without the gaps in `Child::silence` both children were told to stop when they woke.
    let server = world.spawn(
        "serve",
        &[
            "--timeout",
            "1000",
            "--check",
            "100",
            "--kill-timeout",
            "100",
        ],
    );
    let address = server.address();
    let children = expect_up(&server, 2);
    children.iter().for_each(|&pid| stop(pid));
    stop(server.pid());
    stays_stopped(&server);
    server.signal(Signal::SIGCONT);
    await_checks(&server, 1);
    children.iter().for_each(|&pid| send(pid, Signal::SIGCONT));
    await_checks(&server, 20);
    nobody_was_blamed(&server);
    Held::new(&address).is_served();
    ends_well(&server);
}

/// For much longer than the timeout of one second.
fn stays_stopped(server: &Server) {
    holds("the parent is stopped", Duration::from_secs(3), || {
        processes::state(server.pid()) == Some('T')
    });
}
