//! The reserved child: it turns away who has waited for too long while all others are busy, serves
//! nobody, is there before it is needed, and comes again.

use std::fs;
use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use prefork_server::servers::Reply;
use prefork_server::{ChildId, Error, Event, Monitor, Observer, PreFork, State, TcpServer};

use crate::subject::{Held, announce, converse, ended, ends_well, log_warnings, send, who};
use crate::support::{
    Address, Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, programs,
    scenarios, until,
};

pub const PROGRAMS: Programs = programs![reserving];

pub const SCENARIOS: Scenarios = scenarios![
    who_waits_for_too_long_is_turned_away_though_all_are_busy,
    who_has_not_waited_for_too_long_is_served_by_another,
    the_reserved_child_sleeps_until_all_others_are_busy,
    the_reserved_child_is_there_again_when_it_was_killed,
    a_reload_replaces_the_reserved_child_too,
    the_reserved_child_comes_with_the_load_and_goes_with_it,
];

/// Says which child is the reserved one, and when it has gone.
#[derive(Default)]
struct Reserved(Option<ChildId>);

impl Observer for Reserved {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        match event {
            Event::Forked { child, .. } => {
                let child = monitor.child(*child).expect("a child that was forked");
                if child.state() == State::Reserved {
                    self.0 = Some(child.id());
                    println!("reserved {}", child.pid());
                }
            }
            Event::Exited { child, death, .. } if self.0 == Some(child.id()) => {
                println!("gone {}: {:?}", child.pid(), death.cause());
            }
            _ => {}
        }
    }
}

fn reserving(args: Args) -> ExitCode {
    log_warnings();
    ended(serve(&args))
}

fn serve(args: &Args) -> Result<(), Error> {
    let age = args.parsed("--max-age").expect("an age");
    let server = TcpServer::new(converse)
        .max_requests(0)
        .max_queue_age(Duration::from_millis(age))
        .overloaded(Reply::canned(&b"busy\n"[..]).into_hook());
    let children = args.parsed("--max-clients").expect("a number");
    let mut prefork = PreFork::builder(server)
        .observe(Reserved::default())
        .start_servers(args.parsed("--start").unwrap_or(children))
        .max_spare_servers(args.parsed("--max-spare").unwrap_or(children))
        .cull_after(Duration::from_millis(100))
        .max_clients(children)
        .reserved_shedder(true)
        .start()?;
    announce(&prefork);
    println!("{}", prefork.run()?);
    Ok(())
}

// What the scenarios share.

/// The reserved children that there have been.
fn reserved(server: &Server) -> Vec<u32> {
    let text = server.stdout();
    let pids = text
        .lines()
        .filter_map(|line| line.strip_prefix("reserved "));
    pids.map(|pid| pid.parse().unwrap()).collect()
}

fn expect_reserved(server: &Server, count: usize) -> u32 {
    until("a reserved child", SOON, || {
        let pids = reserved(server);
        (pids.len() == count).then(|| pids[count - 1])
    })
}

/// A server with a place for each of `others`, and one that is reserved.
fn full(world: &mut World, max_age: &str, others: usize) -> (Server, u32, Vec<Held>) {
    let children = (others + 1).to_string();
    let server = world.spawn(
        "reserving",
        &["--max-age", max_age, "--max-clients", &children],
    );
    server.expect_children(others + 1);
    let pid = expect_reserved(&server, 1);
    let held = hold(&server.address(), others);
    assert!(held.iter().all(|held| held.pid != pid), "it has served");
    (server, pid, held)
}

/// As many clients as that, each in the hands of a child. A busy machine may take so long to accept
/// one that it is too old itself.
fn hold(address: &Address, count: usize) -> Vec<Held> {
    let held = |_| {
        until("a client to be served", SOON, || {
            let mut client = connect(address);
            client.try_send_line("who").ok()?;
            let line = client.try_read_line().ok()??;
            let pid = line.strip_suffix(" who")?.parse().ok()?;
            Some(Held { client, pid })
        })
    };
    (0..count).map(held).collect()
}

/// Waits for the answer of a client that is turned away.
fn turned_away(client: &mut Client) {
    client.timeout(SOON).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "busy\n");
}

