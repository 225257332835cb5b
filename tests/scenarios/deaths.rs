//! Dead children: noticed by whatever means, reported after all their output, reaped, replaced.

use crate::subject;
use crate::subject::{
    Held, deaths, ends_well, expect_entry, expect_exit, expect_up, has_signal, hold, journal,
    last_words_are_heard, pids, send,
};
use crate::support::{SOON, Scenarios, Signal, World, connect, processes, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    a01_an_idle_child_that_is_killed_is_replaced,
    a01_idle_newcomers_that_are_killed_are_no_failed_starts,
    a02_a_busy_child_that_is_killed_costs_its_client_only,
    g01_the_dead_of_a_large_pool_are_found_though_signals_merge,
    g14_the_dead_of_a_large_pool_are_found_behind_a_stranger,
    a13_everything_that_a_killed_child_wrote_comes_before_its_death,
    a14_the_dead_are_found_without_sigchld,
    a17_processes_of_a_dead_child_are_left_alone,
    a18_a_child_that_left_its_session_or_group_is_told_and_reaped,
    a18_a_child_that_became_a_daemon_is_replaced_and_takes_no_connection,
    b01_everything_that_a_child_wrote_before_its_exit_comes_before_its_death,
    b10_without_pidfds_children_are_found_dead_and_told_to_stop,
];

/// SIGCHLD tells of the death, the child is reaped by its pid, and another is forked at once: having
/// served, it was no failed start.
///
/// Without the look after SIGCHLD (`look_for_deaths`): its exit is seen a second later.
fn a01_an_idle_child_that_is_killed_is_replaced(world: &mut World) {
    let server = world.spawn("serve", &["--min-spare", "2"]);
    let address = server.address();
    let mut other = Held::new(&address);
    let victim = Held::new(&address).pid;
    // Having served, it is no start that failed.
    expect_entry(&server, "idle", victim);
    send(victim, Signal::SIGKILL);
    expect_exit(&server, victim, "Killed signal: 9 (SIGKILL)");
    // Its outputs close a moment before it can be reaped, and the replacement may come in between.
    let closed = expect_entry(&server, "closed", victim);
    until("a replacement", SOON, || {
        let entries = journal(&server);
        let mut later = entries.iter().skip_while(|entry| **entry != closed);
        later.find(|entry| entry.event == "forked").map(drop)
    });
    other.is_served();
    Held::new(&address).is_served();
    drop(other);
    ends_well(&server);
    assert_eq!(deaths(&server, "Killed"), 1);
}

/// A child that has waited for a connection has started, however young it is and even if no
/// connection came: nothing delays its replacement.
///
/// When only BUSY or a second of life prove a start: a failed start each, the next fork 100 ms away,
/// then 200 ms and more.
fn a01_idle_newcomers_that_are_killed_are_no_failed_starts(world: &mut World) {
    let server = world.spawn("serve", &["--start", "1"]);
    let address = server.address();
    let mut first = None;
    for killed in 0..8 {
        let victim = until("a newcomer that waits", SOON, || {
            pids(&server, "ready").get(killed).copied()
        });
        first.get_or_insert(victim);
        send(victim, Signal::SIGKILL);
        expect_exit(&server, victim, "Killed signal: 9 (SIGKILL)");
    }
    Held::new(&address).is_served();
    ends_well(&server);
    assert_eq!(deaths(&server, "Killed"), 8);
    // The deaths are told, and nothing of a start that failed.
    let log = "[WARN  prefork_server::observe::log]";
    let first = first.expect("a victim");
    let stderr = server.stderr();
    let lines: Vec<&str> = stderr.lines().collect();
    let [line, number] = lines[..] else {
        panic!("two lines of {stderr}");
    };
    let expected = format!("{log} child {first} has died: signal: 9 (SIGKILL) after");
    assert!(line.starts_with(&expected), "{stderr}");
    let expected = format!("{log} 7 more children: the child has died: signal: 9 (SIGKILL)");
    assert_eq!(number, expected);
}

/// Only the client of the dead child is lost. The listening socket and its queue are shared, so its
/// siblings serve the others, and one child is forked for the wake-up that may be lost.
///
/// Without `owed` in `Monitor::exited`: the replacement never comes.
fn a02_a_busy_child_that_is_killed_costs_its_client_only(world: &mut World) {
    let server = world.spawn("serve", &["--start", "3", "--min-spare", "1"]);
    let address = server.address();
    let mut held = hold(&address, 3);
    let mut victim = held.pop().unwrap();
    server.expect_children(4);
    send(victim.pid, Signal::SIGKILL);
    victim.client.gone();
    expect_exit(&server, victim.pid, "Killed signal: 9 (SIGKILL)");
    // Enough are spare, and one is forked all the same: a wake-up may have died with it.
    until("a replacement", SOON, || {
        (pids(&server, "forked").len() == 5).then_some(())
    });
    held.iter_mut().for_each(Held::is_served);
    Held::new(&address).is_served();
    drop(held);
    ends_well(&server);
    assert_eq!(deaths(&server, "Killed"), 1);
}

