//! A guard against regressions that does not depend on how fast the machine is: system calls per
//! connection, by kind, and wake-ups. On fixed runs they are as many on every machine that does
//! nothing else meanwhile, so this is not a part of `cargo test`; `.ci/run` runs it by
//! `cargo test --test counts -- --test-threads 1`. strace counts; `recorded.txt` has what it was.
//!
//! Every run is made twice, with few connections and with many, and the difference counts: what the
//! first and the last connection take besides is in both. More than was recorded, and a tolerance,
//! fails.
//!
//! Which child gets the next connection depends on who runs first as well: see `order`.
//!
//! After a change that is meant to change them, record them again:
//!
//! ```sh
//! RECORD=1 cargo test --test counts -- --test-threads 1
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod order;
#[path = "../scenarios/strace/mod.rs"]
mod strace;
#[path = "../support/mod.rs"]
mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use order::{the_oldest_goes_first, the_oldest_goes_first_where_there_is_a_limit};
use prefork_server::servers::{AcceptOrder, TcpConn};
use prefork_server::{Error, PreFork, PreForkHooks, Start, TcpServer, defaults};
use strace::{Counts, Trace, compare};
use support::{
    Address, Args, Client, Server, Signal, World, connect, gate, pause, processes, until,
};

fn main() -> ExitCode {
    support::main(
        support::programs![serve],
        support::scenarios![
            one_client_after_the_other,
            one_client_and_fifty_idle_children,
            a_queue_that_is_never_empty,
            a_queue_that_is_never_empty_in_turn,
            the_oldest_goes_first,
            the_oldest_goes_first_where_there_is_a_limit,
        ],
    )
}

const SOON: Duration = Duration::from_secs(20);
/// A request that is answered with the pid of the child.
const WHO: &str = "who?";

// ---- The program ----

/// A fixed pool of so many children, without a timeout, so that nothing is done by the clock.
fn serve(args: Args) -> Result<(), Error> {
    gate::pass("trace");
    let children = args.parsed("--children").expect("a number");
    let order = match args.has("--in-turn") {
        true => AcceptOrder::InTurn,
        false => AcceptOrder::OldestFirst,
    };
    let limit = args.parsed("--limit");
    let server = TcpServer::new(converse).max_requests(limit.unwrap_or(0));
    let server = match limit {
        None => server.accept_order(order),
        Some(_) => server,
    };
    let mut prefork = PreFork::builder(server)
        .hooks(Held)
        .start_servers(children)
        .min_spare_servers(1)
        .max_spare_servers(children)
        .max_clients(children)
        .start()?;
    println!("listening on {}", prefork.server().local_addrs()[0]);
    prefork.run().map(drop)
}

#[derive(Debug)]
struct Held;

impl PreForkHooks for Held {
    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        gate::pass("start");
        defaults::server_start(self, start)
    }
}

fn converse(conn: TcpConn) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(&conn).read_line(&mut line)?;
    if line.trim_end() == WHO {
        line = format!("{}\n", std::process::id());
    }
    (&conn).write_all(line.as_bytes())
}

// ---- The scenarios ----

/// Nothing is ever queued, and the request comes when the child waits for it: every wait is one.
fn one_client_after_the_other(world: &mut World) {
    guard(world, &["--children", "4"], [5, 55], one_by_one);
}

/// A connection wakes one child and not the others.
fn one_client_and_fifty_idle_children(world: &mut World) {
    guard(world, &["--children", "50"], [2, 22], one_by_one);
}

/// All connections are there, and their requests, before the children begin.
/// (Where an attempt to accept may be a wait, one that takes its time looks like one, and is followed by a look:
/// slowed down by the tracing, that is each of them. That fast ones are followed by none is asked in
/// `src/core/accept/backlog_streak.rs`.)
fn a_queue_that_is_never_empty(world: &mut World) {
    guard(world, &["--children", "4"], [50, 250], queued);
}

/// The same where children take turns.
fn a_queue_that_is_never_empty_in_turn(world: &mut World) {
    guard(world, &["--children", "4", "--in-turn"], [50, 250], queued);
}

type Load = fn(&mut World, &Server, usize, usize);

fn guard(world: &mut World, arguments: &[&str], connections: [usize; 2], load: Load) {
    if strace::is_missing() {
        return;
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return eprintln!("skipped: recorded on x86-64, and calls have other names elsewhere");
    }
    world.deadline(Duration::from_secs(180));
    let [few, many] = connections.map(|connections| run(world, arguments, connections, load));
    let counts = many.per_connection(&few, connections[1] - connections[0]);
    let name = world.name().to_owned();
    compare(&name, &counts);
}

fn run(world: &mut World, arguments: &[&str], connections: usize, load: Load) -> Counts {
    let mut traced = world.gate("trace");
    let server = world.spawn("serve", arguments);
    let children = arguments[1].parse().unwrap();
    let parent = traced.reached(SOON);
    let trace = Trace::attach(world, parent, &["-f".to_owned()]);
    traced.open();
    load(world, &server, children, connections);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    Counts::of(&trace.finish(), parent)
}

fn one_by_one(_: &mut World, server: &Server, children: usize, connections: usize) {
    let address = server.address();
    server.expect_children(children);
    quiet(server);
    for _ in 0..connections {
        // The request comes with the connection, so that the child does not wait for it, or not for so long
        // that it would poll.
        let mut client = requesting(&address);
        assert_eq!(client.read_line(), "a request");
        client.gone();
        drop(client);
        quiet(server);
    }
}

fn queued(world: &mut World, server: &Server, children: usize, connections: usize) {
    let mut start = world.gate("start");
    let address = server.address();
    for _ in 0..children {
        start.reached(SOON);
    }
    quiet(server);
    let clients: Vec<Client> = (0..connections).map(|_| requesting(&address)).collect();
    start.open();
    for mut client in clients {
        assert_eq!(client.read_line(), "a request");
        client.gone();
    }
    quiet(server);
}

fn requesting(address: &Address) -> Client {
    let mut client = connect(address);
    client.send_line("a request");
    client
}

/// Waits until parent and children sleep and have slept for longer than the parent ever waits to
/// collect words, two milliseconds. A process that has something to do is runnable, or stopped by
/// strace, however slow the machine is.
fn quiet(server: &Server) {
    const LONGER: Duration = Duration::from_millis(4);
    let asleep = || {
        let mut pids = server.children();
        pids.push(server.pid());
        let all: Option<Vec<_>> = pids.into_iter().map(sleeps_since).collect();
        all
    };
    until("parent and children to have nothing to do", SOON, || {
        let before = asleep()?;
        pause(LONGER);
        (asleep()? == before).then_some(())
    });
}

/// How often the process has gone to sleep, if it sleeps.
fn sleeps_since(pid: u32) -> Option<String> {
    if processes::state(pid)? != 'S' {
        return None;
    }
    let mut status = String::new();
    let mut file = std::fs::File::open(format!("/proc/{pid}/status")).ok()?;
    file.read_to_string(&mut status).ok()?;
    let switches = status.lines().find(|line| line.starts_with("voluntary_"))?;
    Some(format!("{pid} {switches}"))
}
