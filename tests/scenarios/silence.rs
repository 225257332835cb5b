//! Children that are silent or do not react to signals: which ones are told to stop, killed or
//! spared, and what happens if SIGKILL does not end one.

use std::time::Duration;

use crate::subject::{
    Group, Held, await_checks, deaths, ends_well, expect_entry, expect_exit, expect_up, has_signal,
    hold, journal, nobody_was_blamed, pids, send, stop,
};
use crate::support::{SOON, Scenarios, Server, Signal, World, holds, processes, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    a07_a_silent_free_child_is_told_then_killed_and_replaced,
    a08_a_child_stuck_in_code_is_killed_and_the_others_serve,
    a_client_slower_than_timeout_is_served,
    a09_a_deaf_child_that_is_culled_is_killed_after_kill_timeout,
    a09_a_deaf_child_is_killed_after_shutdown_timeout,
    f09_a_parent_that_was_stopped_blames_nobody,
    h02_a_server_that_was_stopped_as_a_whole_blames_nobody,
    a08_every_kind_of_deadlock_is_found,
    a09_every_kind_of_deafness_ends_with_sigkill,
    a10_a_child_that_sigkill_does_not_end_costs_its_place_only,
    a10_a_shutdown_gives_up_a_child_that_sigkill_does_not_end,
    a11_a_slow_exit_is_cut_short,
    a11_a_slow_exit_is_cut_short_in_a_shutdown,
];

