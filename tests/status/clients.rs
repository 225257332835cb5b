//! Clients of the helper that are slow, half, too large, many or wrong. That clients which do not read
//! take bounded memory is tested beside the code (`src/observe/status/helper.rs`), with large documents.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Address, Client, SOON, Scenarios, Signal, World, connect, patient, scenarios,
};
use crate::web::{Answer, exchange, get, told, until_code};

pub const SCENARIOS: Scenarios = scenarios![
    what_is_wrong_is_refused,
    requests_in_a_row_are_answered_in_order,
    a_request_that_does_not_end_is_given_up,
    stuck_clients_keep_nobody_waiting,
    large_questions_keep_no_probe_waiting,
    an_idle_client_goes_before_one_that_asks,
    names_of_others_are_no_host,
];

fn what_is_wrong_is_refused(world: &mut World) {
    let (server, status) = told(world, &[]);
    until_code(&status, "/ready", 200, SOON);
    let long = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    for (request, code) in [
        (
            "POST /status.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
            405,
        ),
        ("GET /ready HTTP/1.1\r\n\r\n", 400),
        ("GET /ready HTTP/3.0\r\n\r\n", 505),
        (
            "GET /ready HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
            413,
        ),
        ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n", 400),
        (&long, 431),
    ] {
        let answer = Answer::parse(&exchange(&status, request.as_bytes()));
        assert_eq!(answer.code, code, "{:.60}", request);
        assert!(answer.head.contains("Connection: close"), "{}", answer.head);
    }
    let head = exchange(&status, b"HEAD /ready HTTP/1.0\r\n\r\n");
    let head = Answer::parse(&head);
    assert_eq!((head.code, &*head.body), (200, ""));
    assert!(head.head.contains("Content-Length: 6"), "{}", head.head);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// Also one that comes byte by byte, and one after a client has closed its side.
fn requests_in_a_row_are_answered_in_order(world: &mut World) {
    let (server, status) = told(world, &[]);
    until_code(&status, "/ready", 200, SOON);
    let row = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(40);
    let row = format!("{row}GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let text = exchange(&status, row.as_bytes());
    let codes: Vec<_> = text
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|part| &part[..3])
        .collect();
    assert_eq!(codes.len(), 41, "{text}");
    assert!(codes[..40].iter().all(|code| *code == "200") && codes[40] == "404");
    let mut client = connect(&status);
    for byte in b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" {
        client.write_all(&[*byte]).unwrap();
    }
    client.close_write();
    assert_eq!(Answer::parse(&client.read_rest()).code, 200);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn half(status: &Address) -> Client {
    let mut client = connect(status);
    client.write_all(b"GET /ready HT").unwrap();
    client
}

fn a_request_that_does_not_end_is_given_up(world: &mut World) {
    let (server, status) = told(world, &[]);
    let mut silent = connect(&status);
    assert_eq!(Answer::parse(&half(&status).read_rest()).code, 408);
    silent.eof();
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// Two hundred that have said half of a request, and three hundred more: one more than there is room
/// for takes the place of an older one.
fn stuck_clients_keep_nobody_waiting(world: &mut World) {
    let (server, status) = told(world, &[]);
    until_code(&status, "/ready", 200, SOON);
    let mut stuck: Vec<_> = (0..200).map(|_| half(&status)).collect();
    let answers_at_once = || {
        let before = Instant::now();
        assert_eq!(get(&status, "/ready").code, 200);
        let took = before.elapsed();
        assert!(took < patient(Duration::from_secs(1)), "{took:?}");
    };
    (0..10).for_each(|_| answers_at_once());
    stuck.extend((0..300).map(|_| half(&status)));
    (0..10).for_each(|_| answers_at_once());
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    drop(stuck);
}

/// A client that asks for as much as it can, and reads whatever comes.
struct Greedy(TcpStream);

impl Greedy {
    fn new(status: &Address) -> Self {
        let Address::Tcp(address) = status else {
            panic!("{status} is no TCP address");
        };
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// What would block is done another time; what fails is its own fault.
    fn go_on(&mut self, requests: &[u8], buffer: &mut [u8]) {
        let _ = self.0.write(requests);
        let _ = self.0.read(buffer);
    }
}

/// Two hundred clients that ask for the document again and again, in a row and without waiting.
fn large_questions_keep_no_probe_waiting(world: &mut World) {
    let (server, status) = told(world, &[]);
    until_code(&status, "/ready", 200, SOON);
    let mut clients: Vec<_> = (0..200).map(|_| Greedy::new(&status)).collect();
    let requests = "HEAD /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(150);
    let ends = AtomicBool::new(false);
    let slowest = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 20];
            while !AtomicBool::load(&ends, SeqCst) {
                for client in &mut clients {
                    client.go_on(requests.as_bytes(), &mut buffer);
                }
                thread::yield_now();
            }
        });
        let probes = (0..10).map(|_| {
            let before = Instant::now();
            assert_eq!(get(&status, "/ready").code, 200);
            before.elapsed()
        });
        let slowest = probes.max();
        AtomicBool::store(&ends, true, SeqCst);
        slowest.unwrap()
    });
    println!("the slowest probe took {slowest:?}");
    assert!(slowest < patient(Duration::from_secs(1)), "{slowest:?}");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// As many as there is room for are idle between two requests. Two that ask have the places of two of
/// them.
fn an_idle_client_goes_before_one_that_asks(world: &mut World) {
    const ROOM: usize = 256;
    let (server, status) = told(world, &[]);
    until_code(&status, "/ready", 200, SOON);
    // One after the other: who has not asked yet is given up before one that is idle.
    let idle = || {
        let mut client = connect(&status);
        client
            .write_all(b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        while !client.read_line().trim().is_empty() {}
        client
    };
    let mut idle: Vec<_> = (0..ROOM).map(|_| idle()).collect();
    let mut asking = [half(&status), half(&status)];
    for client in &mut asking {
        client
            .write_all(b"TP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        assert_eq!(Answer::parse(&client.read_rest()).code, 200);
    }
    // Those that have been idle for longest have gone.
    for client in &mut idle[..2] {
        client.gone();
    }
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// A page of somebody else, whose name a browser has been told to find at this address, reads nothing.
fn names_of_others_are_no_host(world: &mut World) {
    let (server, status) = told(world, &[]);
    until_code(&status, "/ready", 200, SOON);
    for (host, code) in [
        ("evil.example", 421),
        ("evil.example:9100", 421),
        ("localhost.evil.example", 421),
        ("", 421),
        ("LocalHost:1", 200),
        ("127.0.0.1", 200),
        ("10.0.0.1:9100", 200),
        ("[::1]:9100", 200),
    ] {
        let request =
            format!("GET /status.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = Answer::parse(&exchange(&status, request.as_bytes()));
        assert_eq!(answer.code, code, "{host}");
        assert_eq!(answer.body.contains("slots"), code == 200, "{host}");
    }
    // A balancer asks by the name of its group of servers.
    for path in ["/ready", "/health"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: hosts\r\nConnection: close\r\n\r\n");
        let answer = Answer::parse(&exchange(&status, request.as_bytes()));
        assert_eq!(answer.code, 200, "{path}");
    }
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}
