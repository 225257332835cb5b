//! Faults that clients cause on a connection: resets, slowness, floods, silence, and stops while
//! clients are connected.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use crate::support::{
    Address, Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, gate,
    patient, pause, programs, scenarios, until,
};
use prefork_server::servers::conn::{ConnClass, Session, defaults};
use prefork_server::servers::{Refusal, TcpConn};
use prefork_server::{Error, Event, Monitor, Observer, PreFork, TcpServer};

mod program;
pub mod stops;

use self::program::{clients_object, clients_plain, clients_stateful};
use self::stops::{quick, time_to_stop};

pub const PROGRAMS: Programs = programs![clients_plain, clients_object, clients_stateful];

pub const SCENARIOS: Scenarios = scenarios![
    o06_a_client_that_resets_is_no_line,
    o06_an_object_whose_client_resets_logs_nothing,
    o12_an_ipv4_client_of_a_dual_socket_is_ipv4,
    o17_a_shutdown_after_a_large_put_is_followed_by_the_flush,
    o18_a_handler_has_the_whole_timeout,
    o32_a_flood_in_a_shutdown_is_not_read_for_ever,
    o34_an_object_says_goodbye_in_a_stop,
    o34_examples_wait_for_no_idle_client,
    o34_an_object_bounds_its_client,
    o35_an_object_lingers_if_it_is_told_to,
    o35_an_answer_before_the_upload_was_read_arrives,
    o35_lingering_is_bounded,
    o36_a_slow_client_has_no_more_than_the_deadline,
    o37_queued_clients_that_have_reset_are_skipped,
    o37_a_handler_sees_that_its_client_has_gone,
    o41_a_childs_state_has_an_end,
    o40_a_child_serves_one_more_and_is_replaced,
];

// What scenarios have in common.

