//! A stop under load: queued clients are served, then all are refused and the address is free.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::listening;
use crate::subject::{
    Held, announce, builder, deaths, expect_entry, expect_exit, expect_losses, expect_up, hold,
    send, stop,
};
use crate::support::{
    Address, Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, holds,
    programs, scenarios, try_connect, until,
};

pub const PROGRAMS: Programs = programs![draining_by_hand];

pub const SCENARIOS: Scenarios = scenarios![
    o22_a_hundred_clients_on_twenty_children_are_served_at_a_stop,
    o22_a_queue_is_served_by_children_at_their_limit,
    o22_a_queue_is_served_when_the_program_stops_the_server,
    o22_a_queue_is_served_when_the_server_is_dropped,
    o22_clients_that_keep_coming_are_served_or_refused_at_a_stop,
    o22_clients_that_keep_coming_lose_nothing_when_the_program_stops_or_drops_the_server,
    o22_clients_that_keep_coming_to_a_path_are_served_or_refused_at_a_stop,
    o07_while_a_stop_waits_clients_are_refused_and_another_server_has_the_port,
    o07_while_a_stop_waits_another_server_has_the_path,
    o07_who_is_queued_behind_a_busy_child_is_reset_after_the_drain,
    o07_a_process_that_holds_a_copy_does_not_keep_the_port,
    o39_a_start_that_takes_long_is_not_waited_for_in_a_stop,
    o39_nor_when_the_program_stops_or_drops_the_server,
    i02_a_second_signal_kills_what_is_left_when_the_program_stops_or_drops_the_server,
    children_have_shutdown_timeout_when_the_program_stops_or_drops_the_server,
];

/// A loop of the program's own, and `PreFork::stop`, or a drop, when there is a file at `--until`.
fn draining_by_hand(args: Args) -> ExitCode {
    let mut prefork = builder(&args).start().expect("a start");
    announce(&prefork);
    let until = args.value("--until").expect("a path");
    while !Path::new(until).exists() {
        let turn = prefork.turn(Some(Duration::from_millis(10)));
        let _ = turn.expect("a turn");
    }
    println!("stopping");
    match args.has("--drop") {
        true => drop(prefork),
        false => prefork.stop(),
    }
    ExitCode::SUCCESS
}

/// The flags of the two ways.
const BY_HAND: [&[&str]; 2] = [&[], &["--drop"]];

/// A run of that program.
struct ByHand {
    server: Server,
    until: PathBuf,
}

impl ByHand {
    fn spawn(world: &mut World, flags: &[&str]) -> Self {
        let until = world.tempdir().join("stop");
        let _ = std::fs::remove_file(&until);
        let program = world.program("draining_by_hand").args(flags);
        let server = program.arg("--until").arg(&until).spawn();
        Self { server, until }
    }

    /// Has the program end its server, and waits until it has begun to.
    fn ends(&self) {
        std::fs::write(&self.until, "").expect("a file");
        let begun = |text: &str| text.contains("stopping");
        self.server.expect_stdout("the stop", begun);
    }
}

/// Children accept until nothing is queued, and no connection that the kernel has accepted is lost.
///
/// Each child has a client in hand, and 80 more are queued, when the server is told to stop.
fn o22_a_hundred_clients_on_twenty_children_are_served_at_a_stop(world: &mut World) {
    let server = world.spawn("serve", &["--start", "20", "--max-clients", "20"]);
    serves_the_queue(&server, 20, 80);
}

/// `PreFork::stop` serves the queue as well.
fn o22_a_queue_is_served_when_the_program_stops_the_server(world: &mut World) {
    serves_the_queue_without_the_loop(world, &[]);
}

/// So does a drop.
///
/// With `|_| false` in `Parent::drop` the children take its end for the parent's death, and leave.
fn o22_a_queue_is_served_when_the_server_is_dropped(world: &mut World) {
    serves_the_queue_without_the_loop(world, &["--drop"]);
}

fn serves_the_queue_without_the_loop(world: &mut World, flags: &[&str]) {
    let size = ["--start", "2", "--max-clients", "2"];
    let by_hand = ByHand::spawn(world, &[&size[..], flags].concat());
    let server = &by_hand.server;
    expect_up(server, 2);
    let (held, waiting) = (hold(&server.address(), 2), queue(server, 10));
    by_hand.ends();
    drop(held);
    are_served(waiting);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_refusal(&server.address());
}

/// In a shutdown a child that has reached `max_requests` is not replaced, so it continues to serve.
fn o22_a_queue_is_served_by_children_at_their_limit(world: &mut World) {
    let flags = ["--start", "2", "--max-clients", "2", "--max-requests", "1"];
    let server = world.spawn("serve", &flags);
    serves_the_queue(&server, 2, 10);
}

