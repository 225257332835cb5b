//! Faults of the parent's core and loop that were found in the field: a server that reads commands
//! on its stdin, and how each fault looks from outside.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, signal};
use nix::sys::wait::waitpid;
use nix::time::{ClockId, clock_gettime};
use prefork_server::servers::TcpConn;
use prefork_server::{
    Builder, Child, ChildId, Death, Line, Monitor, PreFork, PreForkHooks, Start, States, TcpServer,
    defaults,
};

use crate::subject::{log_warnings, send, stop};
use crate::support::{
    Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, holds, patient,
    processes, programs, scenarios, until,
};

mod program;
pub mod timeouts;

use self::program::{field, restarter, two_kinds};

pub const PROGRAMS: Programs = programs![field, restarter, two_kinds];

pub const SCENARIOS: Scenarios = scenarios![
    o16_children_that_are_killed_from_outside_a_hook_were_asked_to,
    o21_children_that_a_hook_has_reaped_are_replaced,
    o21_children_that_nobody_can_reap_are_replaced,
    o26_dying_children_with_full_pipes_cost_little: long,
    o30_a_child_that_is_blocked_in_a_print_does_not_hold_up_a_stop,
    o30_nor_does_it_hold_up_a_drop,
    o31_nothing_is_forked_after_a_stop,
    o31_a_descriptor_that_is_watched_before_a_fork_is_closed_in_the_child,
    o31_another_server_is_of_no_use_in_a_child,
    o32_children_that_fail_at_their_first_connection_are_slowed_down,
    o32_nothing_is_left_of_servers_that_were_dropped: long,
    o33_without_coalescing_a_forged_board_moves_nothing,
    o41_children_know_how_full_the_pool_is,
    o41_the_parent_knows_how_many_connections_each_child_has_taken,
];

// What the scenarios share.

/// A server that obeys lines on its stdin.
fn commanded(world: &mut World, arguments: &[&str]) -> (Server, ChildStdin) {
    let program = world.program("field").args(arguments).arg("--commanded");
    let server = program.stdin(Stdio::piped()).spawn();
    let stdin = server.take_stdin().expect("a stdin");
    (server, stdin)
}

fn command(server: &Server, stdin: &mut ChildStdin, command: &str) {
    let line = format!("{command}\n");
    stdin.write_all(line.as_bytes()).unwrap();
    let done = format!("did {command}\n");
    server.expect_stdout("it to be done", |text| text.contains(&done));
}

/// How many ACKs the parent has heard.
fn acks(server: &Server, stdin: &mut ChildStdin) -> usize {
    let count = |text: &str| text.matches("did a\n").count();
    let before = count(&server.stdout());
    stdin.write_all(b"a\n").unwrap();
    let text = server.expect_stdout("an answer", |text| count(text) > before);
    let (_, last) = text.rsplit_once("acks ").unwrap();
    last.lines().next().unwrap().parse().unwrap()
}

fn exits(server: &Server) -> usize {
    server.stdout().matches("exited ").count()
}

