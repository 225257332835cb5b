//! What clients do to a connection, as the field has found it: resets, slowness, floods, silence, and stops
//! while they are there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod support;

use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Duration;

use prefork_server::servers::TcpConn;
use prefork_server::servers::conn::{ConnClass, Session};
use prefork_server::{Error, PreFork, TcpServer};
use support::{Address, Args, Server, Signal, World, connect, gate, programs, scenarios};

const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::main(
        programs![plain, object],
        scenarios![
            field06_a_client_that_resets_is_no_line,
            field06_an_object_whose_client_resets_logs_nothing,
            field12_an_ipv4_client_of_a_dual_socket_is_ipv4,
        ],
    )
}

// The programs.

/// One child, for which `server` has been made ready.
fn run(args: &Args, server: TcpServer) -> Result<(), Error> {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .init();
    let timeout = args.parsed("--timeout").unwrap_or(0.0);
    let server = server
        .address(args.value("--address").unwrap_or("127.0.0.1"))
        .max_requests(0);
    let mut prefork = PreFork::builder(server)
        .start_servers(1)
        .max_clients(1)
        .min_spare_servers(1)
        .timeout(Duration::from_secs_f64(timeout))
        .start()?;
    for address in prefork.server().local_addrs() {
        println!("listening on {address}");
    }
    prefork.run()?;
    Ok(())
}

/// Does what the first line says, with a function.
fn plain(args: Args) -> Result<(), Error> {
    run(&args, TcpServer::new(serve))
}

fn serve(conn: TcpConn) -> io::Result<()> {
    let mut reader = BufReader::new(&conn);
    let mut order = String::new();
    reader.read_line(&mut order)?;
    match order.trim() {
        "who" => writeln!(&conn, "{} {}", conn.peer_addr()?, conn.local_addr()?),
        "reset" => {
            gate::pass("reset");
            // The end of the connection, in whatever way it is told.
            let _ = reader.read_line(&mut order);
            println!("it was {}", conn.peer_addr()?);
            conn.shutdown(std::net::Shutdown::Both)
        }
        order => Err(io::Error::other(format!("what is {order:?}?"))),
    }
}

/// Does what a line says, with an object.
fn object(args: Args) -> Result<(), Error> {
    run(&args, TcpServer::conn_class(|| Object))
}

struct Object;

impl ConnClass for Object {
    fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
        match input {
            b"who" => session.put(format!(
                "{:?} {:?}",
                session.remote_address(),
                session.local_address()
            )),
            b"reset" => {
                gate::pass("reset");
                // More than goes at once: the first write may still be taken.
                session.put(vec![b'x'; 100_000]);
            }
            order => panic!("what is {:?}?", order.escape_ascii().to_string()),
        }
    }

    fn handler_stop(&mut self, session: &mut Session) {
        println!("stopped {}", session.id());
    }
}

// What scenarios have in common.

fn stop(server: &Server) {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn silent(server: &Server) {
    assert_eq!(server.stderr(), "", "no line");
}

/// The address of the server that IPv4 clients use.
fn over_ipv4(server: &Server) -> Address {
    Address::parse(&format!("127.0.0.1:{}", server.address().port()))
}

// Scenarios.

/// Errors that are the client's are no line in the log, and its address is remembered from accept(2).
///
/// The handler uses `?` on all that can fail once a client has reset: `peer_addr`, `shutdown`.
fn field06_a_client_that_resets_is_no_line(world: &mut World) {
    let mut gate = world.gate("reset");
    let server = world.spawn("plain", &[]);
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

/// The default of `handler_error` takes an error that is the client's, reading or writing, for no news.
fn field06_an_object_whose_client_resets_logs_nothing(world: &mut World) {
    let mut gate = world.gate("reset");
    let server = world.spawn("object", &[]);
    let mut client = connect(&server.address());
    client.send_line("reset");
    let child = gate.reached(SOON);
    client.reset();
    gate.release(child);
    server.expect_stdout("the end", |text| text.contains("stopped 1"));
    stop(&server);
    silent(&server);
}

/// The addresses of a client that has come over IPv4 are IPv4 addresses, whatever the socket is.
fn field12_an_ipv4_client_of_a_dual_socket_is_ipv4(world: &mut World) {
    for (program, right) in [
        ("plain", ["PEER LOCAL", "PEER LOCAL"]),
        (
            "object",
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
