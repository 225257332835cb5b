//! The number of children: how many there are at the start, under load, after it, and never more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::subject::{
    Held, children_at_once, deaths, ends_well, expect_entry, expect_exit, expect_up, has_signal,
    hold, pids, report, send, stop, who,
};
use crate::support::{
    Address, SOON, Scenarios, Server, Signal, World, connect, holds, pause, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    start_forks_start_servers,
    d10_held_connections_bring_more_children_up_to_max_clients,
    e07_max_clients_is_never_exceeded_while_children_come_and_go,
    a_surplus_is_culled_from_the_oldest_when_it_has_lasted,
    a_surplus_is_culled_at_once_if_cull_after_is_zero,
    a_surplus_that_has_not_lasted_is_not_culled,
    d09_a_culled_child_that_says_busy_is_given_its_time,
    a_child_leaves_at_max_requests_and_is_replaced,
    e08_a_load_at_the_border_neither_forks_nor_culls_without_end,
];

/// Looks for as long as `busy` goes on, and returns the most children that it saw at once, and how
/// often it looked.
fn most_children_during(server: &Server, busy: impl FnOnce()) -> (usize, usize) {
    let (done, most, looks) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(children_at_once(server.pid()), Ordering::Relaxed);
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        busy();
        done.store(true, Ordering::Relaxed);
    });
    (most.into_inner(), looks.into_inner())
}

fn start_forks_start_servers(world: &mut World) {
    let server = world.spawn("serve", &["--start", "4"]);
    let address = server.address();
    expect_up(&server, 4);
    // One busy, three spare: nothing is missing, so nothing is forked.
    Held::new(&address).is_served();
    ends_well(&server);
    assert_eq!(pids(&server, "forked").len(), 4);
    assert!(report(&server).starts_with("4 forked, 0 failed forks"));
    assert_eq!(deaths(&server, "Shutdown"), 4);
}

/// At `max_clients` no child is forked or killed: new clients wait in the backlog and are served in
/// turn.
fn d10_held_connections_bring_more_children_up_to_max_clients(world: &mut World) {
    // Fails without the two checks against `max_clients`, in `plan` and in `Monitor::fork`.
    const MAX: usize = 5;
    let server = world.spawn("serve", &["--start", "2", "--max-clients", "5"]);
    let address = server.address();
    let (most, _) = most_children_during(&server, || {
        let held = hold(&address, MAX);
        let mut busy: Vec<u32> = held.iter().map(|held| held.pid).collect();
        busy.sort_unstable();
        busy.dedup();
        assert_eq!(busy, server.expect_children(MAX));
        let mut queued: Vec<_> = (0..2 * MAX).map(|_| connect(&address)).collect();
        for client in &mut queued {
            client.send_line("who");
        }
        holds("the others wait", Duration::from_millis(300), || {
            queued
                .iter_mut()
                .all(|client| client.is_silent(Duration::from_millis(1)))
        });
        drop(held);
        // In the order in which they came, each when another has gone.
        for mut client in queued {
            client.read_line();
        }
    });
    assert_eq!(most, MAX);
    assert_eq!(server.children().len(), MAX);
    ends_well(&server);
}

/// Every living process counts against `max_clients`, including dying ones, and so do planned
/// forks.
///
/// Fails, as the one above, without the check against `max_clients` (with 5 children at once and
/// more).
fn e07_max_clients_is_never_exceeded_while_children_come_and_go(world: &mut World) {
    const MAX: usize = 4;
    let server = world.spawn(
        "serve",
        &["--start", "4", "--max-clients", "4", "--max-requests", "1"],
    );
    let address = server.address();
    let (most, looks) = most_children_during(&server, || {
        thread::scope(|scope| {
            for _ in 0..3 * MAX {
                scope.spawn(|| (0..20).for_each(|_| ask_once(&address)));
            }
        });
    });
    assert!(most <= MAX, "{most} children at once");
    assert!(looks >= 20, "only {looks} looks");
    until("every child but the last ones to leave", SOON, || {
        (pids(&server, "exited").len() == 3 * MAX * 20).then_some(())
    });
    ends_well(&server);
    assert_eq!(deaths(&server, "Finished"), 3 * MAX as u64 * 20);
}

fn ask_once(address: &Address) {
    who(&mut connect(address));
}