/// How often a process has slept.
fn sleeps(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

// The scenarios.

/// No child that serves takes anything from the queue, and yet no client waits much longer than it
/// may, nor is it sent away much sooner.
fn who_waits_for_too_long_is_turned_away_though_all_are_busy(world: &mut World) {
    let (server, _, mut held) = full(world, "1000", 2);
    let address = server.address();
    for _ in 0..3 {
        let start = Instant::now();
        let mut clients = [(); 5].map(|()| connect(&address));
        turned_away(&mut clients[0]);
        let took = start.elapsed();
        // Three quarters of twice the target, which is a tenth: 150 ms, and from ticks of the kernel.
        assert!(took >= Duration::from_millis(140), "{took:?}");
        clients[1..].iter_mut().for_each(turned_away);
    }
    held.iter_mut().for_each(Held::is_served);
    drop(held);
    ends_well(&server);
    let report = server.stdout();
    let all = "; 15 connections refused: it was queued for too long\n";
    assert!(report.ends_with(all), "{report}");
}

/// It takes no client that has time left: the next child that is free does.
fn who_has_not_waited_for_too_long_is_served_by_another(world: &mut World) {
    let (server, reserved, mut held) = full(world, "60000", 2);
    let mut waiting: Vec<_> = (0..10).map(|_| connect(&server.address())).collect();
    assert!(waiting[0].is_silent(Duration::from_millis(500)));
    let freed = held.remove(0).pid;
    for client in &mut waiting {
        assert_eq!(who(client), freed);
        client.close_write();
        client.eof();
    }
    assert_ne!(reserved, freed);
    drop((held, waiting));
    ends_well(&server);
    assert!(!server.stdout().contains("refused"), "{}", server.stdout());
}

/// It wakes for no connection and by no timer, however many are served meanwhile.
fn the_reserved_child_sleeps_until_all_others_are_busy(world: &mut World) {
    let (server, reserved, mut held) = full(world, "60000", 5);
    held.truncate(1);
    let before = until("the reserved child to sleep", SOON, || {
        let before = sleeps(reserved);
        held[0].client.is_silent(Duration::from_millis(100));
        (sleeps(reserved) == before).then_some(before)
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let mut client = connect(&server.address());
        who(&mut client);
        // Until its child is free: three that have yet to see the ends of their clients are busy.
        client.close_write();
        client.eof();
    }
    assert_eq!(sleeps(reserved), before);
    drop(held);
    ends_well(&server);
}

/// The last place is its own: no other child is forked in it.
fn the_reserved_child_is_there_again_when_it_was_killed(world: &mut World) {
    let (server, first, held) = full(world, "200", 2);
    turned_away(&mut connect(&server.address()));
    send(first, Signal::SIGKILL);
    let second = expect_reserved(&server, 2);
    assert_ne!(first, second);
    turned_away(&mut connect(&server.address()));
    assert_eq!(server.expect_children(3).len(), 3);
    drop(held);
    ends_well(&server);
}

/// It has no client and so no successor: it goes and comes again, while the others are replaced.
fn a_reload_replaces_the_reserved_child_too(world: &mut World) {
    let (server, first, held) = full(world, "200", 3);
    let old: Vec<u32> = held.iter().map(|held| held.pid).collect();
    server.signal(Signal::SIGHUP);
    let second = expect_reserved(&server, 2);
    server.expect_stdout("the end of the first", |text| {
        text.contains(&format!("gone {first}: Reloaded"))
    });
    drop(held);
    let held = until("three new children", SOON, || {
        let held = hold(&server.address(), 3);
        let is_new = |held: &Held| ![first, second].contains(&held.pid) && !old.contains(&held.pid);
        held.iter().all(is_new).then_some(held)
    });
    turned_away(&mut connect(&server.address()));
    assert_eq!(reserved(&server), [first, second]);
    drop(held);
    ends_well(&server);
}

/// Eight children at most: the reserved one is forked with the sixth, and stopped when there are
/// fewer than four others.
fn the_reserved_child_comes_with_the_load_and_goes_with_it(world: &mut World) {
    let flags = ["--max-age", "200", "--max-clients", "8"];
    let few = ["--start", "1", "--max-spare", "2"];
    let server = world.spawn("reserving", &[&flags[..], &few].concat());
    let address = server.address();
    let mut held = hold(&address, 3);
    assert!(server.children().len() < 6 && reserved(&server).is_empty());
    held.extend(hold(&address, 4));
    let pid = expect_reserved(&server, 1);
    assert_eq!(server.expect_children(8).len(), 8);
    turned_away(&mut connect(&address));
    drop(held);
    server.expect_stdout("the end of the reserved child", |text| {
        text.contains(&format!("gone {pid}: Culled"))
    });
    let held = hold(&address, 7);
    assert_ne!(expect_reserved(&server, 2), pid);
    drop(held);
    ends_well(&server);
}