/// One SIGCHLD is as good as many: the parent looks until it finds no more dead children.
///
/// Without the look (`look_for_deaths`) they stay zombies.
fn g01_the_dead_of_a_large_pool_are_found_though_signals_merge(world: &mut World) {
    kill_a_large_pool(world, &[]);
}

/// The search for dead children reaps only those: a dead process of the program is left to the
/// program, and does not hide children that have died after it.
///
/// Fails if the look ends at a child that is not ours.
fn g14_the_dead_of_a_large_pool_are_found_behind_a_stranger(world: &mut World) {
    let stdout = kill_a_large_pool(world, &["--stranger"]);
    assert!(stdout.contains("stranger: exit status: 0"), "{stdout}");
}

/// Kills every child of a large pool; what the server printed.
fn kill_a_large_pool(world: &mut World, more: &[&str]) -> String {
    let size = ["--start", "150", "--min-spare", "150", "--max-spare", "190"];
    let limit = ["--max-clients", "200", "--quiet"];
    let server = world.spawn("serve", &[&size[..], &limit, more].concat());
    let address = server.address();
    let victims: Vec<u32> = until("a pool of 150", SOON, || {
        let children = server.children();
        (children.len() >= 150).then_some(children)
    });
    for &victim in &victims {
        send(victim, Signal::SIGKILL);
    }
    // Nobody is there to accept it, and it is not refused.
    let waiting = connect(&address);
    until("a new pool", SOON, || {
        let children = server.children();
        let fresh = children.iter().filter(|child| !victims.contains(child));
        (fresh.count() >= 150 && server.zombies().len() <= more.len()).then_some(())
    });
    drop(Held::of(waiting));
    Held::new(&address).is_served();
    ends_well(&server);
    server.stdout()
}

/// When a child has been reaped, its pipes are read to the end, and only then is its death
/// reported.
fn a13_everything_that_a_killed_child_wrote_comes_before_its_death(world: &mut World) {
    subject::last_words_are_heard(world, "kill", "Killed signal: 9 (SIGKILL)");
}

/// If SIGCHLD is lost, as when the program blocks it, the parent still finds dead children: it
/// looks once a second.
///
/// Without `look_at`: the first victim stays a zombie.
fn a14_the_dead_are_found_without_sigchld(world: &mut World) {
    let flags = ["--block-sigchld", "--min-spare", "2"];
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

/// Grandchildren are not the server's once their parent is dead: they are neither waited for nor
/// signalled.
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

/// Signals go to the child itself, never to a group, and the child is reaped by its pid.
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

/// The process that the parent forked has ended, so it is replaced. Its own child, which continues
/// to serve, cannot say another word, and leaves when it has served its client.
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

/// A dead child is removed in one step: its pipes are read, its death is reported, its record is
/// removed. So no line can come from an unknown child.
fn b01_everything_that_a_child_wrote_before_its_exit_comes_before_its_death(world: &mut World) {
    last_words_are_heard(world, "0", "Finished exit status: 0");
}

/// The parent keeps no pidfd of a child. SIGCHLD reports a death, and a signal is sent only after the
/// kernel has confirmed that the pid is a child of ours that was not reaped.
///
/// Without the look after SIGCHLD (`look_for_deaths`): its exit is seen a second later.
fn b10_without_pidfds_children_are_found_dead_and_told_to_stop(world: &mut World) {
    let server = world.spawn("serve", &["--timeout", "1000"]);
    let address = server.address();
    expect_up(&server, 2);
    let descriptors = server.descriptors();
    let is_pidfd = |(_, target): &(_, String)| target == "anon_inode:[pidfd]";
    assert!(!descriptors.iter().any(is_pidfd));
    let mut held = Held::new(&address);
    send(held.pid, Signal::SIGKILL);
    held.client.gone();
    expect_exit(&server, held.pid, "Killed signal: 9 (SIGKILL)");
    let mut stuck = Held::new(&address);
    stuck.client.send_line("hang");
    expect_entry(&server, "silent-busy", stuck.pid);
    // It hangs in pause(2), which a signal ends, and goes back to it.
    server.signal(Signal::SIGTERM);
    expect_entry(&server, "shutdown", 0);
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_exit(&server, stuck.pid, "TimedOut signal: 9 (SIGKILL)");
    assert_eq!(deaths(&server, "Killed"), 1);
}
