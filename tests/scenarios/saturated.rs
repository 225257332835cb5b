//! A pool that is full: what it tells, and whom its reserved child turns away, while children are
//! recycled under load, at several sockets, and at sockets that tell no age.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prefork_server::servers::conn::{Conn, Stream};
use prefork_server::{
    ChildServer, DefaultHooks, Error, Event, Monitor, Observer, PreFork, State, TcpServer,
    UnixServer,
};

use crate::subject::{count, ended, ends_well, log_warnings, millis};
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, World, connect, pause, programs, scenarios,
    try_connect, until,
};

pub const PROGRAMS: Programs = programs![crowded];

pub const SCENARIOS: Scenarios = scenarios![
    a_pool_that_recycles_its_children_is_saturated_all_the_same,
    the_reserved_child_turns_away_while_others_are_recycled,
    the_reserved_child_turns_away_at_each_of_two_sockets,
    at_a_unix_socket_no_child_is_reserved,
];

// The program.

/// Works for some time on each client, and says who has served it or turned it away.
fn crowded(args: Args) -> ExitCode {
    log_warnings();
    ended(match args.value("--path") {
        Some(path) => serve_path(&args, path),
        None => serve_ports(&args),
    })
}

fn serve_ports(args: &Args) -> Result<(), Error> {
    let work = millis(args, "--work", 0);
    let mut server = TcpServer::new(move |conn| answer(&conn, work))
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    if args.has("--two") {
        server = server.also("127.0.0.1:0".parse().expect("an address"));
    }
    if let Some(age) = args.parsed("--max-age") {
        let age = Duration::from_millis(age);
        server = server.max_queue_age(age).overloaded(|conn, _| shed(&conn));
    }
    let mut prefork = started(args, server)?;
    for address in prefork.server().local_addrs() {
        println!("listening on {address}");
    }
    println!("{}", prefork.run()?);
    Ok(())
}

fn serve_path(args: &Args, path: &str) -> Result<(), Error> {
    let server = UnixServer::new(path, |conn| {
        answer(&conn, Duration::ZERO)?;
        // Until the client goes.
        (&conn).read(&mut [0]).map(drop)
    });
    let server = server
        .max_requests(0)
        .max_queue_age(millis(args, "--max-age", 0));
    let server = server.overloaded(|conn, _| shed(&conn));
    let mut prefork = started(args, server)?;
    println!("listening on {path}");
    println!("{}", prefork.run()?);
    Ok(())
}

fn started<S: ChildServer>(args: &Args, server: S) -> Result<PreFork<DefaultHooks, S>, Error> {
    let children = count(args, "--children", 4);
    PreFork::builder(server)
        .observe(Told)
        .start_servers(children)
        .max_spare_servers(children)
        .max_clients(children)
        .reserved_shedder(args.has("--reserved"))
        .start()
}

fn answer<S: Stream>(conn: &Conn<S>, work: Duration) -> io::Result<()> {
    pause(work);
    writeln!(&mut &*conn, "served {}", std::process::id())
}

fn shed<S: Stream>(conn: &Conn<S>) -> io::Result<()> {
    writeln!(&mut &*conn, "shed {}", std::process::id())
}

struct Told;

impl Observer for Told {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        match event {
            Event::Saturated { .. } => println!("saturated"),
            Event::Relieved { .. } => println!("relieved"),
            Event::Forked { child, .. } => {
                let child = monitor.child(*child).expect("a child that was forked");
                if child.state() == State::Reserved {
                    println!("reserved {}", child.pid());
                }
            }
            _ => {}
        }
    }
}

// What the scenarios share.

/// Clients that come again as soon as they have their answer.
struct ReturningClients {
    is_over: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl ReturningClients {
    /// They are spread over the addresses.
    fn new(addresses: &[Address], clients: usize) -> Self {
        let mut load = Self {
            is_over: Arc::default(),
            answers: Arc::default(),
            clients: Vec::new(),
        };
        for address in addresses.iter().cycle().take(clients) {
            let address = address.clone();
            let (is_over, answers) = (Arc::clone(&load.is_over), Arc::clone(&load.answers));
            load.clients.push(thread::spawn(move || {
                while !is_over.load(Relaxed) {
                    let answer = answer_of(&address);
                    answers.lock().unwrap().push(answer);
                }
            }));
        }
        load
    }

    /// How many answers begin so, as far as they have come.
    fn count(&self, beginning: &str) -> usize {
        let answers = self.answers.lock().unwrap();
        answers
            .iter()
            .filter(|answer| answer.starts_with(beginning))
            .count()
    }

    fn end(self) -> Vec<String> {
        self.is_over.store(true, Relaxed);
        self.clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
        Arc::into_inner(self.answers).unwrap().into_inner().unwrap()
    }
}

/// What a client is told, in a line; why it is not, otherwise.
fn answer_of(address: &Address) -> String {
    let told = try_connect(address).and_then(|mut client| {
        client.timeout(SOON)?;
        client.try_read_line()
    });
    match told {
        Ok(answer) => answer.unwrap_or_else(|| "closed".to_owned()),
        Err(error) => error.to_string(),
    }
}

fn addresses(server: &Server) -> Vec<Address> {
    let first = server.address();
    let text = server.stdout();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("listening on "));
    let found: Vec<_> = lines.map(Address::parse).collect();
    assert_eq!(
        found.first().map(ToString::to_string),
        Some(first.to_string())
    );
    found
}

