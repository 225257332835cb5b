//! The runtime in each child, driven from outside: many connections at a time, and what happens to
//! them when a child leaves, hangs or loses its parent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

#[path = "../../../tests/example/mod.rs"]
mod example;
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use example::{Defaults, Example, stop};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use support::{
    Address, Client, Signal, World, connect, pause, port_is_free, processes, programs, scenarios,
    until,
};

const SOON: Duration = Duration::from_secs(10);

const EXAMPLE: Example = Example {
    executable: Some(env!("CARGO_BIN_EXE_axum-example")),
    defaults: Defaults {
        max_requests: 10_000,
        ..Defaults::FRAMEWORK
    },
    own_flags: &["--in-hand"],
    one_at_a_time: &["--in-hand", "1"],
    ..Example::new(
        "axum-example",
        "try: curl http://127.0.0.1:PORT/ and http://127.0.0.1:PORT/sleep/3",
    )
};

fn main() -> ExitCode {
    support::main(
        programs![],
        scenarios![
            acks_go_on_during_a_slow_request,
            child_that_is_full_leaves_the_rest_to_others,
            child_that_is_stuck_is_replaced,
            command_lines_that_are_wrong_are_refused,
            connection_wakes_one_child,
            flags_reach_the_server,
            help_is_complete,
            leaves_nothing_when_the_parent_is_killed,
            loses_no_connection_when_children_are_told_to_stop,
            max_requests_of_one_replaces_a_child,
            max_requests_replaces_children,
            says_how_to_talk_to_it,
            serves_many_connections_in_one_child,
            sigint_finishes_what_is_in_hand,
            tells_its_status,
        ],
    )
}

// What holds for every example.

fn help_is_complete(world: &mut World) {
    example::help_names_every_flag(world, &EXAMPLE);
    example::help_shows_the_defaults(world, &EXAMPLE);
    example::help_survives_a_closed_pipe(world, &EXAMPLE);
}

fn command_lines_that_are_wrong_are_refused(world: &mut World) {
    example::bad_flags_are_refused(world, &EXAMPLE);
    example::path_is_refused_without_a_use_for_it(world, &EXAMPLE);
    example::busy_address_is_refused(world, &EXAMPLE);
}

fn flags_reach_the_server(world: &mut World) {
    example::flags_reach_the_server(world, &EXAMPLE);
}

fn says_how_to_talk_to_it(world: &mut World) {
    example::says_how_to_talk_to_it(world, &EXAMPLE);
}

fn max_requests_of_one_replaces_a_child(world: &mut World) {
    example::max_requests_replaces_a_child(world, &EXAMPLE);
}

/// The number before `word` in a report; 0 if it does not occur.
fn count(report: &str, word: &str) -> u64 {
    let words: Vec<&str> = report.split([' ', ',', ';', ':']).collect();
    let at = words.iter().position(|candidate| *candidate == word);
    at.and_then(|at| words[at.checked_sub(1)?].parse().ok())
        .unwrap_or(0)
}

fn interrupt(pid: u32) {
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT).unwrap();
}

#[track_caller]
fn until_gone(pid: u32) {
    until(&format!("process {pid} to be gone"), SOON, || {
        (!processes::is_alive(pid)).then_some(())
    });
}

// Many connections at a time.

