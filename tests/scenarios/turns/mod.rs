//! Which of the idle children gets the next connection: the oldest, or the one that has been idle for
//! the longest time.

pub mod order;
pub mod waiting;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{self};
use std::thread;
use std::time::Duration;

use prefork_server::servers::{AcceptOrder, Conn, Stream};
use prefork_server::{ChildServer, PreFork, TcpServer, UnixServer};

use crate::support::{Address, Args, Programs, Server, Signal, World, connect, programs, until};

pub const PROGRAMS: Programs = programs![in_turns];

const SOON: Duration = Duration::from_secs(20);
const CHILDREN: usize = 8;

// The program.

fn in_turns(args: Args) -> Result<(), Box<dyn Error>> {
    let limit = args.parsed("--max-requests").unwrap_or(0);
    let order = match args.value("--order") {
        Some("in-turn") => Some(AcceptOrder::InTurn),
        Some("oldest-first") => Some(AcceptOrder::OldestFirst),
        _ => None,
    };
    if let Some(path) = args.value("--unix") {
        let mut server = UnixServer::new(path, answer).max_requests(limit);
        if let Some(order) = order {
            server = server.accept_order(order);
        }
        return run(server, &args, |server| server.path().display().to_string());
    }
    let mut server = TcpServer::new(answer).max_requests(limit);
    if let Some(order) = order {
        server = server.accept_order(order);
    }
    run(server, &args, |server| server.local_addrs()[0].to_string())
}

fn run<S: ChildServer>(
    server: S,
    args: &Args,
    address: impl Fn(&S) -> String,
) -> Result<(), Box<dyn Error>> {
    let builder = PreFork::builder(server)
        .start_servers(CHILDREN)
        .max_spare_servers(CHILDREN)
        .max_clients(CHILDREN);
    let mut prefork = match args.parsed("--timeout").map(Duration::from_millis) {
        Some(timeout) => builder.timeout(timeout).start()?,
        None => builder.start()?,
    };
    println!("listening on {}", address(prefork.server()));
    let report = prefork.run()?;
    println!("{report}");
    Ok(())
}

/// Answers each line with the pid of the child, some after a while.
fn answer<S: Stream>(conn: Conn<S>) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        if line? == "slowly" {
            thread::sleep(Duration::from_micros(200));
        }
        writeln!(&conn, "{}", process::id())?;
    }
    Ok(())
}

// Who has served.

/// How many of a hundred connections, two at a time, each child has served.
fn shares(address: &Address) -> BTreeMap<u32, usize> {
    let some = || (0..50).map(|_| connect(address).ask("who?").parse().unwrap());
    let pids: Vec<u32> = thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| some().collect::<Vec<_>>()))
            .collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    let mut shares = BTreeMap::new();
    for pid in pids {
        *shares.entry(pid).or_default() += 1;
    }
    shares
}

/// Goes on until each of the children has had three quarters of its share in a hundred connections, twice
/// in a row. (On a busy machine many children may serve now and then, in whichever order. There are two clients, so
/// that a turn comes before a child has waited for it so long that it leaves the line, there as well.)
fn until_they_take_turns(address: &Address) {
    let take_turns = || {
        let shares = shares(address);
        let least = shares.values().min().copied().unwrap_or(0);
        shares.len() == CHILDREN && least >= 100 / CHILDREN * 3 / 4
    };
    until("the children to take turns", SOON, || {
        (take_turns() && take_turns()).then_some(())
    });
}

/// A server whose children have all come, and where it listens.
fn pool(world: &mut World, arguments: &[&str]) -> (Server, Address) {
    let server = world.spawn("in_turns", arguments);
    let address = server.address();
    server.expect_children(CHILDREN);
    (server, address)
}

fn stop(server: &Server) -> String {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    server.stdout()
}
