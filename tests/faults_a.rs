//! Section A of the fault catalogue, as far as no other file has it: children that crash, exit,
//! hang, are out of memory or run away.
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
    Group, Held, SOON, deaths, ends_well, expect_entry, expect_exit, expect_up, has_signal, hold,
    journal, pids, send, serve,
};
use support::{Server, Signal, World, processes, programs, scenarios, until};

fn main() -> ExitCode {
    support::main(
        programs![serve],
        scenarios![
            a03_every_crash_costs_one_client_only,
            a04_every_kind_of_panic_stays_in_the_child,
            a05_every_kind_of_exit_is_followed_by_another_child,
            a06_a_child_without_memory_dies_alone,
            a06_a_child_that_the_kernel_ends_for_its_memory_is_replaced,
            a08_every_kind_of_deadlock_is_found,
            a09_every_kind_of_deafness_ends_with_sigkill,
            a10_a_child_that_sigkill_does_not_end_costs_its_place_only,
            a10_a_shutdown_gives_up_a_child_that_sigkill_does_not_end,
            a11_a_slow_exit_is_cut_short,
            a11_a_slow_exit_is_cut_short_in_a_shutdown,
            a12_children_that_die_before_a_word_are_replaced_ever_more_slowly,
            a13_everything_that_a_killed_child_wrote_comes_before_its_death,
            a14_the_dead_are_found_without_pidfd_and_without_sigchld,
            a17_processes_of_a_dead_child_are_left_alone,
            a18_a_child_that_left_its_session_or_group_is_told_and_reaped,
            a18_a_child_that_became_a_daemon_is_replaced_and_takes_no_connection,
        ],
    )
}

/// Has one child after the other do something that it does not survive, while another serves a
/// client all the time; `how` is what the parent must say of its end.
fn die_of(world: &mut World, misdeeds: &[(&str, &str)]) -> Server {
    let server = world.spawn("serve", &["--start", "3", "--min-spare", "2"]);
    let address = server.address();
    let mut bystander = Held::new(&address);
    for (misdeed, how) in misdeeds {
        let mut held = Held::new(&address);
        held.client.send_line(misdeed);
        held.client.gone();
        expect_exit(&server, held.pid, how);
        bystander.is_served();
    }
    let forked = pids(&server, "forked").len();
    assert!(forked >= 3 + misdeeds.len(), "each has a successor");
    drop(bystander);
    Held::new(&address).is_served();
    ends_well(&server);
    server
}

/// The child is another process, so nobody else is touched. The hook learns the signal. What std has
/// installed for SIGSEGV and SIGBUS stays, so a stack overflow says so and is SIGABRT.
fn a03_every_crash_costs_one_client_only(world: &mut World) {
    let misdeeds = [
        ("segv", "Killed signal: 11 (SIGSEGV)"),
        ("bus", "Killed signal: 7 (SIGBUS)"),
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        ("ill", "Killed signal: 4 (SIGILL)"),
        ("abort", "Killed signal: 6 (SIGABRT)"),
        ("overflow", "Killed signal: 6 (SIGABRT)"),
    ];
    let server = die_of(world, &misdeeds);
    assert_eq!(deaths(&server, "Killed"), misdeeds.len() as u64);
    server.expect_stderr("the overflow", |text| {
        text.contains("has overflowed its stack")
    });
}

/// Wherever it comes from and whatever it carries, it ends the child: with 101, or with SIGABRT
/// where Rust itself gives up.
fn a04_every_kind_of_panic_stays_in_the_child(world: &mut World) {
    world.expect_panics();
    let server = die_of(
        world,
        &[
            ("panic-in-drop", "Failed exit status: 101"),
            ("panic-with-a-number", "Failed exit status: 101"),
            ("panic-with-a-bomb", "Failed exit status: 101"),
            ("panic-twice", "Killed signal: 6 (SIGABRT)"),
        ],
    );
    // One report: `run` has returned in the parent alone.
    assert_eq!(server.stdout().matches(" failed forks, ").count(), 1);
}

