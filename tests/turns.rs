//! Which of the idle children gets the next connection: the oldest, or the one that has been idle for
//! the longest time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod support;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use prefork_server::servers::{AcceptOrder, Conn, Stream};
use prefork_server::{ChildServer, PreFork, TcpServer, UnixServer};
use support::processes::{self, waits_in_accept, waits_in_epoll};
use support::{
    Address, Args, Server, Signal, World, connect, port_is_free, programs, scenarios, try_connect,
    until,
};

const SOON: Duration = Duration::from_secs(20);
const CHILDREN: usize = 8;

fn main() -> ExitCode {
    support::main(
        programs![serve],
        scenarios![
            children_take_turns,
            children_take_turns_on_a_unix_socket,
            few_children_without_a_limit_take_turns_unasked,
            the_oldest_goes_first,
            the_oldest_goes_first_where_there_is_a_limit,
            who_takes_turns_says_ack_and_leaves_the_line_in_a_lull,
            a_child_in_line_leaves_when_told_to,
            f01_children_in_line_go_with_the_parent,
            who_is_busy_for_long_is_not_asked,
            who_has_found_a_queue_waits_in_accept_for_a_moment,
        ],
    )
}

// The program.

fn serve(args: Args) -> Result<(), Box<dyn Error>> {
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

/// How many of a hundred connections, so many at a time, each child has served.
fn shares(address: &Address, at_a_time: usize) -> BTreeMap<u32, usize> {
    let some = || (0..100 / at_a_time).map(|_| connect(address).ask("who?").parse().unwrap());
    let pids: Vec<u32> = thread::scope(|scope| {
        let clients: Vec<_> = (0..at_a_time)
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
        let shares = shares(address, 2);
        let least = shares.values().min().copied().unwrap_or(0);
        shares.len() == CHILDREN && least >= 100 / CHILDREN * 3 / 4
    };
    until("the children to take turns", SOON, || {
        (take_turns() && take_turns()).then_some(())
    });
}

/// Goes on until three children have had nearly everything. (While one of them brings a connection to
/// its end the next has come.)
fn until_the_oldest_have_all(address: &Address) {
    until("the oldest to serve", SOON, || {
        let mut shares: Vec<_> = shares(address, 1).into_values().collect();
        shares.sort_unstable();
        let most: usize = shares.iter().rev().take(3).sum();
        (most >= 90).then_some(())
    });
}

/// A server whose children have all come, and where it listens.
fn pool(world: &mut World, arguments: &[&str]) -> (Server, Address) {
    let server = world.spawn("serve", arguments);
    let address = server.address();
    server.expect_children(CHILDREN);
    (server, address)
}

fn stop(server: &Server) -> String {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    server.stdout()
}

// The scenarios.

/// Without the wait in accept (`WaitMode::new` always `Epoll`) a few children have it all.
fn children_take_turns(world: &mut World) {
    let (server, address) = pool(world, &["--order", "in-turn"]);
    until_they_take_turns(&address);
    stop(&server);
}

fn children_take_turns_on_a_unix_socket(world: &mut World) {
    let path = world.tempdir().join("socket");
    let path = path.to_str().unwrap();
    let (server, address) = pool(world, &["--order", "in-turn", "--unix", path]);
    until_they_take_turns(&address);
    stop(&server);
}

fn few_children_without_a_limit_take_turns_unasked(world: &mut World) {
    let (server, address) = pool(world, &[]);
    until_they_take_turns(&address);
    stop(&server);
}

fn the_oldest_goes_first(world: &mut World) {
    let (server, address) = pool(world, &["--order", "oldest-first"]);
    until_the_oldest_have_all(&address);
    stop(&server);
}

/// Children that take turns would all reach it at the same time.
fn the_oldest_goes_first_where_there_is_a_limit(world: &mut World) {
    let (server, address) = pool(world, &["--max-requests", "1000000"]);
    until_the_oldest_have_all(&address);
    stop(&server);
}

/// With ACKs due every fifty milliseconds, and nobody timed out in two seconds of taking turns; then each
/// of the children goes where it does not wake up for nothing.
fn who_takes_turns_says_ack_and_leaves_the_line_in_a_lull(world: &mut World) {
    let server = world.spawn("serve", &["--order", "in-turn", "--timeout", "1000"]);
    let address = server.address();
    let before = server.expect_children(CHILDREN);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        until_they_take_turns(&address);
    }
    until("a lull", SOON, || {
        let waits = |&child: &u32| waits_in_epoll(child);
        server.children().iter().all(waits).then_some(())
    });
    assert_eq!(server.children(), before, "nobody was timed out");
    stop(&server);
}

/// Every one of them is told to stop while clients come without a pause, and they wait in accept.
fn a_child_in_line_leaves_when_told_to(world: &mut World) {
    let server = world.spawn("serve", &["--order", "in-turn"]);
    let address = server.address();
    let children = server.expect_children(CHILDREN);
    until_they_take_turns(&address);
    for child in children {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // So many that a turn comes before a child gives up waiting for it, on a busy machine too.
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            connect(&address).ask("who?");
                        }
                    })
                })
                .collect();
            let is_refused = || clients.iter().any(|client| client.is_finished());
            until("it to wait in accept", SOON, || {
                (is_refused() || waits_in_accept(child)).then_some(())
            });
            kill(Pid::from_raw(child.cast_signed()), Signal::SIGTERM).unwrap();
            until("it to leave", SOON, || {
                (is_refused() || !processes::is_alive(child)).then_some(())
            });
            over.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().expect("every client to be answered");
            }
        });
        server.expect_children(CHILDREN);
    }
    stop(&server);
}

