//! Section B of the fault catalogue, as far as no other file has it: the ends of pipes and the exits of
//! processes that do not come together, or not in the usual order.
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
    Held, SOON, deaths, ends_well, expect_entry, expect_exit, expect_up, hold,
    last_words_are_heard, pids, send, serve,
};
use support::{Server, Signal, World, holds, processes, programs, scenarios, until};

fn main() -> ExitCode {
    support::main(
        programs![serve],
        scenarios![
            b01_everything_that_a_child_wrote_before_its_exit_comes_before_its_death,
            b02_a_child_that_closes_its_outputs_is_in_the_books_until_it_is_reaped,
            b04_a_child_without_stdout_is_heard_and_told_to_stop,
            b06_a_grandchild_that_writes_words_and_torn_lines_changes_nothing,
            b10_without_pidfds_children_are_found_dead_and_told_to_stop,
        ],
    )
}

/// A child is buried in one step: what stands in its pipes is read, its death is told, its record
/// goes. A line cannot come for a name that is not known any more.
fn b01_everything_that_a_child_wrote_before_its_exit_comes_before_its_death(world: &mut World) {
    last_words_are_heard(world, "0", "Finished exit status: 0");
}

/// It is retiring from then on: told to stop after 100 ms, killed after `kill_timeout`, and in the
/// books until it is reaped. It is replaced once, whichever of the two ends is seen first.
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

/// Words have a descriptor of their own, so a child that closes number 1 or redirects it is heard as
/// before, stays in the books, and is told to stop like any.
///
/// When words are written to descriptor 1: both are timed out, and their clients lost.
fn b04_a_child_without_stdout_is_heard_and_told_to_stop(world: &mut World) {
    let flags = ["--timeout", "1000", "--kill-timeout", "100"];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let mut mute = hold(&address, 2);
    for (held, way) in mute.iter_mut().zip(["close-stdout", "null-stdout"]) {
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

/// With `CommChannel::Private`, words have a pipe that closes on exec, and each is one write that
/// no other can get into; whatever comes on stdout is output.
fn b06_a_grandchild_that_writes_words_and_torn_lines_changes_nothing(world: &mut World) {
    const CONNECTIONS: usize = 30;
    world.expect_orphans();
    let flags = ["--private", "--quiet", "--max-clients", "1"];
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

fn has_pidfd(server: &Server) -> bool {
    let descriptors = server.descriptors();
    let mut targets = descriptors.iter().map(|(_, target)| target.as_str());
    targets.any(|target| target == "anon_inode:[pidfd]")
}

/// SIGCHLD takes its place, and signals go to the pid of a child that has not been reaped, which is
/// nobody else's.
///
/// Without the look after SIGCHLD (`look_for_deaths`): its exit is never seen.
fn b10_without_pidfds_children_are_found_dead_and_told_to_stop(world: &mut World) {
    let usual = world.spawn("serve", &[]);
    usual.address();
    expect_up(&usual, 2);
    assert!(has_pidfd(&usual), "a pidfd looks like that");
    ends_well(&usual);
    let server = world.spawn("serve", &["--without-pidfd", "--timeout", "1000"]);
    let address = server.address();
    expect_up(&server, 2);
    assert!(!has_pidfd(&server));
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
