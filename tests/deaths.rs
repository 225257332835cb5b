//! Children that die, or that turn into something else: noticed, counted, replaced, and no faster
//! than is good.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod subject;
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use subject::{
    Held, SOON, deaths, ends_well, expect_entry, expect_exit, expect_up, hold, journal, pids,
    report, send, serve,
};
use support::{Server, Signal, World, connect, holds, processes, programs, scenarios, until};

fn main() -> ExitCode {
    support::main(
        programs![serve],
        scenarios![
            a01_an_idle_child_that_is_killed_is_replaced,
            a01_idle_newcomers_that_are_killed_are_no_failed_starts,
            a02_a_busy_child_that_is_killed_costs_its_client_only,
            g01_the_dead_of_a_large_pool_are_found_though_they_have_no_pidfd,
            g14_the_dead_of_a_large_pool_are_found_behind_a_stranger,
            e05_a_program_that_dies_at_once_is_slowed_down_and_recovers,
            e05_a_factory_that_fails_is_slowed_down_though_its_child_has_said_ack,
            a16_an_execed_child_that_closes_its_outputs_is_told_and_replaced,
            a16_an_execed_child_that_ignores_it_is_killed_and_counts_until_then,
            a16_an_execed_child_that_says_nothing_is_timed_out,
            b04_a_child_whose_stdout_has_ended_is_timed_out,
            b04_a_child_whose_stdout_has_ended_is_told_of_the_shutdown,
            b03_a_grandchild_that_holds_the_pipes_does_not_keep_the_child,
            b03_a_grandchild_that_writes_for_ever_does_not_keep_the_parent,
            a04_a_panic_in_a_handler_ends_the_child_with_101,
            c15_a_panic_in_a_hook_of_the_parent_is_survived,
        ],
    )
}

/// The pidfd tells of the death, the child is reaped by its pid, and another is forked at once:
/// having served, it was no failed start.
///
/// Without the look at pidfds (`Source::Death` in `reap`): its exit is never seen.
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

/// One that has waited for a connection has started, however young it is and if none ever came:
/// nothing slows down its replacement.
///
/// When only BUSY or a second of life prove a start: a failed start each, the next fork 100 ms away,
/// then 200 ms and more.
fn a01_idle_newcomers_that_are_killed_are_no_failed_starts(world: &mut World) {
    let server = world.spawn("serve", &["--start", "1"]);
    let address = server.address();
    let mut expected = String::new();
    for killed in 0..8 {
        let victim = until("a newcomer that waits", SOON, || {
            pids(&server, "ready").get(killed).copied()
        });
        expected += &format!(
            "[WARN  prefork_server::observe::log] child {victim} has died: signal: 9 (SIGKILL), \
             last words \"\"\n"
        );
        send(victim, Signal::SIGKILL);
        expect_exit(&server, victim, "Killed signal: 9 (SIGKILL)");
    }
    Held::new(&address).is_served();
    ends_well(&server);
    assert_eq!(deaths(&server, "Killed"), 8);
    // Each death is said, and nothing of a start that failed.
    assert_eq!(server.stderr(), expected);
}

/// Only the client in its hands is lost. The listening socket and its queue are shared, so the
/// others are served by the siblings, and one fork is owed for the wake-up that may have died with
/// it.
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

/// The first 32 children have a pidfd each. For the others one SIGCHLD is as good as many: it has
/// the parent look until it finds nobody dead.
///
/// Without the look (`look_for_deaths`) they stay zombies.
fn g01_the_dead_of_a_large_pool_are_found_though_they_have_no_pidfd(world: &mut World) {
    kill_a_large_pool(world, &[]);
}

/// The look for the dead reaps nobody by itself: a dead process of the program's own is left to it,
/// and does not hide the children that have died after it.
///
/// Fails if the look ends at a child that is not ours.
fn g14_the_dead_of_a_large_pool_are_found_behind_a_stranger(world: &mut World) {
    let stdout = kill_a_large_pool(world, &["--stranger"]);
    assert!(stdout.contains("stranger: exit status: 0"), "{stdout}");
}