/// They are not where they would see the death watch: the kernel's signal ends accept(2), and a word
/// that nobody reads ends the rest.
fn f01_children_in_line_go_with_the_parent(world: &mut World) {
    let (server, address) = pool(world, &["--order", "in-turn"]);
    until_they_take_turns(&address);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Refused, or cut off: there is no server any more.
                if let Ok(mut client) = try_connect(&address) {
                    let _ = client.try_send_line("who?");
                    let _ = client.try_read_line();
                }
            }
        });
        server.kill9();
        until("all children to go", SOON, || {
            world.orphans().is_empty().then_some(())
        });
        over.store(true, Ordering::Relaxed);
    });
    assert!(port_is_free(&address));
}

/// An epoll that has the listener in it is asked for each connection, whether its child waits or not: with
/// two hundred busy children that took a tenth of the rate.
///
/// A child gets out of the way when its client is slow, when the last connection took long, and when it has
/// found many in a row; and is back when it waits. (Each of the three was taken out once, and its part
/// of this failed.)
fn who_is_busy_for_long_is_not_asked(world: &mut World) {
    if !cfg!(target_os = "linux") {
        return eprintln!("skipped: elsewhere children have no epoll");
    }
    let server = world.spawn("serve", &["--order", "oldest-first"]);
    let address = server.address();
    let children = server.expect_children(CHILDREN);
    let all_are_asked = || {
        until("all children to wait", SOON, || {
            let waits = |&child: &u32| waits_in_epoll(child) && is_asked(child);
            children.iter().all(waits).then_some(())
        });
    };
    let is_not_asked = |what: &str, child| {
        until(what, SOON, || (!is_asked(child)).then_some(()));
    };
    all_are_asked();

    let mut slow = connect(&address);
    let child: u32 = slow.ask("who?").parse().unwrap();
    is_not_asked("a child with a slow client to get out of the way", child);
    assert_eq!(slow.ask("who?"), child.to_string());
    drop(slow);
    all_are_asked();

    // The last one that this child has had was slow. It goes first again, when its elders are busy.
    let mut others = Vec::new();
    let mut next = loop {
        let mut client = connect(&address);
        let by: u32 = client.ask("work").parse().unwrap();
        if by == child {
            break client;
        }
        others.push(client);
    };
    assert!(!is_asked(child), "before it began to work");
    next.send_line("done");
    drop((next, others));
    all_are_asked();

    // Stopped, so that they find a queue.
    for &child in &children {
        kill(Pid::from_raw(child.cast_signed()), Signal::SIGSTOP).unwrap();
    }
    let mut queue: Vec<_> = (0..40).map(|_| connect(&address)).collect();
    for client in &mut queue {
        client.send_line("work");
    }
    let child = children[0];
    kill(Pid::from_raw(child.cast_signed()), Signal::SIGCONT).unwrap();
    for client in &mut queue[..20] {
        assert_eq!(client.read_line(), child.to_string());
        client.send_line("done");
        client.close_write();
    }
    assert_eq!(queue[20].read_line(), child.to_string());
    assert!(!is_asked(child), "there is always another one");
    for &child in &children {
        kill(Pid::from_raw(child.cast_signed()), Signal::SIGCONT).unwrap();
    }
    drop(queue);
    all_are_asked();
    stop(&server);
}

