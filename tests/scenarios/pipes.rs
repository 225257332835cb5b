//! Pipes and exits that do not coincide: outputs that end while the child lives, outputs that other
//! processes hold when it is dead, and children that have become another program.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::subject::{
    Held, deaths, ends_well, expect_entry, expect_exit, expect_up, hold, journal, pids, send,
};
use crate::support::{SOON, Scenarios, Server, Signal, World, holds, processes, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    a16_an_execed_child_that_closes_its_outputs_is_told_and_replaced,
    a16_an_execed_child_that_ignores_it_is_killed_and_counts_until_then,
    a16_an_execed_child_that_says_nothing_is_timed_out,
    b04_a_child_whose_stdout_has_ended_is_timed_out,
    b04_a_child_whose_stdout_has_ended_is_told_of_the_shutdown,
    b03_a_grandchild_that_holds_the_pipes_does_not_keep_the_child,
    b03_a_grandchild_that_writes_for_ever_does_not_keep_the_parent,
    b02_a_child_that_closes_its_outputs_is_in_the_books_until_it_is_reaped,
    b04_a_child_with_words_elsewhere_that_closes_its_streams_is_told_to_stop,
    b04_a_child_without_stdout_is_heard_and_told_to_stop: long,
    b06_a_grandchild_that_writes_words_and_torn_lines_changes_nothing,
];

/// A server of one child at the most, whose first turns into another program.
fn spawn_execing(world: &mut World, command: &str, flags: &[&str]) -> (Server, PathBuf) {
    let exec = world.tempdir().join("exec");
    fs::write(&exec, "").unwrap();
    let path = exec.to_str().unwrap();
    let common = [
        "--max-clients",
        "1",
        "--exec-while",
        path,
        "--exec",
        command,
    ];
    let server = world.spawn("serve", &[&common, flags].concat());
    server.address();
    (server, exec)
}

/// A child that has become another program is recognized by the end of its outputs: after 100 ms it
/// gets SIGINT, and another child takes its place.
fn a16_an_execed_child_that_closes_its_outputs_is_told_and_replaced(world: &mut World) {
    let (server, exec) = spawn_execing(world, "exec sleep 1000 >&- 2>&-", &[]);
    let pid = server.expect_children(1)[0];
    // It is told a moment later.
    expect_entry(&server, "closed", pid);
    fs::remove_file(exec).unwrap();
    expect_exit(&server, pid, "Closed signal: 2 (SIGINT)");
    Held::new(&server.address()).is_served();
    ends_well(&server);
    assert_eq!(
        pids(&server, "closed")
            .iter()
            .filter(|&&p| p == pid)
            .count(),
        1
    );
}

/// If that program ignores SIGINT, SIGKILL follows after `kill_timeout`, and until it is reaped it
/// counts against `max_clients`.
///
/// Fails if `max_clients` does not count the retiring ones: the original forgets such a child.
fn a16_an_execed_child_that_ignores_it_is_killed_and_counts_until_then(world: &mut World) {
    let command = "trap '' INT; exec sleep 1000 >&- 2>&-";
    let (server, exec) = spawn_execing(world, command, &["--kill-timeout", "1500"]);
    let pid = server.expect_children(1)[0];
    let closed = expect_entry(&server, "closed", pid);
    fs::remove_file(exec).unwrap();
    let end = expect_exit(&server, pid, "Closed signal: 9 (SIGKILL)");
    assert!(end.at - closed.at >= Duration::from_millis(1500));
    Held::new(&server.address()).is_served();
    let events: Vec<_> = journal(&server)
        .into_iter()
        .filter(|entry| ["forked", "closed", "exited"].contains(&entry.event.as_str()))
        .map(|entry| (entry.event, entry.pid == pid))
        .collect();
    let expected = [
        ("forked", true),
        ("closed", true),
        ("exited", true),
        ("forked", false),
    ];
    assert_eq!(
        events,
        expected.map(|(event, same)| (event.to_owned(), same))
    );
    ends_well(&server);
    assert_eq!(deaths(&server, "Closed"), 1);
}

