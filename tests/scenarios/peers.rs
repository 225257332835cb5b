//! The limit of connections of one client: it holds over all children, also when many connect at the
//! same time, and no client below it notices anything.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use prefork_server::{Error, PreFork, TcpServer};

use crate::subject::{announce, converse, ended, ends_well, log_warnings, send};
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Signal, World, programs, scenarios, until,
};

pub const PROGRAMS: Programs = programs![limited];

pub const SCENARIOS: Scenarios = scenarios![
    who_has_as_many_as_allowed_gets_no_more_until_one_ends,
    a_prefix_counts_as_one_client,
    the_limit_holds_when_many_connect_at_once,
];

fn limited(args: Args) -> ExitCode {
    log_warnings();
    ended(serve(&args))
}

fn serve(args: &Args) -> Result<(), Error> {
    let children = args.parsed("--children").expect("a number");
    let server = TcpServer::new(converse)
        .max_requests(0)
        .max_per_peer(args.parsed("--max-per-peer").expect("a number"))
        .peer_prefix(args.parsed("--prefix").unwrap_or(32), 64);
    let mut prefork = PreFork::builder(server)
        .start_servers(children)
        .max_spare_servers(children)
        .max_clients(children)
        .start()?;
    announce(&prefork);
    println!("{}", prefork.run()?);
    Ok(())
}

/// A connection from 127.0.0.`from`.
fn connected(address: &Address, from: u8) -> TcpStream {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, from, 0)).unwrap();
    connect(
        fd.as_raw_fd(),
        &SockaddrIn::new(127, 0, 0, 1, address.port()),
    )
    .unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// The pid of the child that serves it; `None` if it was closed.
fn served(mut stream: &TcpStream) -> Option<u32> {
    // A connection that was closed already resets what is written.
    stream.write_all(b"who\n").ok()?;
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        match stream.read(&mut byte) {
            Ok(1) => line.push(byte[0]),
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => return None,
        }
    }
    let text = String::from_utf8(line).unwrap();
    text.split_once(' ').unwrap().0.parse().ok()
}

/// Connects until it is served: a connection that has just ended may still count.
fn expect_served(address: &Address, from: u8) -> (TcpStream, u32) {
    until("a client to be served", SOON, || {
        let stream = connected(address, from);
        served(&stream).map(|pid| (stream, pid))
    })
}

/// The third of an address is closed before the handler, and counted; one of another address is not.
/// When one of the two ends, in order or with its child, there is room again.
fn who_has_as_many_as_allowed_gets_no_more_until_one_ends(world: &mut World) {
    let server = world.spawn("limited", &["--children", "8", "--max-per-peer", "2"]);
    let address = server.address();
    let (first, _) = expect_served(&address, 2);
    let (second, pid) = expect_served(&address, 2);
    for _ in 0..3 {
        assert_eq!(served(&connected(&address, 2)), None);
    }
    let other: SocketAddr = connected(&address, 3).local_addr().unwrap();
    assert_eq!(other.ip().to_string(), "127.0.0.3");
    expect_served(&address, 3);
    drop(first);
    let (third, _) = expect_served(&address, 2);
    assert_eq!(served(&connected(&address, 2)), None);
    send(pid, Signal::SIGKILL);
    let (fourth, _) = expect_served(&address, 2);
    assert_eq!(served(&connected(&address, 2)), None);
    drop((second, third, fourth));
    ends_well(&server);
    let report = server.stdout();
    assert!(report.contains(" connections refused: "), "{report}");
    assert!(
        report.ends_with("the client has too many connections\n"),
        "{report}"
    );
}

fn a_prefix_counts_as_one_client(world: &mut World) {
    let flags = ["--children", "4", "--max-per-peer", "1", "--prefix", "24"];
    let server = world.spawn("limited", &flags);
    let address = server.address();
    let (one, _) = expect_served(&address, 2);
    assert_eq!(served(&connected(&address, 200)), None);
    drop(one);
    expect_served(&address, 200);
    ends_well(&server);
}

/// However many children take one at the same time, no more than three are served; and alone, each
/// gets its three.
fn the_limit_holds_when_many_connect_at_once(world: &mut World) {
    const CLIENTS: usize = 12;
    const MOST: usize = 3;
    world.deadline(Duration::from_secs(60));
    let server = world.spawn("limited", &["--children", "16", "--max-per-peer", "3"]);
    server.expect_children(16);
    let address = server.address();
    for round in 0..30 {
        let from = 10 + round;
        let begin = Barrier::new(CLIENTS);
        let together = thread::scope(|scope| {
            let client = || {
                begin.wait();
                let stream = connected(&address, from);
                served(&stream).map(|_| stream)
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            let clients = clients.into_iter().filter_map(|it| it.join().unwrap());
            clients.collect::<Vec<_>>()
        });
        assert!(together.len() <= MOST, "{} at once", together.len());
        drop(together);
        let alone: Vec<_> = (0..MOST).map(|_| expect_served(&address, from)).collect();
        assert_eq!(served(&connected(&address, from)), None);
        drop(alone);
    }
    ends_well(&server);
}