fn serves_the_queue(server: &Server, children: usize, queued: usize) {
    expect_up(server, children);
    let held = hold(&server.address(), children);
    let waiting = queue(server, queued);
    server.signal(Signal::SIGTERM);
    expect_entry(server, "shutdown", 0);
    drop(held);
    are_served(waiting);
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert_eq!(deaths(server, "Shutdown"), children as u64);
}

/// As many clients as that, in the queue.
fn queue(server: &Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| connect(&server.address())).collect();
    clients
        .iter_mut()
        .for_each(|client| client.send_line("who"));
    clients
}

#[track_caller]
fn are_served(clients: Vec<Client>) {
    for (number, mut client) in clients.into_iter().enumerate() {
        let answer = client.try_read_line();
        assert!(matches!(answer, Ok(Some(_))), "{number}: {answer:?}");
    }
}

/// New clients are refused before the first child is told to stop: so no client can be queued after
/// the last child has looked. Each of the three signals that stop a server does that.
fn o22_clients_that_keep_coming_are_served_or_refused_at_a_stop(world: &mut World) {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].repeat(2) {
        let server = world.spawn("serve", &["--start", "20"]);
        expect_up(&server, 20);
        loses_nobody_at(&server, || server.signal(signal));
    }
}

/// `PreFork::stop` and a drop refuse new clients as the loop's stop does.
///
/// Without `begin_drain` in them clients are let in until the last child has left, and reset.
fn o22_clients_that_keep_coming_lose_nothing_when_the_program_stops_or_drops_the_server(
    world: &mut World,
) {
    for flags in BY_HAND.repeat(3) {
        // More than there are clients, so that the server is never saturated.
        let size = ["--start", "4", "--max-clients", "16"];
        let by_hand = ByHand::spawn(world, &[&size[..], flags].concat());
        expect_up(&by_hand.server, 4);
        loses_nobody_at(&by_hand.server, || by_hand.ends());
    }
}

/// Clients of a UNIX socket are kept out by the removal of its file.
fn o22_clients_that_keep_coming_to_a_path_are_served_or_refused_at_a_stop(world: &mut World) {
    let path = world.tempdir().join("socket");
    for _ in 0..5 {
        let server = listening::spawn_unix(world, &path);
        loses_nobody_at(&server, || server.signal(Signal::SIGTERM));
        assert!(!path.exists());
    }
}

/// Eight clients that come again and again until they are refused, and a stop in the midst of it.
fn loses_nobody_at(server: &Server, stop: impl FnOnce()) {
    let address = server.address();
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| come_until_refused(&address, &served)))
            .collect();
        until("all of them to be served", SOON, || {
            (served.load(Ordering::Relaxed) > 200).then_some(())
        });
        stop();
        for client in clients {
            let refusal = client.join().expect("a client");
            let refused = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];
            assert!(refused.contains(&refusal), "{refusal:?}");
        }
    });
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert_eq!(server.complaints(), "");
}

fn come_until_refused(address: &Address, served: &AtomicUsize) -> ErrorKind {
    loop {
        let mut client = match try_connect(address) {
            Ok(client) => client,
            Err(error) => return error.kind(),
        };
        is_answered(&mut client);
        served.fetch_add(1, Ordering::Relaxed);
    }
}

#[track_caller]
fn is_answered(client: &mut Client) {
    client.try_send_line("who").expect("it was accepted");
    let answer = client.try_read_line();
    assert!(matches!(answer, Ok(Some(_))), "{answer:?}");
}