/// Runs a load until the reserved child has turned away many. The others turn away whom they find too
/// old as well, and on a busy machine that can be most of them.
#[track_caller]
fn the_reserved_turns_away(server: &Server) {
    let load = ReturningClients::new(&addresses(server), 60);
    until("many turned away by the reserved child", 3 * SOON, || {
        let text = server.stdout();
        let pids = text
            .lines()
            .filter_map(|line| line.strip_prefix("reserved "));
        let turned_away = pids.map(|pid| load.count(&format!("shed {pid}")));
        (turned_away.sum::<usize>() >= 200).then_some(())
    });
    let answers = load.end();
    let strange = answers
        .iter()
        .find(|answer| !answer.starts_with("served ") && !answer.starts_with("shed "));
    assert_eq!(strange, None, "each client has an answer");
}

// The scenarios.

/// A child that starts in the place of another is of no use to those who wait. Each of these children
/// lives for a tenth of a second.
fn a_pool_that_recycles_its_children_is_saturated_all_the_same(world: &mut World) {
    let server = world.spawn("crowded", &["--work", "20", "--max-requests", "5"]);
    let load = ReturningClients::new(&addresses(&server), 12);
    server.expect_stdout("the event", |text| text.contains("saturated\n"));
    server.expect_stderr("the line", |text| {
        text.contains("saturated: all 4 children are busy, ")
    });
    let answers = load.end();
    let strange = answers.iter().find(|answer| !answer.starts_with("served "));
    assert_eq!(strange, None, "each client is served");
    server.expect_stdout("its end", |text| text.contains("relieved\n"));
    ends_well(&server);
    let report = server.stdout();
    assert!(report.contains("; saturated "), "{report}");
}

/// It does its work though those who serve are replaced after three clients.
fn the_reserved_child_turns_away_while_others_are_recycled(world: &mut World) {
    world.deadline(Duration::from_secs(90));
    let few = ["--children", "5", "--work", "20", "--max-requests", "3"];
    let server = world.spawn(
        "crowded",
        &[&few[..], &["--max-age", "400", "--reserved"]].concat(),
    );
    the_reserved_turns_away(&server);
    ends_well(&server);
}

/// It sees each queue for itself: what is taken from one shortens no other.
fn the_reserved_child_turns_away_at_each_of_two_sockets(world: &mut World) {
    world.deadline(Duration::from_secs(90));
    let flags = ["--children", "5", "--work", "20", "--two"];
    let server = world.spawn(
        "crowded",
        &[&flags[..], &["--max-age", "400", "--reserved"]].concat(),
    );
    the_reserved_turns_away(&server);
    ends_well(&server);
}

/// The kernel tells no age of its clients, so none can be turned away: each child serves, and a
/// warning says that the attribute has no effect.
fn at_a_unix_socket_no_child_is_reserved(world: &mut World) {
    let path = world.tempdir().join("s");
    let path = path.to_str().unwrap();
    let flags = [
        "--path",
        path,
        "--children",
        "3",
        "--max-age",
        "50",
        "--reserved",
    ];
    let server = world.spawn("crowded", &flags);
    let address = server.address();
    let mut pids = server.expect_children(3);
    let mut held = [(); 3].map(|()| connect(&address));
    let mut served = held.each_mut().map(|client| {
        let line = client.read_line();
        line.strip_prefix("served ")
            .expect("a service")
            .parse::<u32>()
            .unwrap()
    });
    pids.sort_unstable();
    served.sort_unstable();
    assert_eq!(pids, served);
    let mut waiting = connect(&address);
    assert!(waiting.is_silent(Duration::from_millis(400)));
    drop(held);
    assert!(waiting.read_line().starts_with("served "));
    drop(waiting);
    let text = server.stderr();
    assert_eq!(
        text.matches("reserved_shedder has no effect: ").count(),
        1,
        "{text}"
    );
    ends_well(&server);
    assert!(
        !server.stdout().contains("reserved "),
        "{}",
        server.stdout()
    );
}