/// Woken there it is off the listener's list at once, and in an epoll only when it has run: with two hundred
/// that share a core the kernel went through dozens of them for each connection. (With handlers that are fast,
/// whose child does not look before it accepts, and slow ones, whose child does.)
fn who_has_found_a_queue_waits_in_accept_for_a_moment(world: &mut World) {
    if !cfg!(target_os = "linux") {
        return eprintln!("skipped: elsewhere no child waits in accept");
    }
    let (server, address) = pool(world, &["--order", "oldest-first"]);
    let children = server.children();
    let all_wait_outside = || {
        until("all children to wait outside", SOON, || {
            let waits = |&child: &u32| waits_in_epoll(child) && is_asked(child);
            children.iter().all(waits).then_some(())
        });
    };
    all_wait_outside();
    let signal_to = |child: u32, signal| kill(Pid::from_raw(child.cast_signed()), signal).unwrap();
    for &child in &children[1..] {
        signal_to(child, Signal::SIGSTOP);
    }
    let child = children[0];
    let waits_in_accept_after = |question: &str| {
        signal_to(child, Signal::SIGSTOP);
        let mut queue: Vec<_> = (0..20).map(|_| connect(&address)).collect();
        for client in &mut queue {
            client.send_line(question);
            client.close_write();
        }
        signal_to(child, Signal::SIGCONT);
        for client in &mut queue {
            assert_eq!(client.read_line(), child.to_string());
        }
        let moment = Instant::now();
        let mut waited = false;
        while !waited && moment.elapsed() < Duration::from_millis(20) {
            waited = waits_in_accept(child) && !is_asked(child) && waits_in_accept(child);
        }
        waited
    };
    for question in ["who?", "slowly"] {
        until("a child to wait in accept after a queue", SOON, || {
            waits_in_accept_after(question).then_some(())
        });
    }
    for &child in &children[1..] {
        signal_to(child, Signal::SIGCONT);
    }
    all_wait_outside();
    stop(&server);
}

/// Whether an epoll of `pid` has a socket in it. Its own descriptors are a bell and a pipe.
fn is_asked(pid: u32) -> bool {
    let descriptors = processes::descriptors(pid);
    let epolls = descriptors
        .iter()
        .filter(|(_, to)| to.contains("eventpoll"));
    let watched: Vec<i32> = epolls
        .flat_map(|(epoll, _)| {
            let path = format!("/proc/{pid}/fdinfo/{epoll}");
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let targets = text.lines().filter_map(|line| line.strip_prefix("tfd:"));
            let number = |rest: &str| rest.split_whitespace().next()?.parse().ok();
            targets.filter_map(number).collect::<Vec<i32>>()
        })
        .collect();
    let is_socket = |(fd, to): &(i32, String)| watched.contains(fd) && to.starts_with("socket:");
    descriptors.iter().any(is_socket)
}