fn ends(server: &Server) {
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// A client whose child has answered.
fn served(server: &Server) -> (Client, u32) {
    let mut client = connect(&server.address());
    let pid = client.ask("who?").parse().unwrap();
    (client, pid)
}

// The scenarios.

/// Signals that the program sends between two turns count as asked for, as those of a hook do.
///
/// Without `ChildFlags::ASKED`: those by SIGKILL and SIGTERM are not `Asked`. Without
/// `sent_by_hooks`: those by SIGALRM.
fn o16_children_that_are_killed_from_outside_a_hook_were_asked_to(world: &mut World) {
    let server = world.spawn("field", &["--start", "30", "--drive", "kill"]);
    let text = server.expect_stdout("the report", |text| text.contains(" 90 Asked"));
    assert_eq!(text.matches(" Asked after").count(), 90, "{text}");
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// A child whose status the program has taken is found at the next look for dead children, counted
/// with an unknown cause, replaced, and logged once, wherever in the tables it is.
///
/// Without the look at everybody (`look_at`): they stay in the tables until the shutdown.
fn o21_children_that_a_hook_has_reaped_are_replaced(world: &mut World) {
    let (server, mut stdin) = forty(world);
    command(&server, &mut stdin, "s");
    let text = server.stdout();
    let stolen: Vec<u32> = text
        .lines()
        .filter_map(|line| line.strip_prefix("stolen ")?.parse().ok())
        .collect();
    assert_eq!(stolen.len(), 4);
    expect_replaced(&server, &stolen);
}

/// With SIGCHLD ignored the kernel keeps no status and reports no death: the same look finds the
/// dead children.
fn o21_children_that_nobody_can_reap_are_replaced(world: &mut World) {
    let (server, mut stdin) = forty(world);
    command(&server, &mut stdin, "i");
    let victims: Vec<u32> = server.children().into_iter().step_by(10).collect();
    for &pid in &victims {
        send(pid, Signal::SIGKILL);
    }
    expect_replaced(&server, &victims);
}

/// A pool of that many, all of which have lived for long enough to be no failed starts.
fn forty(world: &mut World) -> (Server, ChildStdin) {
    let (server, stdin) = commanded(world, &["--start", "40", "--min-spare", "40"]);
    server.address();
    server.expect_children(40);
    holds("nobody dies", Duration::from_millis(1100), || {
        exits(&server) == 0
    });
    (server, stdin)
}

fn expect_replaced(server: &Server, victims: &[u32]) {
    for pid in victims {
        let how = format!("exited {pid} Lost");
        server.expect_stdout("its death", |text| text.contains(&how));
    }
    server.expect_children(40);
    served(server);
    ends(server);
    let told = server.stderr();
    assert_eq!(
        told.matches("was reaped by somebody else").count(),
        1,
        "{told}"
    );
}

/// The output of a dying child is read within the budget of a turn, like that of a living child.
///
/// If the pipes of 200 dead children are read in the turn of their death, with a task for each
/// line: 1.8 GB and 22 s. Without `Reading::delivered` a single turn of 14 s. With 30: a seventh of it,
/// which is many times the limits.
fn o26_dying_children_with_full_pipes_cost_little(world: &mut World) {
    let go = world.tempdir().join("go");
    let server = world.spawn(
        "field",
        &[
            "--start",
            "30",
            "--quiet",
            "--drive",
            "measure",
            "--fill-at",
            go.to_str().unwrap(),
        ],
    );
    let measured = |text: &str| text.contains("measured ");
    until("the measure", SOON * 6, || {
        measured(&server.stdout()).then_some(())
    });
    let text = server.stdout();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("measured "))
        .unwrap();
    let (turn, memory) = line.split_once(" ms, ").unwrap();
    let [turn, memory] =
        [turn, memory.trim_end_matches(" kB")].map(|number| number.parse::<u64>().unwrap());
    assert!(memory <= 32 * 1024, "{line}");
    // Without optimisation.
    assert!(turn <= 500, "{line}");
    server.wait(SOON * 3);
}

/// What children write while `stop` ends them is read and dropped.
fn o30_a_child_that_is_blocked_in_a_print_does_not_hold_up_a_stop(world: &mut World) {
    let text = end_while_one_prints(world, "stop");
    assert!(text.contains("children 0\n"), "{text}");
}

/// The same when the server is dropped.
fn o30_nor_does_it_hold_up_a_drop(world: &mut World) {
    end_while_one_prints(world, "drop");
}

fn end_while_one_prints(world: &mut World, way: &str) -> String {
    const WRITE: i64 = nix::libc::SYS_write;
    let (server, mut stdin) = commanded_by(world, way);
    server.expect_stdout("the pause", |text| text.contains("pausing"));
    let mut client = connect(&server.address());
    client.send_line("flood");
    let blocked = |pid: &u32| processes::system_call(*pid) == Some(WRITE);
    until("a child that is blocked", SOON, || {
        server.children().into_iter().find(blocked)
    });
    writeln!(stdin, "now").unwrap();
    client.read_line();
    drop(client);
    let text = server.expect_stdout("the end", |text| text.contains("ended in "));
    let took = text
        .lines()
        .find_map(|line| line.strip_prefix("ended in "))
        .unwrap();
    let took: u64 = took.trim_end_matches(" ms").parse().unwrap();
    assert!(
        u128::from(took) < patient(Duration::from_secs(5)).as_millis(),
        "{text}"
    );
    assert_eq!(server.wait(SOON).code(), Some(0));
    text
}

fn commanded_by(world: &mut World, way: &str) -> (Server, ChildStdin) {
    let program = world.program("field").args(&["--drive", way]);
    let server = program.stdin(Stdio::piped()).spawn();
    let stdin = server.take_stdin().expect("a stdin");
    (server, stdin)
}

/// After `PreFork::stop` no child is forked.
fn o31_nothing_is_forked_after_a_stop(world: &mut World) {
    let (server, mut stdin) = commanded_by(world, "stop");
    server.expect_stdout("the pause", |text| text.contains("pausing"));
    writeln!(stdin, "now").unwrap();
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert!(server.stdout().contains("children 0\n"));
}

/// The duplicate of a watched descriptor belongs to the parent from the call on, and so does one
/// that was handed over.
///
/// If the duplicate is registered only when it is watched, after the fork: the child has two
/// sockets of the pair.
fn o31_a_descriptor_that_is_watched_before_a_fork_is_closed_in_the_child(world: &mut World) {
    let server = world.spawn("field", &["--watch", "--start", "1"]);
    // The descriptors of the hook `before_fork` are among those that the server may hold.
    server.expect_children(1);
    let (client, pid) = served(&server);
    let sockets = |pid| {
        let all = processes::descriptors(pid).into_iter();
        all.filter(|(_, target)| target.starts_with("socket:"))
            .count()
    };
    // The listener, the connection, and the end that the program has kept for itself.
    assert_eq!(sockets(pid), 3);
    drop(client);
    ends(&server);
}

/// In a child the object of another server gives no descriptor: they were closed by number, and the
/// numbers may belong to other files by now.
fn o31_another_server_is_of_no_use_in_a_child(world: &mut World) {
    let server = world.spawn("two_kinds", &[]);
    let answer = connect(&server.address()).read_rest();
    assert!(
        answer.starts_with("taken true, found 0, turned Err("),
        "{answer}"
    );
    assert!(answer.contains("in a child"), "{answer}");
    ends(&server);
}

/// A start has succeeded when the child has finished its first connection; until then its failure
/// delays the next fork.
///
/// With a BUSY as the proof: 7,856 forks in 3 s.
fn o32_children_that_fail_at_their_first_connection_are_slowed_down(world: &mut World) {
    let server = world.spawn("field", &["--fail-busy", "--quiet"]);
    server.address();
    server.expect_stderr("a delay", |text| text.contains("next fork in 800ms"));
    assert!(exits(&server) <= 40, "{}", server.stdout());
    holds("few are forked", Duration::from_secs(2), || {
        exits(&server) <= 40
    });
    ends(&server);
}

/// A server that was dropped leaves nothing in memory.
///
/// 6,000 starts of 170 bytes each would be 996 kB.
fn o32_nothing_is_left_of_servers_that_were_dropped(world: &mut World) {
    // Seven thousand starts, on a machine that may have other things to do.
    const A_WHILE: Duration = Duration::from_secs(100);
    world.deadline(A_WHILE + SOON);
    let server = world.spawn("restarter", &[]);
    let text = until("the measure", A_WHILE, || {
        let text = server.stdout();
        text.contains("grown by ").then_some(text)
    });
    let grown = text
        .trim()
        .trim_start_matches("grown by ")
        .trim_end_matches(" kB");
    assert!(grown.parse::<u64>().unwrap() <= 512, "{text}");
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// Where words are not coalesced, the parent does not read the board: only words in the pipe count.
fn o33_without_coalescing_a_forged_board_moves_nothing(world: &mut World) {
    let arguments = ["--every-word", "--start", "4"];
    let (server, mut stdin) = commanded(world, &arguments);
    let (mut client, pid) = served(&server);
    let children = server.expect_children(4);
    assert_eq!(client.ask("forge"), pid.to_string());
    for _ in 0..3 {
        let (other, _) = served(&server);
        drop(other);
    }
    // Those that have just lost their clients may not have been heard yet.
    until("one child to be counted as busy", SOON, || {
        stdin.write_all(b"b\n").unwrap();
        let last = |text: &str| {
            text.rsplit_once("busy ")
                .map(|(_, count)| count.starts_with("1\n"))
        };
        last(&server.stdout())?.then_some(())
    });
    holds("it stays so", Duration::from_millis(500), || {
        stdin.write_all(b"b\n").unwrap();
        !server
            .stdout()
            .rsplit_once("busy ")
            .is_some_and(|(_, count)| count.starts_with('0'))
            && server.stdout().contains("busy 1\n")
    });
    // On a busy machine the words of all four may come late, and one more is forked.
    let living = server.children();
    assert!(
        children.iter().all(|pid| living.contains(pid)),
        "{living:?}"
    );
    drop(client);
    ends(&server);
}

/// Children can ask how many children are busy. The count is right again as soon as the parent has
/// reaped a child that was killed with a client in hand.
fn o41_children_know_how_full_the_pool_is(world: &mut World) {
    for arguments in [&["--start", "4"][..], &["--start", "4", "--every-word"]] {
        let server = world.spawn("field", arguments);
        let held: Vec<_> = (0..3).map(|_| served(&server)).collect();
        let full = |count: usize| {
            let answer = format!("{count} of 300");
            until(&answer.clone(), SOON, || {
                (connect(&server.address()).ask("full") == answer).then_some(())
            });
        };
        full(4);
        send(held[0].1, Signal::SIGKILL);
        full(3);
        drop(held);
        full(1);
        ends(&server);
    }
}

/// The parent counts the connections of a child from the first to the last, however the child ends, and knows
/// whether one was in hand.
fn o41_the_parent_knows_how_many_connections_each_child_has_taken(world: &mut World) {
    let server = world.spawn("field", &["--start", "1"]);
    let (keeper, _) = served(&server);
    let (client, pid) = served(&server);
    drop(client);
    let mut taken = 1;
    for _ in 0..50 {
        let (_client, by) = served(&server);
        taken += usize::from(by == pid);
    }
    let (last, by) = served(&server);
    let mine = taken + usize::from(by == pid);
    if by != pid {
        // It may not have heard yet that its last client has gone.
        until("the child to wait for clients", SOON, || {
            processes::waits_in_epoll(pid).then_some(())
        });
    }
    send(pid, Signal::SIGKILL);
    let how = format!("exited {pid} Killed after {mine}, busy {}", by == pid);
    server.expect_stdout("its death", |text| text.contains(&how));
    drop((keeper, last));
    ends(&server);
}