/// Kills every child of a pool in which the later ones have no pidfd; what the server printed.
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

/// Each wave of failed starts waits longer than the one before, from nothing to 30 s, with one line
/// in the log a wave; a start that holds wipes the slate.
///
/// Without `Slowdown::refuses`: more than 24 forks within 60 ms, and hundreds soon after.
fn e05_a_program_that_dies_at_once_is_slowed_down_and_recovers(world: &mut World) {
    let broken = world.tempdir().join("broken");
    fs::write(&broken, "").unwrap();
    let flags = ["--start", "3", "--fail-while", broken.to_str().unwrap()];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let text = server.expect_stderr("a long delay", |text| text.contains("next fork in 400ms"));
    let warning = "failed to start: exit status: 102, last words \
                   \"server_start failed: no database today\"; next fork in 0ns";
    assert!(text.contains(warning), "{text}");
    // No fork bomb: at the most one wave of three in each delay.
    holds("few are forked", Duration::from_secs(2), || {
        pids(&server, "forked").len() <= 8 * 3
    });
    fs::remove_file(&broken).unwrap();
    let mut held = Held::new(&address);
    held.is_served();
    // The slate is clean: the next failure begins with no delay again.
    fs::write(&broken, "").unwrap();
    send(held.pid, Signal::SIGKILL);
    server.expect_stderr("another beginning", |text| {
        text.matches("next fork in 0ns").count() == 2
    });
    ends_well(&server);
    // Four waves and the one after the recovery, at the least.
    assert!(deaths(&server, "FailedStart") >= 5);
    assert_eq!(deaths(&server, "Killed"), 1);
}

/// The first ACK is said before `resume_accept`, in which a child makes what it serves with. It
/// proves no start: the first NOT_BUSY or BUSY does.
///
/// When an ACK that brings NOT_BUSY is said there: forked as fast as the machine can.
fn e05_a_factory_that_fails_is_slowed_down_though_its_child_has_said_ack(world: &mut World) {
    let broken = world.tempdir().join("broken");
    fs::write(&broken, "").unwrap();
    let flags = [
        "--start",
        "3",
        "--factory-fails-while",
        broken.to_str().unwrap(),
    ];
    let server = world.spawn("serve", &flags);
    let address = server.address();
    let text = server.expect_stderr("a long delay", |text| text.contains("next fork in 400ms"));
    let warning = "failed to start: exit status: 103, last words \
                   \"resume_accept failed: no database today\"; next fork in 0ns";
    assert!(text.contains(warning), "{text}");
    assert!(!pids(&server, "up").is_empty());
    assert_eq!(pids(&server, "ready"), []);
    holds("few are forked", Duration::from_secs(1), || {
        pids(&server, "forked").len() <= 8 * 3
    });
    fs::remove_file(&broken).unwrap();
    Held::new(&address).is_served();
    ends_well(&server);
}

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