/// Fails without the sorting in `Pool::oldest_free`.
fn a_surplus_is_culled_from_the_oldest_when_it_has_lasted(world: &mut World) {
    const CULL_AFTER: Duration = Duration::from_secs(4);
    let server = world.spawn(
        "serve",
        &["--start", "6", "--max-spare", "2", "--cull-after", "4000"],
    );
    server.address();
    // The youngest gets the place of the oldest, so that places do not tell the age.
    expect_up(&server, 6);
    send(pids(&server, "forked")[0], Signal::SIGKILL);
    let forked = until("the seventh child", SOON, || {
        Some(pids(&server, "forked")).filter(|forked| forked.len() == 7)
    });
    server.expect_children(2);
    for &pid in &forked[1..5] {
        let born = expect_entry(&server, "forked", pid).at;
        let died = expect_exit(&server, pid, "Culled exit status: 0").at;
        assert!(died - born >= CULL_AFTER, "{pid} after {:?}", died - born);
    }
    assert_eq!(server.children(), forked[5..]);
    holds("two are left", Duration::from_millis(500), || {
        server.children().len() == 2
    });
    ends_well(&server);
    assert_eq!(
        (deaths(&server, "Culled"), deaths(&server, "Shutdown")),
        (4, 2)
    );
}

fn a_surplus_is_culled_at_once_if_cull_after_is_zero(world: &mut World) {
    let server = world.spawn(
        "serve",
        &["--start", "5", "--max-spare", "2", "--cull-after", "0"],
    );
    server.address();
    server.expect_children(2);
    for pid in until("three deaths", SOON, || {
        Some(pids(&server, "exited")).filter(|exited| exited.len() == 3)
    }) {
        expect_exit(&server, pid, "Culled exit status: 0");
    }
    ends_well(&server);
}

fn a_surplus_that_has_not_lasted_is_not_culled(world: &mut World) {
    let server = world.spawn(
        "serve",
        &[
            "--start",
            "5",
            "--max-spare",
            "2",
            "--cull-after",
            "3600000",
        ],
    );
    server.address();
    let children = expect_up(&server, 5);
    holds("all five are left", Duration::from_millis(1500), || {
        server.children() == children
    });
    ends_well(&server);
}

/// A child that is told to stop when a connection has just woken it takes the connection and says
/// BUSY; then it has all the time that it needs and is not killed.
fn d09_a_culled_child_that_says_busy_is_given_its_time(world: &mut World) {
    // Fails without `BUSY_SINCE_TOLD` in `Child::kill_at`.
    let server = world.spawn(
        "serve",
        &["--start", "3", "--max-spare", "2", "--kill-timeout", "2000"],
    );
    let address = server.address();
    let children = expect_up(&server, 3);
    children.iter().for_each(|&pid| stop(pid));
    let told = until("one child to be told", SOON, || {
        let mut told = children.iter().copied();
        told.find(|&pid| has_signal(pid, "ShdPnd", Signal::SIGINT))
    });
    let client = connect(&address);
    send(told, Signal::SIGCONT);
    let mut held = Held::of(client);
    assert_eq!(held.pid, told);
    // Longer than `kill_timeout`.
    holds("the client is served", Duration::from_millis(2500), || {
        held.is_served();
        true
    });
    assert!(!pids(&server, "exited").contains(&told));
    drop(held);
    expect_exit(&server, told, "Culled exit status: 0");
    for &pid in children.iter().filter(|&&pid| pid != told) {
        send(pid, Signal::SIGCONT);
    }
    ends_well(&server);
}

fn a_child_leaves_at_max_requests_and_is_replaced(world: &mut World) {
    let server = world.spawn("serve", &["--max-clients", "1", "--max-requests", "2"]);
    let address = server.address();
    let served: Vec<u32> = (0..6).map(|_| Held::new(&address).pid).collect();
    for pair in served.chunks(2) {
        assert_eq!(pair[0], pair[1], "two connections a child: {served:?}");
        expect_exit(&server, pair[0], "Finished exit status: 0");
    }
    assert_ne!(served[1], served[2]);
    server.expect_children(1);
    ends_well(&server);
    assert_eq!(deaths(&server, "Finished"), 3);
}

/// Only the part of a surplus that has existed for all of `cull_after` is culled.
fn e08_a_load_at_the_border_neither_forks_nor_culls_without_end(world: &mut World) {
    let flags = ["--start", "2", "--min-spare", "2", "--max-spare", "2"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    expect_up(&server, 2);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let held = Held::new(&address);
        pause(Duration::from_millis(50));
        drop(held);
        pause(Duration::from_millis(50));
    }
    let changes = pids(&server, "forked").len() + pids(&server, "exited").len();
    let allowed = 3 + 2 * start.elapsed().as_secs() as usize;
    assert!(changes <= allowed, "{changes} forks and deaths");
    ends_well(&server);
}
