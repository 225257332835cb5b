//! Figures of stops: no client lost under load, no wait for idle clients, the port free at once.
//!
//! `STOPS=1000` makes them long, and prints what `docs/reliability.md` says. `STOPS_DRAIN_TIMEOUT` is
//! the `drain_timeout` in milliseconds, for a machine that has nothing else to do: 1000 is the default
//! of the attribute, and 10000 that of this test.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::signal_fuzz::own_address;
use crate::subject::{Crowd, Held, expect_up};
use crate::support::{Address, SOON, Scenarios, Signal, World, patient, scenarios, try_connect};

pub const SCENARIOS: Scenarios = scenarios![
    o22_stops_under_load_lose_nobody,
    o34_stops_with_fifty_idle_clients,
    o07_restarts_on_the_same_port,
];

/// How often.
fn stops(world: &mut World, default: u32) -> u32 {
    let stops = std::env::var("STOPS").map_or(default, |text| text.parse().expect("a number"));
    world.deadline(Duration::from_secs(60) + stops * Duration::from_secs(8));
    stops
}

/// Every connection that the kernel has accepted before the listeners closed is answered. After
/// that, clients are refused at once.
fn o22_stops_under_load_lose_nobody(world: &mut World) {
    let stops = stops(world, 2);
    let clients = if stops > 2 { 200 } else { 40 };
    let (mut served, mut took) = (0, Vec::new());
    let own_address = own_address();
    let drain = std::env::var("STOPS_DRAIN_TIMEOUT").unwrap_or_else(|_| "10000".to_owned());
    for stop in 0..stops {
        if stop > 0 && stop % 100 == 0 {
            println!("{stop} stops, {served} served");
        }
        let size = ["--start", "20", "--max-clients", "20"];
        let flags = ["--address", &own_address, "--drain-timeout", &drain];
        let flags = [size, flags].concat();
        let server = world.spawn("under_signals", &flags);
        let address = server.address();
        // In every other stop a child stays busy after the listeners have been closed.
        let held = (stop % 2 == 1).then(|| Held::new(&address));
        let crowd = Crowd::come(&address, clients);
        crowd.is_served(clients);
        let told = Instant::now();
        server.signal(Signal::SIGTERM);
        match held {
            None => {
                assert_eq!(server.wait(SOON * 6).code(), Some(0));
                took.push(told.elapsed());
                is_refused_at_once(&address);
                served += crowd.leave_refused();
            }
            Some(mut held) => {
                served += crowd.leave_refused();
                is_refused_at_once(&address);
                held.is_served();
                drop(held);
                assert_eq!(server.wait(SOON * 6).code(), Some(0));
            }
        }
        let stdout = server.stdout();
        assert!(!stdout.contains("SIGKILL"), "{stdout}");
    }
    println!(
        "{stops} stops, {clients} clients: {served} served, 0 lost, 0 reset; {}",
        spread(took)
    );
}

#[track_caller]
fn is_refused_at_once(address: &Address) {
    let asked = Instant::now();
    let refused = try_connect(address).err().map(|error| error.kind());
    assert_eq!(refused, Some(std::io::ErrorKind::ConnectionRefused));
    let took = asked.elapsed();
    assert!(took < patient(Duration::from_millis(500)), "{took:?}");
}

/// The median and the most of times.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    format!("p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100))
}

/// Keep-alive clients that were answered and say nothing hold up no stop.
fn o34_stops_with_fifty_idle_clients(world: &mut World) {
    let stops = stops(world, 2);
    let mut took = Vec::new();
    for _ in 0..stops {
        let size = [
            "--start-servers",
            "50",
            "--max-spare-servers",
            "60",
            "--max-clients",
            "60",
        ];
        let server = world.run_example("hello", &[&["--port", "0"], &size[..]].concat());
        let Address::Tcp(address) = server.address() else {
            panic!("a server on TCP");
        };
        let clients: Vec<TcpStream> = (0..50).map(|_| idle_client(address)).collect();
        let told = Instant::now();
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait(SOON).code(), Some(0));
        took.push(told.elapsed());
        drop(clients);
    }
    println!(
        "{stops} stops with 50 idle clients: {}",
        spread(took.clone())
    );
    // Of the 30 s that a stop may take.
    let longest = if stops > 2 {
        Duration::from_secs(5)
    } else {
        patient(Duration::from_secs(5))
    };
    assert!(took.iter().all(|took| *took < longest), "{took:?}");
}

/// A client that has its first answer and keeps the connection.
fn idle_client(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("a request");
    let mut line = String::new();
    BufReader::new(&stream)
        .read_line(&mut line)
        .expect("an answer");
    assert!(line.contains(" 200 "), "{line}");
    stream
}

/// A supervisor starts the next server on the port right after the end of the last one, while
/// connections of that one are in TIME_WAIT.
fn o07_restarts_on_the_same_port(world: &mut World) {
    let restarts = stops(world, 5);
    let mut port = "0".to_owned();
    for _ in 0..restarts {
        let server = world.spawn("serve", &["--start", "2", "--port", &port]);
        let address = server.address();
        port = address.port().to_string();
        expect_up(&server, 2);
        let mut held = Held::new(&address);
        // The server closes first, which leaves TIME_WAIT at its side.
        server.signal(Signal::SIGTERM);
        held.client.close_write();
        held.client.gone();
        assert_eq!(server.wait(SOON).code(), Some(0));
    }
    println!("{restarts} restarts on port {port}: no address in use");
}