/// When no client is queued and no idle child is left, the listeners are closed for all processes
/// while a busy child finishes: clients are refused at once, and the next server can start.
fn o07_while_a_stop_waits_clients_are_refused_and_another_server_has_the_port(world: &mut World) {
    let server = world.spawn("serve", &["--start", "4"]);
    let address = server.address();
    let mut held = Held::new(&address);
    expect_up(&server, 4);
    server.signal(Signal::SIGTERM);
    expect_refusal(&address);
    held.is_served();
    let port = address.port().to_string();
    let next = world.spawn("serve", &["--port", &port]);
    assert_ne!(Held::new(&next.address()).pid, held.pid);
    held.is_served();
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    Held::new(&address).is_served();
    assert_eq!(next.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// The same holds for a UNIX socket, and the first server leaves the file of the second alone.
fn o07_while_a_stop_waits_another_server_has_the_path(world: &mut World) {
    let path = world.tempdir().join("socket");
    let server = listening::spawn_unix(world, &path);
    let mut client = connect(&server.address());
    client.ask("pid");
    server.signal(Signal::SIGTERM);
    expect_refusal(&server.address());
    let next = listening::spawn_unix(world, &path);
    let other = listening::ask(&next.address());
    assert_ne!(client.ask("pid"), other.to_string());
    drop(client);
    assert_eq!(server.wait(SOON).code(), Some(0));
    listening::ask(&next.address());
    listening::stop(&next);
}

#[track_caller]
fn expect_refusal(address: &Address) {
    let refused = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];
    until("clients to be refused", SOON, || {
        let error = try_connect(address).err()?;
        refused.contains(&error.kind()).then_some(())
    });
}

/// A queue that no child takes is given up after `drain_timeout`, not after `shutdown_timeout`.
fn o07_who_is_queued_behind_a_busy_child_is_reset_after_the_drain(world: &mut World) {
    let flags = [
        "--start",
        "1",
        "--max-clients",
        "1",
        "--drain-timeout",
        "2000",
    ];
    let server = world.spawn("serve", &flags);
    let mut held = Held::new(&server.address());
    let mut queued = connect(&server.address());
    server.signal(Signal::SIGTERM);
    expect_entry(&server, "shutdown", 0);
    assert!(queued.is_silent(Duration::from_millis(200)));
    queued.gone();
    expect_refusal(&server.address());
    held.is_served();
    drop(held);
    assert_eq!(server.wait(SOON).code(), Some(0));
    expect_losses(&server, "1 connections: 1 queued, 0 in hand");
}

/// A process that keeps a copy of the listener open cannot keep the port.
fn o07_a_process_that_holds_a_copy_does_not_keep_the_port(world: &mut World) {
    let server = world.spawn("serve", &["--start", "2", "--drain-timeout", "300"]);
    let address = server.address();
    let holder = expect_up(&server, 2)[0];
    stop(holder);
    server.signal(Signal::SIGTERM);
    expect_refusal(&address);
    let port = address.port().to_string();
    let next = world.spawn("serve", &["--port", &port]);
    Held::new(&next.address()).is_served();
    until("the other child to leave", SOON, || {
        (server.children() == [holder]).then_some(())
    });
    send(holder, Signal::SIGCONT);
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert_eq!(next.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// A child that is still in its `server_start` when the drain is over gets SIGKILL.
fn o39_a_start_that_takes_long_is_not_waited_for_in_a_stop(world: &mut World) {
    let mut gate = world.gate("start");
    let server = world.spawn("serve", &["--start", "1", "--drain-timeout", "500"]);
    let child = gate.reached(SOON);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(SOON).code(), Some(0));
    let begun = expect_entry(&server, "shutdown", 0);
    let end = expect_exit(&server, child, "Shutdown signal: 9 (SIGKILL)");
    let took = end.at - begun.at;
    // Of the 30 s that a stop may take.
    assert!(
        took >= Duration::from_millis(500) && took < Duration::from_secs(8),
        "{took:?}"
    );
}

/// `PreFork::stop` and a drop do not wait for it either.
///
/// With `kill_timeout` as their bound this takes 60 s.
fn o39_nor_when_the_program_stops_or_drops_the_server(world: &mut World) {
    let mut gate = world.gate("start");
    for flags in BY_HAND {
        let times = ["--drain-timeout", "300", "--kill-timeout", "60000"];
        let flags = [&["--start", "1"], &times[..], flags].concat();
        let by_hand = ByHand::spawn(world, &flags);
        gate.reached(SOON);
        let begun = Instant::now();
        by_hand.ends();
        assert_eq!(by_hand.server.wait(SOON).code(), Some(0));
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
}

/// In `PreFork::stop` and in a drop the first SIGTERM or SIGINT changes nothing, and the second kills
/// the children that are left.
fn i02_a_second_signal_kills_what_is_left_when_the_program_stops_or_drops_the_server(
    world: &mut World,
) {
    for (flags, second) in BY_HAND.into_iter().zip([Signal::SIGTERM, Signal::SIGINT]) {
        let by_hand = ByHand::spawn(world, flags);
        let server = &by_hand.server;
        let mut held = Held::new(&server.address());
        by_hand.ends();
        expect_refusal(&server.address());
        server.signal(Signal::SIGTERM);
        holds("it is waited for", Duration::from_millis(500), || {
            held.is_served();
            server.try_wait().is_none()
        });
        server.signal(second);
        held.client.gone();
        assert_eq!(server.wait(SOON).code(), Some(0));
        let losses = "the stop has lost 1 connections: 0 queued, 1 in hand";
        assert!(server.stderr().contains(losses), "{}", server.stderr());
    }
}

/// What a child has in hand is given the same time as in a stop by SIGTERM.
fn children_have_shutdown_timeout_when_the_program_stops_or_drops_the_server(world: &mut World) {
    for flags in BY_HAND {
        let times = ["--shutdown-timeout", "700", "--kill-timeout", "100"];
        let by_hand = ByHand::spawn(world, &[&times[..], flags].concat());
        let mut held = Held::new(&by_hand.server.address());
        let begun = Instant::now();
        by_hand.ends();
        held.client.gone();
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(700), "{took:?}");
        assert_eq!(by_hand.server.wait(SOON).code(), Some(0));
    }
}