/// It counts as having finished, and is followed by another child like any that died unasked.
fn a05_every_kind_of_exit_is_followed_by_another_child(world: &mut World) {
    let server = die_of(
        world,
        &[
            ("exit 0", "Finished exit status: 0"),
            ("c-exit 0", "Finished exit status: 0"),
            ("exit-at-once 0", "Finished exit status: 0"),
            ("exit 7", "Failed exit status: 7"),
        ],
    );
    assert_eq!(server.stdout().matches(" failed forks, ").count(), 1);
}

/// An allocation that fails aborts the child, and no other process.
fn a06_a_child_without_memory_dies_alone(world: &mut World) {
    let server = die_of(world, &[("eat-with-a-limit", "Killed signal: 6 (SIGABRT)")]);
    server.expect_stderr("the reason", |text| text.contains("memory allocation of"));
}

/// It is killed by a signal that the parent did not send, and counted as that (`Cause::Killed`): a
/// SIGKILL under that name is the kernel's, or an administrator's.
fn a06_a_child_that_the_kernel_ends_for_its_memory_is_replaced(world: &mut World) {
    let Some(group) = Group::memory("33554432") else {
        return;
    };
    let server = world.spawn("serve", &[]);
    let address = server.address();
    let mut bystander = Held::new(&address);
    let mut held = Held::new(&address);
    group.enter(held.pid);
    held.client.send_line("eat");
    held.client.gone();
    expect_exit(&server, held.pid, "Killed signal: 9 (SIGKILL)");
    bystander.is_served();
    drop(bystander);
    Held::new(&address).is_served();
    ends_well(&server);
    assert_eq!(deaths(&server, "Killed"), 1);
}

/// Whatever it waits for, it says no ACK, and that is what is looked at.
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

/// Ignored, blocked or swallowed: the child stays in the books and counts against `max_clients`
/// until SIGKILL has ended it and it has been reaped.
///
/// Without the SIGKILL of `Child::kill_at`: the first of them never exits.
fn a09_every_kind_of_deafness_ends_with_sigkill(world: &mut World) {
    const KILL_TIMEOUT: Duration = Duration::from_millis(1500);
    let flags = ["--start", "3", "--max-clients", "3"];
    let times = ["--timeout", "1000", "--kill-timeout", "1500"];
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

/// It is sent SIGKILL once and stays in the books, where it counts against `max_clients`; the others
/// serve. When it can die it is reaped and replaced like any.
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

/// Five seconds after its SIGKILL the shutdown goes on without it, and the log names it.
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

/// An exit that does not come to its end is silence like any other, and a SIGINT in between does
/// not change the cause that was recorded.
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

/// In a shutdown its time is `shutdown_timeout`.
fn a11_a_slow_exit_is_cut_short_in_a_shutdown(world: &mut World) {
    let server = world.spawn("serve", &["--shutdown-timeout", "1000"]);
    let mut held = Held::new(&server.address());
    held.client.send_line("slow-exit");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, held.pid, "Shutdown signal: 9 (SIGKILL)");
}

/// Whatever ended it, a child that dies young and before its first BUSY or NOT_BUSY has failed to
/// start, and each further one is waited for longer.
fn a12_children_that_die_before_a_word_are_replaced_ever_more_slowly(world: &mut World) {
    let mut start = world.gate("start");
    let server = world.spawn("serve", &["--start", "1"]);
    let address = server.address();
    for delay in ["0ns", "100ms", "200ms", "400ms"] {
        let pid = start.reached(SOON);
        send(pid, Signal::SIGKILL);
        expect_exit(&server, pid, "FailedStart signal: 9 (SIGKILL)");
        let warning = format!("child {pid} failed to start: signal: 9 (SIGKILL)");
        let text = server.expect_stderr("the warning", |text| text.contains(&warning));
        let line = text.lines().find(|line| line.contains(&warning)).unwrap();
        assert!(line.ends_with(&format!("next fork in {delay}")), "{line}");
    }
    start.open();
    Held::new(&address).is_served();
    ends_well(&server);
    assert_eq!(deaths(&server, "FailedStart"), 4);
}