/// A child that is stopped (SIGSTOP) is silent: it gets SIGINT, which it cannot handle, and SIGKILL
/// after `kill_timeout`. Its stop does not count as an exit.
///
/// Fails without the SIGKILL of `Child::kill_at`.
fn a07_a_silent_free_child_is_told_then_killed_and_replaced(world: &mut World) {
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

/// The timeout check finds that no ACK has come for longer than `timeout`; SIGINT, then SIGKILL
/// after `kill_timeout`.
fn a08_a_child_stuck_in_code_is_killed_and_the_others_serve(world: &mut World) {
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

/// Each SIGINT that the parent sends has a SIGKILL behind it: a culled child that does not leave is
/// killed after `kill_timeout`.
///
/// Without the SIGKILL of `Child::kill_at`: it never exits.
fn a09_a_deaf_child_that_is_culled_is_killed_after_kill_timeout(world: &mut World) {
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

/// In a shutdown the SIGKILL follows after `shutdown_timeout`.
///
/// Without the SIGKILL of `Child::kill_at`: the server never ends.
fn a09_a_deaf_child_is_killed_after_shutdown_timeout(world: &mut World) {
    let server = world.spawn(
        "serve",
        &[
            "--deaf",
            "--shutdown-timeout",
            "1500",
            "--kill-timeout",
            "100",
            // That the listeners are closed would end them before, with an error.
            "--drain-timeout",
            "60000",
        ],
    );
    server.address();
    let children = expect_up(&server, 2);
    for &pid in &children {
        // Right before its first wait a child looks whether it was told, deaf or not.
        expect_entry(&server, "ready", pid);
        until("the child to wait", SOON, || {
            (processes::state(pid) == Some('S')).then_some(())
        });
    }
    server.signal(Signal::SIGTERM);
    let shutdown = expect_entry(&server, "shutdown", 0);
    assert_eq!(server.wait(SOON).code(), Some(0));
    for pid in children {
        let end = expect_exit(&server, pid, "Shutdown signal: 9 (SIGKILL)");
        assert!(end.at - shutdown.at >= Duration::from_millis(1500));
    }
    assert_eq!(deaths(&server, "Shutdown"), 2);
}

/// Children keep serving while their parent is stopped. ACKs that have arrived meanwhile are read
/// before silence is judged.
///
/// Fails if timers fire before the reading, and (by chance) if a wait that SIGCONT has interrupted
/// is taken to have found nothing.
fn f09_a_parent_that_was_stopped_blames_nobody(world: &mut World) {
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

/// Time in which the parent should have run but did not does not count as silence, and the next
/// check waits until children have had time to say ACK: no child is killed after SIGSTOP, a pause
/// of the machine or a suspend.
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

/// A child that hangs says no ACK, whatever it waits for, and the timeout check only looks at ACKs.
fn a08_every_kind_of_deadlock_is_found(world: &mut World) {
    let flags = ["--timeout", "1000", "--kill-timeout", "200"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let mut stuck = hold(&address, 2);
    for (held, misdeed) in stuck.iter_mut().zip(["deadlock", "read-for-ever"]) {
        held.client.send_line(misdeed);
    }
    for mut held in stuck {
        expect_entry(&server, "silent-busy", held.pid);
        expect_exit(&server, held.pid, "TimedOut signal: 9 (SIGKILL)");
        held.client.gone();
    }
    Held::new(&address).is_served();
    ends_well(&server);
}

/// If a child ignores, blocks or swallows SIGINT, it stays in the tables and counts against
/// `max_clients` until SIGKILL has ended it and it has been reaped.
///
/// Without the SIGKILL of `Child::kill_at`: the first of them never exits.
fn a09_every_kind_of_deafness_ends_with_sigkill(world: &mut World) {
    const KILL_TIMEOUT: Duration = Duration::from_millis(1500);
    let flags = ["--start", "3", "--max-clients", "3"];
    let times = ["--timeout", "3000", "--kill-timeout", "1500"];
    let server = world.spawn("serve", &[flags, times].concat());
    let address = server.address();
    expect_up(&server, 3);
    let mut deaf = hold(&address, 3);
    let ways = ["ignore-sigint", "block-sigint", "swallow-sigint"];
    for (held, way) in deaf.iter_mut().zip(ways) {
        assert_eq!(held.client.ask(way), "done");
        held.client.send_line("spin");
    }
    for held in &mut deaf {
        let silent = expect_entry(&server, "silent-busy", held.pid);
        let end = expect_exit(&server, held.pid, "TimedOut signal: 9 (SIGKILL)");
        assert!(end.at - silent.at >= KILL_TIMEOUT);
        held.client.gone();
    }
    Held::new(&address).is_served();
    // Nobody was forked in the place of one that was still dying.
    let mut living = 0;
    for entry in journal(&server) {
        match entry.event.as_str() {
            "forked" => living += 1,
            "exited" => living -= 1,
            _ => {}
        }
        assert!(living <= 3, "{entry:?}");
    }
    ends_well(&server);
}

/// A child that is frozen, and so in state D once it has got SIGKILL.
fn frozen(world: &mut World, flags: &[&str]) -> Option<(Server, Group, Held)> {
    // Longer than all waits together: a scenario that is ended from outside could not thaw it.
    world.deadline(Duration::from_secs(120));
    let group = Group::freezer()?;
    let server = world.spawn("serve", flags);
    let mut held = Held::new(&server.address());
    held.is_served();
    group.enter(held.pid);
    group.freeze();
    Some((server, group, held))
}

/// A child that SIGKILL does not end gets it once, stays in the tables and counts against
/// `max_clients`; the others serve. When it dies it is reaped and replaced like any other.
fn a10_a_child_that_sigkill_does_not_end_costs_its_place_only(world: &mut World) {
    let flags = [
        "--max-clients",
        "2",
        "--timeout",
        "1000",
        "--kill-timeout",
        "200",
    ];
    let Some((server, group, held)) = frozen(world, &flags) else {
        return;
    };
    let address = server.address();
    expect_entry(&server, "silent-busy", held.pid);
    until("SIGKILL for the child", SOON, || {
        has_signal(held.pid, "ShdPnd", Signal::SIGKILL).then_some(())
    });
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(Held::new(&address).pid);
    }
    assert!(others.iter().all(|&pid| pid == others[0]), "no third child");
    assert!(processes::is_alive(held.pid));
    assert_eq!(pids(&server, "exited"), []);
    group.thaw();
    expect_exit(&server, held.pid, "TimedOut signal: 9 (SIGKILL)");
    let _two = hold(&address, 2);
    drop(_two);
    ends_well(&server);
}

/// Five seconds after the SIGKILL of such a child the shutdown continues without it, and the log
/// names it.
///
/// Without `give_up_the_immortal`: the server never ends.
fn a10_a_shutdown_gives_up_a_child_that_sigkill_does_not_end(world: &mut World) {
    world.expect_orphans();
    let Some((server, group, held)) = frozen(world, &["--shutdown-timeout", "200"]) else {
        return;
    };
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(2 * SOON).code(), Some(0));
    assert!(processes::is_alive(held.pid));
    let error = format!("child {} cannot be killed", held.pid);
    assert!(server.stderr().contains(&error), "{}", server.stderr());
    group.thaw();
    until("the child to die", SOON, || {
        world.reap_orphans().contains(&held.pid).then_some(())
    });
}

/// An exit that hangs is silence like any other, and a SIGINT in between does not change the
/// recorded cause.
fn a11_a_slow_exit_is_cut_short(world: &mut World) {
    let flags = ["--timeout", "1000", "--kill-timeout", "1000"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let mut held = Held::new(&address);
    held.client.send_line("slow-exit");
    expect_entry(&server, "silent-busy", held.pid);
    send(held.pid, Signal::SIGINT);
    expect_exit(&server, held.pid, "TimedOut signal: 9 (SIGKILL)");
    held.client.gone();
    Held::new(&address).is_served();
    ends_well(&server);
}

/// In a shutdown such an exit may take `shutdown_timeout`.
fn a11_a_slow_exit_is_cut_short_in_a_shutdown(world: &mut World) {
    let server = world.spawn("serve", &["--shutdown-timeout", "1000"]);
    let mut held = Held::new(&server.address());
    held.client.send_line("slow-exit");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, held.pid, "Shutdown signal: 9 (SIGKILL)");
}