/// If that program keeps the outputs open, the timeout check finds its silence.
fn a16_an_execed_child_that_says_nothing_is_timed_out(world: &mut World) {
    let (server, exec) = spawn_execing(world, "exec sleep 1000", &["--timeout", "2000"]);
    let pid = server.expect_children(1)[0];
    until("the exec", SOON, || is_sleep(pid).then_some(()));
    fs::remove_file(exec).unwrap();
    expect_entry(&server, "silent-free", pid);
    expect_exit(&server, pid, "TimedOut signal: 2 (SIGINT)");
    Held::new(&server.address()).is_served();
    ends_well(&server);
}

/// A child whose stdout has ended but whose stderr has not says no more words: it stays in the
/// monitor's tables until the timeout check finds its silence.
///
/// If the end of its stdout removes it from the tables, as in the original: it is never found
/// silent.
fn b04_a_child_whose_stdout_has_ended_is_timed_out(world: &mut World) {
    let (server, exec) = spawn_execing(world, "exec sleep 1000 >&-", &["--timeout", "2000"]);
    let pid = server.expect_children(1)[0];
    until("the exec", SOON, || is_sleep(pid).then_some(()));
    fs::remove_file(exec).unwrap();
    expect_entry(&server, "silent-free", pid);
    expect_exit(&server, pid, "TimedOut signal: 2 (SIGINT)");
    Held::new(&server.address()).is_served();
    ends_well(&server);
}

/// In a shutdown such a child is told to stop like any other.
///
/// If the end of its stdout removes it from the tables: the server ends without telling it to stop.
fn b04_a_child_whose_stdout_has_ended_is_told_of_the_shutdown(world: &mut World) {
    let (server, _) = spawn_execing(world, "exec sleep 1000 >&-", &[]);
    let pid = server.expect_children(1)[0];
    until("the exec", SOON, || is_sleep(pid).then_some(()));
    ends_well(&server);
    expect_exit(&server, pid, "Shutdown signal: 2 (SIGINT)");
}

fn is_sleep(pid: u32) -> bool {
    processes::Process::read(pid).is_some_and(|process| process.name == "sleep")
}

/// A child is gone when it has been reaped, whatever process holds its pipes; the parent closes its ends
/// then.
///
/// When a child is reaped only once its pipes have ended (`Flags::CLOSED`): it never is.
fn b03_a_grandchild_that_holds_the_pipes_does_not_keep_the_child(world: &mut World) {
    let server = world.spawn("serve", &["--max-clients", "1", "--max-requests", "1"]);
    let address = server.address();
    expect_up(&server, 1);
    let before = server.descriptors_settled().len();
    let mut held = Held::new(&address);
    let grandchild: u32 = held.client.ask("grandchild").parse().unwrap();
    let pid = held.pid;
    drop(held);
    expect_exit(&server, pid, "Finished exit status: 0");
    assert!(processes::is_alive(grandchild));
    Held::new(&address).is_served();
    until("a third child", SOON, || {
        (pids(&server, "up").len() == 3).then_some(())
    });
    assert_eq!(server.descriptors_settled().len(), before);
    end_orphan(world, grandchild);
    ends_well(&server);
    assert_eq!(deaths(&server, "Finished"), 2);
}