/// Sends a request; the answer is still to be read.
fn send(client: &mut Client, path: &str) {
    client.send_line(&format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r"));
}

fn request(address: &Address, path: &str) -> Client {
    let mut client = connect(address);
    send(&mut client, path);
    client
}

/// Reads an answer, and returns the one line of its body.
#[track_caller]
fn answer(client: &mut Client) -> String {
    let status = client.read_line();
    assert!(status.starts_with("HTTP/1.1 200 "), "{status}");
    while !client.read_line().trim_end().is_empty() {}
    client.read_line()
}

/// The child that an answer names.
#[track_caller]
fn pid(answer: &str) -> u32 {
    let (_, pid) = answer.trim_end_matches('.').rsplit_once(' ').unwrap();
    pid.parse().unwrap_or_else(|_| panic!("no pid in {answer}"))
}

fn serves_many_connections_in_one_child(world: &mut World) {
    let flags = ["--start-servers", "1", "--max-clients", "1"];
    let server = EXAMPLE.serve(world, &flags);
    let child = server.expect_children(1)[0];
    let address = server.address();
    let began = Instant::now();
    let mut clients: Vec<_> = (0..64).map(|_| request(&address, "/sleep/0.5")).collect();
    for client in &mut clients {
        assert_eq!(pid(&answer(client)), child);
        // Its connection stays open, and counts, until it is dropped.
        client.close_write();
    }
    // Sixteen at a time, in four rounds; one by one it would be 32 s.
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(took < Duration::from_secs(16), "{took:?}");
    drop(clients);
    let report = stop(&server);
    // BUSY each time that its hands are full, which leaving says once at the most, and NOT_BUSY in
    // between, which the first ACK says once.
    assert!(count(&report, "BUSY") >= 4, "{report}");
    assert!(count(&report, "NOT_BUSY") >= 4, "{report}");
    assert_eq!(count(&report, "FailedStart"), 0, "{report}");
}

fn child_that_is_full_leaves_the_rest_to_others(world: &mut World) {
    let flags = [
        "--in-hand",
        "3",
        "--start-servers",
        "2",
        "--min-spare-servers",
        "0",
        "--max-clients",
        "2",
    ];
    let server = EXAMPLE.serve(world, &flags);
    server.expect_children(2);
    let address = server.address();
    let mut clients: Vec<_> = (0..6).map(|_| request(&address, "/sleep/1")).collect();
    let mut seventh = request(&address, "/");
    assert!(seventh.is_silent(Duration::from_millis(300)));
    let mut by_child = BTreeMap::new();
    for client in &mut clients {
        *by_child.entry(pid(&answer(client))).or_insert(0) += 1;
    }
    assert_eq!(by_child.into_values().collect::<Vec<_>>(), [3, 3]);
    drop(clients);
    answer(&mut seventh);
    drop(seventh);
    let report = stop(&server);
    // Both were full, and the one that took the seventh had said that it could. Coming and leaving
    // account for two each.
    assert!(count(&report, "BUSY") >= 3, "{report}");
    assert!(count(&report, "NOT_BUSY") >= 3, "{report}");
}

fn sigint_finishes_what_is_in_hand(world: &mut World) {
    let server = EXAMPLE.serve(world, &["--start-servers", "1", "--max-clients", "1"]);
    let child = server.expect_children(1)[0];
    let address = server.address();
    let mut idle = request(&address, "/");
    assert_eq!(pid(&answer(&mut idle)), child);
    let mut fresh = connect(&address);
    let mut slow = request(&address, "/sleep/2");
    // In this time the child takes it, and the one before it.
    assert!(slow.is_silent(Duration::from_millis(500)));
    interrupt(child);
    // Nothing is lost with a connection that waits for its next request.
    idle.gone();
    send(&mut fresh, "/");
    assert_eq!(pid(&answer(&mut fresh)), child);
    fresh.gone();
    assert_eq!(pid(&answer(&mut slow)), child);
    slow.gone();
    until_gone(child);
    answer(&mut request(&address, "/"));
    let report = stop(&server);
    assert_eq!(count(&report, "Finished"), 1, "{report}");
}

fn loses_no_connection_when_children_are_told_to_stop(world: &mut World) {
    let flags = [
        "--in-hand",
        "2",
        "--start-servers",
        "4",
        "--max-spare-servers",
        "4",
    ];
    let server = EXAMPLE.serve(world, &flags);
    let address = server.address();
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (address, done) = (address.clone(), Arc::clone(&done));
            thread::spawn(move || {
                let mut answers = 0;
                while !done.load(Ordering::Relaxed) {
                    answer(&mut request(&address, "/"));
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for _ in 0..40 {
        if let Some(&child) = server.children().first() {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(child.cast_signed()), Signal::SIGINT);
        }
        pause(Duration::from_millis(50));
    }
    done.store(true, Ordering::Relaxed);
    let answers: u64 = clients.into_iter().map(|it| it.join().unwrap()).sum();
    assert!(answers >= 100, "{answers}");
    let report = stop(&server);
    assert!(count(&report, "Finished") >= 10, "{report}");
    assert_eq!(count(&report, "Failed"), 0, "{report}");
    assert_eq!(count(&report, "Killed"), 0, "{report}");
}

fn max_requests_replaces_children(world: &mut World) {
    let flags = [
        "--start-servers",
        "1",
        "--max-clients",
        "1",
        "--max-requests",
        "4",
    ];
    let server = EXAMPLE.serve(world, &flags);
    let address = server.address();
    // Four in hand are served by the child that takes no more, and the fifth by the next.
    let mut clients: Vec<_> = (0..5).map(|_| request(&address, "/sleep/0.3")).collect();
    let pids: Vec<_> = clients.iter_mut().map(|it| pid(&answer(it))).collect();
    assert!(pids[..4].iter().all(|pid| *pid == pids[0]), "{pids:?}");
    assert_ne!(pids[4], pids[0]);
    drop(clients);
    let report = stop(&server);
    assert_eq!(count(&report, "Finished"), 1, "{report}");
}

fn acks_go_on_during_a_slow_request(world: &mut World) {
    let server = EXAMPLE.serve(world, &["--start-servers", "1", "--timeout", "1"]);
    let child = server.expect_children(1)[0];
    let mut slow = request(&server.address(), "/sleep/4");
    assert_eq!(pid(&answer(&mut slow)), child);
    let report = stop(&server);
    assert_eq!(count(&report, "TimedOut"), 0, "{report}");
    assert!(count(&report, "ACK") >= 5, "{report}");
}

fn child_that_is_stuck_is_replaced(world: &mut World) {
    let flags = [
        "--start-servers",
        "1",
        "--max-clients",
        "1",
        "--timeout",
        "1",
    ];
    let server = EXAMPLE.serve(world, &flags);
    let child = server.expect_children(1)[0];
    let address = server.address();
    let mut stuck = request(&address, "/stuck");
    until("the child to be killed", Duration::from_secs(20), || {
        (!processes::is_alive(child)).then_some(())
    });
    stuck.gone();
    assert_ne!(pid(&answer(&mut request(&address, "/"))), child);
    let report = stop(&server);
    assert_eq!(count(&report, "TimedOut"), 1, "{report}");
}

fn leaves_nothing_when_the_parent_is_killed(world: &mut World) {
    world.expect_orphans();
    let server = EXAMPLE.serve(world, &["--start-servers", "3"]);
    let children = server.expect_children(3);
    let address = server.address();
    let mut idle = request(&address, "/");
    answer(&mut idle);
    let mut slow = request(&address, "/sleep/1");
    assert!(slow.is_silent(Duration::from_millis(200)));
    server.kill9();
    // The address is free before the request in hand has been answered.
    until("the port to be free", SOON, || {
        port_is_free(&address).then_some(())
    });
    answer(&mut slow);
    idle.gone();
    slow.gone();
    children.into_iter().for_each(until_gone);
}

/// How often the threads of the children that accept have gone to sleep, all in all.
fn sleeps(children: &[u32]) -> u64 {
    let one = |pid: &u32| -> u64 {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let others = tasks
            .map(|task| task.unwrap().path())
            .filter(|path| !path.ends_with(pid.to_string()));
        let sleeps = others.map(|path| -> u64 {
            let status = fs::read_to_string(path.join("status")).unwrap();
            let field = status.split_once("\nvoluntary_ctxt_switches:").unwrap().1;
            field.split_whitespace().next().unwrap().parse().unwrap()
        });
        sleeps.sum()
    };
    children.iter().map(one).sum()
}

fn connection_wakes_one_child(world: &mut World) {
    const ROUNDS: u64 = 30;
    let flags = ["--start-servers", "10", "--max-spare-servers", "20"];
    let server = EXAMPLE.serve(world, &flags);
    let children = server.expect_children(10);
    let address = server.address();
    let before = until("the children to be quiet", SOON, || {
        let before = sleeps(&children);
        pause(Duration::from_millis(100));
        let started = children.iter().all(|pid| processes::threads(*pid) == 2);
        (started && sleeps(&children) == before).then_some(before)
    });
    // The connections of a child that has some in hand are no herd either.
    let mut clients = Vec::new();
    for _ in 0..ROUNDS {
        let mut client = request(&address, "/");
        answer(&mut client);
        clients.push(client);
    }
    let woken = sleeps(&children) - before;
    // All of them each time would be 300.
    assert!(woken <= ROUNDS * 3, "{woken} for {ROUNDS} connections");
    drop(clients);
    stop(&server);
}

fn tells_its_status(world: &mut World) {
    let server = world
        .command(env!("CARGO_BIN_EXE_axum-example"))
        .args(&["--port", "0", "--status", "0"])
        .spawn();
    let stdout = server.expect_stdout("two addresses", |text| text.contains("status at "));
    let address = stdout
        .lines()
        .find_map(|line| line.strip_prefix("status at "));
    let status = Address::parse(address.unwrap());
    let ready = "GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    until("it to be ready", SOON, || {
        let mut client = connect(&status);
        client.write_all(ready.as_bytes()).ok()?;
        client
            .read_rest()
            .starts_with("HTTP/1.1 200 OK\r\n")
            .then_some(())
    });
    stop(&server);
}
