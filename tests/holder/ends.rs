//! How a server with a holder ends: by its parents, which never come to work, by the end of the holder,
//! as process 1.

use std::process::Command;

use crate::support::{SOON, Scenarios, Signal, World, connect, processes, scenarios, until};
use crate::upgrades::{end_orphan, orphan};
use crate::watched::{Watched, expect_gone, send};

pub const SCENARIOS: Scenarios = scenarios![
    parents_that_die_in_their_start_end_the_server,
    a_first_parent_that_dies_at_its_first_fork_ends_the_server,
    a_stop_because_of_a_failure_is_one_for_the_next_parent_too,
    a_holder_that_is_killed_takes_all_with_it,
    a_holder_that_is_killed_takes_children_with_it_that_were_taken_over,
    process_1_of_a_container_is_a_holder,
    a_holder_that_cannot_fork_says_so_once,
];

/// Each parent after the first dies before its first turn is over: the holder gives up after five, and
/// ends the children, which may finish what they have in hand.
fn parents_that_die_in_their_start_end_the_server(world: &mut World) {
    // The client has no more time than that once the holder has given up.
    let flags = ["--dies-at-takeover", "--set", "kill_timeout=30s"];
    let watched = Watched::new(world, &flags);
    watched.expect_ready(4);
    let mut client = connect(&watched.address());
    client.ask("who");
    send(watched.parent(), Signal::SIGKILL);
    until("the holder to give up", SOON, || {
        let stderr = watched.server.stderr();
        stderr.contains("before they come to work").then_some(())
    });
    client.ask("who");
    client.close_write();
    client.eof();
    assert_eq!(watched.server.wait(SOON).code(), Some(70));
}

fn a_first_parent_that_dies_at_its_first_fork_ends_the_server(world: &mut World) {
    let server = world.spawn("held", &["--dies-at-fork"]);
    server.address();
    assert_eq!(server.wait(SOON).code(), Some(70));
}

/// The parent cannot fork, and ends the server; it is killed before that has ended. A supervisor is to
/// see a failure all the same.
fn a_stop_because_of_a_failure_is_one_for_the_next_parent_too(world: &mut World) {
    let watched = Watched::new(world, &["--children", "1", "--fails-at-fork", "2"]);
    let mut client = connect(&watched.address());
    client.ask("who");
    watched.expect("shutting down", 1);
    watched.kill_parent();
    client.ask("who");
    client.close_write();
    client.eof();
    assert_eq!(watched.server.wait(SOON).code(), Some(1));
    let stderr = watched.server.stderr();
    assert!(
        stderr.contains("error: threads under an earlier parent: "),
        "{stderr}"
    );
}

fn a_holder_that_is_killed_takes_all_with_it(world: &mut World) {
    world.expect_orphans();
    let watched = Watched::new(world, &[]);
    let mut all = watched.expect_ready(4);
    all.insert(watched.parent());
    watched.server.kill9();
    expect_gone(all);
}

/// Children of the holder itself, and of a parent that is killed in the same moment.
fn a_holder_that_is_killed_takes_children_with_it_that_were_taken_over(world: &mut World) {
    world.expect_orphans();
    let watched = Watched::new(world, &[]);
    watched.expect_ready(4);
    watched.kill_parent();
    let held: Vec<_> = (0..6)
        .map(|_| {
            let mut client = connect(&watched.address());
            client.ask("who");
            client
        })
        .collect();
    let mut all = watched.children();
    assert!(all.len() >= 6);
    drop(held);
    all.insert(watched.parent());
    watched.server.signal(Signal::SIGSTOP);
    send(watched.parent(), Signal::SIGKILL);
    watched.server.kill9();
    expect_gone(all);
}

const UNSHARE: [&str; 2] = ["-Urpf", "--mount-proc"];

/// The holder is process 1 of a namespace: it reaps orphans, passes on signals, and parents come and go.
fn process_1_of_a_container_is_a_holder(world: &mut World) {
    let attempt = Command::new("unshare").args(UNSHARE).arg("true").output();
    if !attempt.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this machine lets nobody have a pid namespace");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let launch = world.command("unshare").args(&UNSHARE).arg(own);
    let outer = launch.args(&["--program", "held"]).spawn();
    let address = outer.address();
    let holder = outer.expect_children(1)[0];
    let said = |text: &str| outer.stdout().matches(text).count();
    // The pids that the server tells are those of its namespace: the parent is the child with children.
    let parent = || {
        let children = processes::children(holder).into_iter();
        let mut parents =
            children.filter(|it| it.is_alive() && !processes::children(it.pid).is_empty());
        parents.next().map(|process| process.pid)
    };
    let mut client = connect(&address);
    let pid = client.ask("who");
    let before = orphan(&address, holder);
    let first = until("a parent", SOON, parent);
    send(first, Signal::SIGKILL);
    until("another parent", SOON, || {
        (said("took over") == 1).then_some(())
    });
    assert_eq!(client.ask("who"), pid, "the same child");
    end_orphan(before);
    end_orphan(orphan(&address, holder));
    drop(client);
    send(holder, Signal::SIGTERM);
    assert_eq!(outer.wait(SOON).code(), Some(0), "{}", outer.stderr());
}

/// The children serve meanwhile, and the next parent comes when it can.
fn a_holder_that_cannot_fork_says_so_once(world: &mut World) {
    let watched = Watched::new(world, &[]);
    let before = watched.expect_ready(4);
    let mut client = connect(&watched.address());
    let pid = client.ask("who");
    let lines = || {
        watched
            .server
            .stderr()
            .matches("no parent can be forked")
            .count()
    };
    for round in 1..=2 {
        if !limit_files(watched.server.pid(), 3) {
            eprintln!("skipped: this machine has no prlimit");
            break;
        }
        send(watched.parent(), Signal::SIGKILL);
        until("the holder to say so", SOON, || {
            (lines() == round).then_some(())
        });
        assert_eq!(client.ask("who"), pid);
        assert!(limit_files(watched.server.pid(), 1024));
        watched.expect("parent ", round + 1);
        assert_eq!(lines(), round, "once: it has tried more than once");
        assert_eq!(watched.children(), before);
    }
    drop(client);
    watched.stop();
}

/// How many descriptors a process may open from now on.
fn limit_files(pid: u32, count: usize) -> bool {
    let limit = format!("--nofile={count}:");
    let mut command = Command::new("prlimit");
    let status = command.args(["--pid", &pid.to_string(), &limit]).status();
    status.is_ok_and(|status| status.success())
}