/// Of a dead child's outputs only what is in the pipe at that moment is read; a grandchild that
/// writes later finds a pipe without a reader.
///
/// Without the bound (`Contact::allowance`) the parent never removes the child.
fn b03_a_grandchild_that_writes_for_ever_does_not_keep_the_parent(world: &mut World) {
    let flags = ["--max-clients", "1", "--max-requests", "1", "--quiet"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let mut held = Held::new(&address);
    let grandchild: u32 = held.client.ask("chatterbox").parse().unwrap();
    let pid = held.pid;
    drop(held);
    expect_exit(&server, pid, "Finished exit status: 0");
    Held::new(&address).is_served();
    // Nobody reads any more, so it ends.
    until("the end of the chatter", SOON, || {
        (!processes::is_alive(grandchild)).then_some(())
    });
    world.reap_orphans();
    ends_well(&server);
}

fn end_orphan(world: &World, pid: u32) {
    send(pid, Signal::SIGKILL);
    until("the orphan to end", SOON, || {
        world.reap_orphans().contains(&pid).then_some(())
    });
}

/// A child that closes its outputs is retiring from then on: told to stop after 100 ms, killed
/// after `kill_timeout`, and in the tables until it is reaped. It is replaced once, whichever of
/// its two ends is seen first.
fn b02_a_child_that_closes_its_outputs_is_in_the_books_until_it_is_reaped(world: &mut World) {
    let server = world.spawn("serve", &["--start", "1"]);
    let mut held = Held::new(&server.address());
    server.expect_children(2);
    assert_eq!(held.client.ask("close-outputs"), "done");
    expect_entry(&server, "closed", held.pid);
    holds("it is not given up", Duration::from_millis(300), || {
        pids(&server, "exited").is_empty() && processes::is_alive(held.pid)
    });
    held.client.send_line("exit-at-once 0");
    let end = expect_entry(&server, "exited", held.pid);
    assert!(end.rest.ends_with(" exit status: 0"), "{end:?}");
    holds("it is replaced once", Duration::from_millis(300), || {
        pids(&server, "forked").len() <= 3
    });
    for event in ["closed", "exited"] {
        let of = pids(&server, event).into_iter();
        assert_eq!(of.filter(|&pid| pid == held.pid).count(), 1, "{event}");
    }
    ends_well(&server);
}

/// Words have a descriptor of their own: the parent still reads the words of a child that closes or
/// redirects descriptors 1 and 2, and tells the child to stop like any other.
///
/// When words are written to descriptor 1: both are timed out, and their clients lost.
fn b04_a_child_without_stdout_is_heard_and_told_to_stop(world: &mut World) {
    let flags = ["--timeout", "1000", "--kill-timeout", "100"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let mut mute = hold(&address, 3);
    let ways = ["close-stdout", "null-stdout", "close-streams"];
    for (held, way) in mute.iter_mut().zip(ways) {
        assert_eq!(held.client.ask(way), "done");
    }
    let children: Vec<u32> = mute.iter().map(|held| held.pid).collect();
    let checks = pids(&server, "check").len();
    until("several timeout checks", SOON, || {
        (pids(&server, "check").len() >= checks + 5).then_some(())
    });
    mute.iter_mut().for_each(Held::is_served);
    drop(mute);
    for &pid in &children {
        expect_entry(&server, "idle", pid);
    }
    for event in ["silent-free", "silent-busy", "closed", "exited"] {
        assert_eq!(pids(&server, event), [], "{event}");
    }
    ends_well(&server);
    for pid in children {
        expect_exit(&server, pid, "Shutdown exit status: 0");
    }
}

/// With `CommChannel::Private` only descriptors 1 and 2 lead to the outputs, so both have ended.
fn b04_a_child_with_words_elsewhere_that_closes_its_streams_is_told_to_stop(world: &mut World) {
    let server = world.spawn("serve", &["--private"]);
    let mut held = Held::new(&server.address());
    assert_eq!(held.client.ask("close-streams"), "done");
    expect_entry(&server, "closed", held.pid);
    let pid = held.pid;
    drop(held);
    expect_exit(&server, pid, "Closed exit status: 0");
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// With `CommChannel::Private`, words have a pipe that closes on exec, and each word is one atomic
/// write; everything on stdout is output.
fn b06_a_grandchild_that_writes_words_and_torn_lines_changes_nothing(world: &mut World) {
    const CONNECTIONS: usize = 30;
    world.expect_orphans();
    // Every word is written, and none left to the board: it is the writes that are in question here.
    let flags = ["--private", "--every-word", "--quiet", "--max-clients", "1"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let mut held = Held::new(&address);
    assert_eq!(held.client.ask("noise"), "done");
    let noise = until("the noise", SOON, || {
        let below = processes::children(held.pid);
        below.first().map(|process| process.pid)
    });
    drop(held);
    let idle = |count: usize| {
        until("NOT_BUSY to be heard", SOON, || {
            (pids(&server, "idle").len() >= count).then_some(())
        });
    };
    idle(1);
    for connection in 0..CONNECTIONS {
        Held::new(&address).is_served();
        idle(connection + 2);
    }
    for event in ["busy", "idle"] {
        assert_eq!(pids(&server, event).len(), CONNECTIONS + 1, "{event}");
    }
    assert!(processes::is_alive(noise));
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    until("the noise to end without a reader", SOON, || {
        (!processes::is_alive(noise)).then_some(())
    });
}