/// When it has been reaped, what stands in its pipes is read to the end, and only then is its death
/// told.
fn a13_everything_that_a_killed_child_wrote_comes_before_its_death(world: &mut World) {
    subject::last_words_are_heard(world, "kill", "Killed signal: 9 (SIGKILL)");
}

/// Beside the pidfd and SIGCHLD the parent looks once a second for children of which neither would
/// tell.
///
/// Without `look_at`: the first victim stays a zombie.
fn a14_the_dead_are_found_without_pidfd_and_without_sigchld(world: &mut World) {
    let flags = ["--without-pidfd", "--block-sigchld", "--min-spare", "2"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let mut held = Held::new(&address);
    assert!(has_signal(server.pid(), "SigBlk", Signal::SIGCHLD));
    for _ in 0..2 {
        let victim = Held::new(&address).pid;
        expect_entry(&server, "idle", victim);
        send(victim, Signal::SIGKILL);
        expect_entry(&server, "exited", victim);
        held.is_served();
    }
    until("nobody to be left unburied", SOON, || {
        server.zombies().is_empty().then_some(())
    });
    drop(held);
    ends_well(&server);
}

/// They belong to nobody here once their parent is dead: not waited for, not signalled.
fn a17_processes_of_a_dead_child_are_left_alone(world: &mut World) {
    world.expect_orphans();
    let server = world.spawn("serve", &[]);
    let address = server.address();
    let mut held = Held::new(&address);
    assert_eq!(held.client.ask("helper"), "done");
    let helper = until("the helper", SOON, || {
        let mut below = processes::children(held.pid).into_iter();
        below.find(|process| process.name == "sleep")
    });
    send(held.pid, Signal::SIGKILL);
    held.client.gone();
    expect_exit(&server, held.pid, "Killed signal: 9 (SIGKILL)");
    Held::new(&address).is_served();
    ends_well(&server);
    assert!(processes::is_alive(helper.pid));
    send(helper.pid, Signal::SIGKILL);
}

/// Signals go to the child itself, never to a group, and it is reaped by its pid.
fn a18_a_child_that_left_its_session_or_group_is_told_and_reaped(world: &mut World) {
    let server = world.spawn("serve", &[]);
    let address = server.address();
    let mut strayed = hold(&address, 2);
    for (held, way) in strayed.iter_mut().zip(["setsid", "setpgid"]) {
        assert_eq!(held.client.ask(way), "done");
        held.is_served();
    }
    server.signal(Signal::SIGTERM);
    let children: Vec<u32> = strayed.iter().map(|held| held.pid).collect();
    for &pid in &children {
        until("the child to be told", SOON, || {
            pids(&server, "shutdown").first().copied()
        });
        assert!(processes::is_alive(pid), "it finishes its connection");
    }
    drop(strayed);
    assert_eq!(server.wait(SOON).code(), Some(0));
    for pid in children {
        expect_exit(&server, pid, "Shutdown exit status: 0");
    }
}

/// The process that was forked here has ended, so another is. The one that goes on in its name
/// cannot say another word, and leaves when it has served its client.
///
/// Without `unheard` in the channel: it takes connections for as long as the parent lives, and counts nowhere.
fn a18_a_child_that_became_a_daemon_is_replaced_and_takes_no_connection(world: &mut World) {
    world.expect_orphans();
    let server = world.spawn("serve", &["--start", "1"]);
    let address = server.address();
    let mut held = Held::new(&address);
    assert_eq!(held.client.ask("daemonise"), "done");
    expect_exit(&server, held.pid, "Finished exit status: 0");
    let daemon = subject::who(&mut held.client);
    assert_ne!(daemon, held.pid);
    drop(held);
    until("the daemon to leave", SOON, || {
        (!processes::is_alive(daemon)).then_some(())
    });
    let mut next = Held::new(&address);
    assert!(server.children().contains(&next.pid));
    next.is_served();
    drop(next);
    ends_well(&server);
}