fn stop(server: &Server) {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn silent(server: &Server) {
    assert_eq!(server.complaints(), "", "no line");
}

/// The address of the server that IPv4 clients use.
fn over_ipv4(server: &Server) -> Address {
    Address::parse(&format!("127.0.0.1:{}", server.address().port()))
}

// Scenarios.

/// Errors that the client causes are not logged, and its address is remembered from accept(2).
///
/// The handler uses `?` on every call that can fail once a client has reset: `peer_addr`,
/// `shutdown`.
fn o06_a_client_that_resets_is_no_line(world: &mut World) {
    let mut gate = world.gate("reset");
    let server = world.spawn("clients_plain", &[]);
    let mut client = connect(&server.address());
    client.send_line("reset");
    let child = gate.reached(SOON);
    let own = client.local_address();
    client.reset();
    gate.release(child);
    let line = format!("it was {own}");
    server.expect_stdout(&line, |text| text.contains(&line));
    assert!(connect(&server.address()).ask("who").contains("127.0.0.1"));
    stop(&server);
    silent(&server);
}

/// The default of `handler_error` does not log an error that the client causes, in reading or
/// writing.
fn o06_an_object_whose_client_resets_logs_nothing(world: &mut World) {
    let mut gate = world.gate("reset");
    let server = world.spawn("clients_object", &[]);
    let mut client = connect(&server.address());
    client.send_line("reset");
    let child = gate.reached(SOON);
    client.reset();
    gate.release(child);
    server.expect_stdout("the end", |text| text.contains("stopped 1"));
    stop(&server);
    silent(&server);
}

/// The addresses of an IPv4 client are IPv4 addresses, also on an IPv6 socket.
fn o12_an_ipv4_client_of_a_dual_socket_is_ipv4(world: &mut World) {
    for (program, right) in [
        ("clients_plain", ["PEER LOCAL", "PEER LOCAL"]),
        (
            "clients_object",
            ["Some(PEER) Some(LOCAL)", "Some(PEER) Some(LOCAL)"],
        ),
    ] {
        let server = world.spawn(program, &["--address", "::"]);
        let port = server.address().port();
        let loopback6 = Address::parse(&format!("[::1]:{port}"));
        for (address, right) in [over_ipv4(&server), loopback6].iter().zip(right) {
            let mut client = connect(address);
            let peer = client.local_address().to_string();
            let right = right
                .replace("PEER", &peer)
                .replace("LOCAL", &address.to_string());
            assert_eq!(client.ask("who"), right);
        }
        stop(&server);
        silent(&server);
    }
}

/// An answer that is sent before an upload has been read is not lost to a reset: `linger` discards
/// the rest.
///
/// Twenty clients send 8 MB before they read; without it each of them is reset.
fn o35_an_answer_before_the_upload_was_read_arrives(world: &mut World) {
    let server = world.spawn("clients_plain", &[]);
    for _ in 0..20 {
        let mut client = connect(&server.address());
        client.send_line("refuse");
        client.write_all(&vec![b'x'; 8_000_000]).expect("an upload");
        assert_eq!(client.read_rest(), "refused\n");
        drop(client);
    }
    stop(&server);
    silent(&server);
}

/// Lingering ends after `most` bytes, after `longest`, and soon when the child is told to stop.
fn o35_lingering_is_bounded(world: &mut World) {
    let server = world.spawn("clients_plain", &[]);
    let mut flood = connect(&server.address());
    flood.send_line("refuse 1 MiB");
    // Far more than the buffers of both sockets take.
    let sent = (0..2000).take_while(|_| flood.write_all(&[b'x'; 65536]).is_ok());
    assert!(sent.count() < 2000, "the server has read everything");
    server.expect_stdout("the end", |text| text.contains("closed: false"));
    let mut silent_one = connect(&server.address());
    silent_one.send_line("refuse briefly");
    assert_eq!(silent_one.read_rest(), "refused\n");
    let twice = |text: &str| text.matches("closed: false").count() == 2;
    server.expect_stdout("the second end", twice);
    let mut held = connect(&server.address());
    assert_eq!(held.ask("refuse"), "refused");
    quick(time_to_stop(&server));
    silent(&server);
}

/// `Conn::set_deadline` limits the whole connection, whatever the client does and however often.
///
/// One client sends a byte now and then, one floods, one takes nothing.
fn o36_a_slow_client_has_no_more_than_the_deadline(world: &mut World) {
    let server = world.spawn("clients_plain", &[]);
    for (nth, order) in ["hurry", "hurry up", "hurry and take"]
        .into_iter()
        .enumerate()
    {
        let mut client = connect(&server.address());
        client.send_line(order);
        let byte = if order == "hurry up" {
            vec![b'x'; 4096]
        } else {
            vec![b'x']
        };
        until("the deadline", SOON, || {
            if order != "hurry up" {
                pause(Duration::from_millis(50));
            }
            let _ = client.write_all(&byte);
            late(&server, nth)
        });
        let took = late(&server, nth).unwrap();
        assert!(took >= 500, "{took} ms");
        quick(Duration::from_millis(took - 500));
    }
    stop(&server);
    silent(&server);
}

/// After how many milliseconds the nth connection was late, if it was.
fn late(server: &Server, nth: usize) -> Option<u64> {
    let stdout = server.stdout();
    let (_, line) = stdout
        .match_indices("late after ")
        .nth(nth)
        .map(|(at, _)| stdout.split_at(at))?;
    assert!(
        line.contains("the client is too slow; waits: false"),
        "{line}"
    );
    line.split_whitespace().nth(2)?.parse().ok()
}

/// With slow handlers, a queued client that has reset costs no run of the handler.
///
/// Five such clients are queued before one that waits, which is the second client that is served.
fn o37_queued_clients_that_have_reset_are_skipped(world: &mut World) {
    let mut gate = world.gate("long");
    let server = world.spawn("clients_plain", &[]);
    // Of the first connection of a child that is queued before it begins, the time is not measured.
    let mut first = connect(&server.address());
    first.send_line("number");
    assert_eq!(first.read_rest(), "1\n");
    let mut first = connect(&server.address());
    first.send_line("long");
    let child = gate.reached(SOON);
    for _ in 0..5 {
        let mut client = connect(&server.address());
        client.send_line("number");
        client.reset();
    }
    let mut honest = connect(&server.address());
    honest.send_line("number");
    // Ten milliseconds make a handler one that tries the patience of clients.
    pause(Duration::from_millis(20));
    gate.release(child);
    assert_eq!(first.read_rest(), "done\n");
    assert_eq!(honest.read_rest(), "3\n");
    server.expect_stdout("the event", |text| text.contains(": the client had gone\n"));
    stop(&server);
    let report = server.stdout();
    assert!(
        report.ends_with("gone before they were served: 5\n"),
        "{report}"
    );
    silent(&server);
}

/// A handler with long work can check whether the client still waits: `Conn::peer_is_gone`.
fn o37_a_handler_sees_that_its_client_has_gone(world: &mut World) {
    let mut gate = world.gate("look");
    let server = world.spawn("clients_plain", &[]);
    let ends: [(End, &str); 3] = [
        (Some, "gone: false, finished: false"),
        (half_closed, "gone: false, finished: true"),
        (was_reset, "gone: true, finished: true"),
    ];
    for (end, right) in ends {
        let mut client = connect(&server.address());
        client.send_line("look");
        let child = gate.reached(SOON);
        let client = end(client);
        gate.release(child);
        server.expect_stdout(right, |text| text.contains(right));
        drop(client);
    }
    stop(&server);
    silent(&server);
}

/// How a client ends; it stays if it has not gone.
type End = fn(Client) -> Option<Client>;

fn half_closed(client: Client) -> Option<Client> {
    client.close_write();
    Some(client)
}

fn was_reset(client: Client) -> Option<Client> {
    client.reset();
    None
}

/// With `leave_after_this` a handler has its child replaced when its connection ends; the child
/// takes no other.
///
/// The next client is queued by then, and is served by the next child.
fn o40_a_child_serves_one_more_and_is_replaced(world: &mut World) {
    for program in ["clients_plain", "clients_object"] {
        let mut gate = world.gate("leave");
        let server = world.spawn(program, &[]);
        let mut first = connect(&server.address());
        first.send_line("leave");
        let child = gate.reached(SOON);
        let mut next = connect(&server.address());
        next.send_line("pid");
        gate.release(child);
        assert_eq!(first.read_rest(), format!("{child}\n"));
        let other = next.read_line();
        assert_ne!(other, child.to_string());
        drop(next);
        stop(&server);
        silent(&server);
        gate.open();
    }
}

/// `handler_flush` is called when a handler puts 500 kB and posts a shutdown, as with a few bytes.
fn o17_a_shutdown_after_a_large_put_is_followed_by_the_flush(world: &mut World) {
    let server = world.spawn("clients_object", &[]);
    let mut client = connect(&server.address());
    client.send_line("big");
    assert_eq!(client.read_rest().len(), 500_001);
    server.expect_stdout("the end", |text| text.contains("stopped 1"));
    assert!(server.stdout().contains("flushed"), "{}", server.stdout());
    stop(&server);
    silent(&server);
}

/// A session in its shutdown discards at most 16 MiB, whatever the client sends.
///
/// The client takes nothing, so the shutdown lasts.
fn o32_a_flood_in_a_shutdown_is_not_read_for_ever(world: &mut World) {
    let server = world.spawn("clients_object", &[]);
    let mut client = connect(&server.address());
    client.send_line("stuck");
    client.timeout(patient(Duration::from_secs(1))).unwrap();
    let sent = (0..2000).take_while(|_| client.write_all(&[b'x'; 65536]).is_ok());
    let sent = sent.count() * 65536;
    assert!(sent < 64 << 20, "{sent} bytes");
    client.timeout(SOON).unwrap();
    let mut taken = 0;
    let mut chunk = vec![0; 65536];
    while let Ok(count @ 1..) = client.read(&mut chunk) {
        taken += count;
    }
    assert!(
        taken > 32 << 20,
        "{taken} bytes: what was put is written all the same"
    );
    server.expect_stdout("the end", |text| text.contains("stopped 1"));
    stop(&server);
    silent(&server);
}

/// `handler_stopping` is called in a stop: an object can send a last line to an idle client, even a
/// new one.
fn o34_an_object_says_goodbye_in_a_stop(world: &mut World) {
    let server = world.spawn("clients_object", &["--children", "2"]);
    let mut one = connect(&server.address());
    assert_eq!(one.ask("hello"), "hello");
    let mut other = connect(&server.address());
    quick(time_to_stop(&server));
    assert_eq!(one.read_rest(), "421 closing\n");
    assert_eq!(other.read_rest(), "421 closing\n");
    silent(&server);
}

/// An object can limit how long its client may be idle, and how long the connection may take.
fn o34_an_object_bounds_its_client(world: &mut World) {
    let server = world.spawn("clients_object", &[]);
    let mut idle = connect(&server.address());
    idle.send_line("idle");
    idle.eof();
    let mut slow = connect(&server.address());
    let start = Instant::now();
    slow.send_line("hurry");
    let answered = |client: &mut Client| matches!(client.try_read_line(), Ok(Some(_)));
    while slow.try_send_line("hello").is_ok() && answered(&mut slow) {
        assert!(start.elapsed() < SOON, "no end");
    }
    quick(
        start
            .elapsed()
            .checked_sub(Duration::from_millis(500))
            .expect("half a second"),
    );
    stop(&server);
    silent(&server);
}

/// An object that has set `linger` does not lose its last answer to a client that is still sending.
fn o35_an_object_lingers_if_it_is_told_to(world: &mut World) {
    let server = world.spawn("clients_object", &[]);
    for _ in 0..5 {
        let mut client = connect(&server.address());
        client.send_line("refuse");
        client.write_all(&vec![b'x'; 8_000_000]).expect("an upload");
        assert_eq!(client.read_rest(), "refused\n");
    }
    stop(&server);
    silent(&server);
}

/// Silence counts from the start of the connection, or from the client's last input, if the last
/// ACK is older: a handler that works for less than `timeout` never counts as stuck.
///
/// Twenty clients come at any time between two ACKs, with a timeout of two seconds; half of them say what
/// they want when their connection is an ACK's interval old.
fn o18_a_handler_has_the_whole_timeout(world: &mut World) {
    let server = world.spawn("clients_plain", &["--timeout", "2", "--children", "10"]);
    server.expect_children(10);
    let clients: Vec<_> = (0..20)
        .map(|nth| {
            let address = server.address();
            std::thread::spawn(move || {
                pause(Duration::from_millis(nth * 97));
                let mut client = connect(&address);
                if nth % 2 == 1 {
                    pause(Duration::from_millis(850));
                }
                client.send_line("work");
                client.try_read_line().ok().flatten()
            })
        })
        .collect();
    let answers: Vec<_> = clients.into_iter().map(|it| it.join().unwrap()).collect();
    let done = answers.iter().flatten().filter(|&it| it == "done").count();
    assert_eq!(done, answers.len(), "{}", server.stderr());
    stop(&server);
}

/// `serve_then` takes a function for the end of a child's state, which runs once however the child
/// leaves, but not after a panic.
fn o41_a_childs_state_has_an_end(world: &mut World) {
    world.expect_panics();
    let server = world.spawn("clients_stateful", &[]);
    let ask = |order: &str| connect(&server.address()).ask(order);
    assert_eq!((ask("go"), ask("leave")), ("1".into(), "2".into()));
    server.expect_stdout("the first end", |text| text.contains("the end after 2\n"));
    assert_eq!(ask("go"), "1");
    let mut victim = connect(&server.address());
    victim.send_line("panic");
    victim.gone();
    assert_eq!(
        (ask("go"), ask("go"), ask("go")),
        ("1".into(), "2".into(), "3".into())
    );
    stop(&server);
    server.expect_stdout("the last end", |text| text.contains("the end after 3\n"));
    assert_eq!(server.stdout().matches("the end after").count(), 2);
}

/// The examples that keep connections open stop at once with idle clients: one that was answered,
/// one that has sent nothing.
fn o34_examples_wait_for_no_idle_client(world: &mut World) {
    for example in ["echo", "prefork_echoserver"] {
        let server = world.run_example(example, &["--port", "0"]);
        let mut one = connect(&server.address());
        assert_eq!(one.ask("hello"), "hello");
        let mut other = connect(&server.address());
        quick(time_to_stop(&server));
        one.eof();
        other.eof();
    }
}