/// The ends of its outputs show it: after 100 ms it is told to stop by SIGINT, and another takes
/// its place.
fn a16_an_execed_child_that_closes_its_outputs_is_told_and_replaced(world: &mut World) {
    let (server, exec) = spawn_execing(world, "exec sleep 1000 >&- 2>&-", &[]);
    let pid = server.expect_children(1)[0];
    until("the exec", SOON, || is_sleep(pid).then_some(()));
    fs::remove_file(exec).unwrap();
    expect_entry(&server, "closed", pid);
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

/// If it ignores SIGINT, SIGKILL follows after `kill_timeout`, and until it is reaped it counts
/// against `max_clients`.
///
/// Fails if `max_clients` does not count the retiring ones: the original forgets such a child.
fn a16_an_execed_child_that_ignores_it_is_killed_and_counts_until_then(world: &mut World) {
    let command = "trap '' INT; exec sleep 1000 >&- 2>&-";
    let (server, exec) = spawn_execing(world, command, &["--kill-timeout", "1500"]);
    let pid = server.expect_children(1)[0];
    let closed = expect_entry(&server, "closed", pid);
    until("the exec", SOON, || is_sleep(pid).then_some(()));
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

/// If it keeps the outputs open, its silence is found by the timeout check.
fn a16_an_execed_child_that_says_nothing_is_timed_out(world: &mut World) {
    let (server, exec) = spawn_execing(world, "exec sleep 1000", &["--timeout", "1000"]);
    let pid = server.expect_children(1)[0];
    until("the exec", SOON, || is_sleep(pid).then_some(()));
    fs::remove_file(exec).unwrap();
    expect_entry(&server, "silent-free", pid);
    expect_exit(&server, pid, "TimedOut signal: 2 (SIGINT)");
    Held::new(&server.address()).is_served();
    ends_well(&server);
}

/// A child whose stdout has ended and whose stderr has not says nothing any more: it stays in the
/// books, and falls to the timeout check.
///
/// When the end of its stdout takes it out of the books, as the original did: it is never found silent.
fn b04_a_child_whose_stdout_has_ended_is_timed_out(world: &mut World) {
    let (server, exec) = spawn_execing(world, "exec sleep 1000 >&-", &["--timeout", "1000"]);
    let pid = server.expect_children(1)[0];
    until("the exec", SOON, || is_sleep(pid).then_some(()));
    fs::remove_file(exec).unwrap();
    expect_entry(&server, "silent-free", pid);
    expect_exit(&server, pid, "TimedOut signal: 2 (SIGINT)");
    Held::new(&server.address()).is_served();
    ends_well(&server);
}

/// In a shutdown it is told to stop like any.
///
/// When the end of its stdout takes it out of the books: the server ends and has not told it.
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

/// A child is gone when it has been reaped, whoever holds its pipes; the parent closes its ends
/// then.
///
/// When a child is reaped only once its pipes have ended: it never is.
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

/// Of a dead child's outputs is read what stood in the pipe at that moment, and no more; a
/// grandchild that goes on writing meets a pipe without a reader.
///
/// When `Wires::drain` reads to the end: the parent never comes to bury the child.
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

/// A panic is caught where the child was born, the child exits with 101, and nothing of the
/// parent's stack is unwound.
fn a04_a_panic_in_a_handler_ends_the_child_with_101(world: &mut World) {
    world.expect_panics();
    let server = world.spawn("serve", &[]);
    let address = server.address();
    let mut other = Held::new(&address);
    let mut held = Held::new(&address);
    held.client.send_line("panic");
    held.client.gone();
    expect_exit(&server, held.pid, "Failed exit status: 101");
    other.is_served();
    Held::new(&address).is_served();
    drop(other);
    ends_well(&server);
    assert_eq!(deaths(&server, "Failed"), 1);
    let text = format!("{} STDERR: the client asked for it", held.pid);
    assert!(server.stderr().contains(&text), "{}", server.stderr());
}

/// A panic in a hook of the parent is caught, logged with the hook's name and counted; the loop
/// goes on.
fn c15_a_panic_in_a_hook_of_the_parent_is_survived(world: &mut World) {
    // Fails without the `catch_unwind` in `Core::call`.
    world.expect_panics();
    let server = world.spawn("serve", &["--start", "1", "--panic-once"]);
    let address = server.address();
    let mut held = Held::new(&address);
    // What the hook had asked for before it panicked, a look at the numbers, is done.
    server.expect_children(2);
    held.is_served();
    Held::new(&address).is_served();
    drop(held);
    ends_well(&server);
    assert!(
        server
            .stderr()
            .contains("hook server_busy panicked: the hook was told to")
    );
    assert!(report(&server).ends_with(", 1 hook panics"));
}
