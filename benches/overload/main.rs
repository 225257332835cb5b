//! More clients than can be served: 20 children take 10 ms for each, clients come at a fixed rate
//! whatever becomes of the others, and give up after half a second. How many get their answer in
//! time, how fast, and how soon all is well when the load has dropped. Draws docs/img/overload.svg.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

mod brake;
#[path = "../growth/chart.rs"]
mod chart;
mod clients;
#[path = "../common/mod.rs"]
mod common;

use chart::{Line, Panel, Scale};
use clients::{Client, Fate, Outcome, PATIENCE};
use common::{
    actor::Actor,
    from_env, list_from_env,
    peers::{self, Peer, Pool, Task},
    pick,
    stats::{quantile, table},
    wire,
};
use prefork_server::{
    PreFork, TcpServer,
    servers::{Reply, TcpConn},
};
use std::{
    io::{self, Read, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

const CHILDREN: usize = 20;
const WORK: Duration = Duration::from_millis(10);
const MAX_AGE: Duration = Duration::from_millis(100);
/// How the server decides: with a controlled delay and a reserved child, with a controlled delay, with
/// a plain limit, or in order.
const RULES: [&str; 4] = ["shedder", "controlled", "plain-limit", "in-order"];
const BACKLOGS: [usize; 2] = [128, 4096];

fn main() {
    common::start(modes, |role| match role {
        ["server", rules, backlog] => serve(rules, backlog.parse().expect("a number")),
        ["refuser"] => refuse(),
        ["brake", which] => brake::serve(which),
        _ => panic!("no role {role:?}"),
    });
}

/// Runs what `BENCH_MODES` names: `load`, `brake`.
fn modes() {
    for mode in list_from_env("BENCH_MODES", &["load".to_owned(), "brake".to_owned()]) {
        match mode.as_str() {
            "load" => bench(),
            "brake" => brake::bench(),
            _ => panic!("no mode {mode}"),
        }
    }
}

// The server.

fn serve(rules: &str, backlog: i32) {
    let mut server = TcpServer::new(work).max_requests(0).backlog(backlog);
    if rules != "in-order" {
        let busy = Reply::http_503(Duration::from_secs(1)).into_hook();
        server = server.max_queue_age(MAX_AGE).overloaded(busy);
    }
    if rules == "plain-limit" {
        server = server.queue_target(Duration::ZERO);
    }
    let mut prefork = PreFork::builder(server)
        .start_servers(children(rules))
        .max_spare_servers(CHILDREN)
        .max_clients(children(rules))
        .reserved_shedder(rules == "shedder")
        .start()
        .expect("a server");
    println!("{}", prefork.server().local_addrs()[0].port());
    prefork.run().expect("a run");
}

/// Two children that refuse everybody at once.
fn refuse() {
    let busy = Reply::http_503(Duration::from_secs(1));
    let server = TcpServer::new(move |conn: TcpConn| busy.send(&conn));
    let mut prefork = PreFork::builder(server.max_requests(0).backlog(4096))
        .start_servers(2)
        .max_clients(2)
        .start()
        .expect("a server");
    println!("{}", prefork.server().local_addrs()[0].port());
    prefork.run().expect("a run");
}

/// All children serve but the reserved one.
fn children(rules: &str) -> usize {
    CHILDREN + usize::from(rules == "shedder")
}

fn work(conn: TcpConn) -> io::Result<()> {
    let mut request = [0; 1024];
    let mut length = 0;
    while !request[..length].ends_with(b"\r\n\r\n") {
        match (&conn).read(&mut request[length..])? {
            0 => return Ok(()),
            count => length += count,
        }
    }
    thread::sleep(WORK);
    (&conn).write_all(wire::LAST_ANSWER)
}

/// A server that is under test.
#[derive(Clone, Copy)]
enum Subject {
    Ours(&'static str),
    Peer(&'static Peer),
}

/// The servers of others whose children serve one client each.
fn rivals() -> Vec<&'static Peer> {
    let preforks = |peer: &&Peer| !["nginx", "ours-wsgi", "ours-psgi"].contains(&peer.name);
    peers::wanted().into_iter().filter(preforks).collect()
}

/// One that runs; it ends when this is dropped.
enum Running {
    Ours(Actor),
    Peer(peers::Running),
}

impl Subject {
    /// Ours by each rule, and the servers of others that are installed and have children that serve
    /// one client each.
    fn all() -> Vec<Self> {
        let ours = RULES.map(Self::Ours);
        let peers = rivals();
        let names = list_from_env::<String>("BENCH_SERVERS", &[]);
        let wanted =
            |subject: &Self| names.is_empty() || names.iter().any(|it| it == subject.name());
        let all = ours.into_iter().chain(peers.into_iter().map(Self::Peer));
        all.filter(wanted).collect()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Ours(rules) => rules,
            Self::Peer(peer) => peer.name,
        }
    }

    /// How it is called where it stands beside others.
    fn title(&self) -> String {
        match self {
            Self::Ours("shedder") => "ours, reserved child".to_owned(),
            Self::Ours("controlled") => "ours, limit of age".to_owned(),
            Self::Ours("plain-limit") => "ours, plain limit".to_owned(),
            Self::Ours(_) => "ours, in order".to_owned(),
            Self::Peer(peer) => peer.name.to_owned(),
        }
    }

    /// Starts it, unless it cannot be, and returns its port.
    fn start(self, backlog: usize) -> Result<(Running, u16), String> {
        match self {
            Self::Ours(rules) => {
                let mut actor = Actor::spawn(&["server", rules, &backlog.to_string()]);
                let port = actor.line().parse().expect("a port");
                actor.settle(children(rules));
                Ok((Running::Ours(actor), port))
            }
            Self::Peer(peer) => {
                let work = WORK;
                let running =
                    peer.start_for(Task { work, backlog }, Pool::Fixed(CHILDREN), false)?;
                let port = running.port();
                Ok((Running::Peer(running), port))
            }
        }
    }
}

impl Running {
    fn end(self) {
        match self {
            Self::Ours(actor) => drop(actor.terminate()),
            Self::Peer(running) => drop(running),
        }
    }
}

// The measurement.

/// One rate of clients, and what became of them.
struct Row {
    load: f64,
    offered: f64,
    good: f64,
    p50: f64,
    p99: f64,
    p99_at_server: f64,
    refused: f64,
    recovery: f64,
    late: f64,
}

fn bench() {
    let backlogs = list_from_env("BENCH_BACKLOGS", &BACKLOGS);
    println!("the clients: at most {:.0} connections a second", ceiling());
    peers::introduce_these(&rivals());
    let drawn: Vec<_> = backlogs.iter().map(|backlog| contest(*backlog)).collect();
    if let Ok([short, long]) = <[Vec<Line>; 2]>::try_from(drawn) {
        draw(short, long);
    }
}

/// All servers with this backlog, one after the other.
fn contest(backlog: usize) -> Vec<Line> {
    let loads: Vec<f64> = list_from_env("BENCH_LOADS", &[0.5, 1.0, 1.5, 3.0, 10.0]);
    let mut lines = Vec::new();
    for subject in Subject::all() {
        match rows(subject, backlog, &loads) {
            Ok((capacity, rows)) => {
                print(subject, backlog, capacity, &rows);
                let share = |row: &Row| (row.load, 100.0 * row.good / capacity);
                lines.push(Line {
                    name: subject.title(),
                    points: rows.iter().map(share).collect(),
                });
            }
            Err(reason) => println!("\n{}, backlog {backlog}: {reason}", subject.title()),
        }
    }
    lines
}

/// The capacity of a server and its figures for each load, which is that many times the capacity.
fn rows(subject: Subject, backlog: usize, loads: &[f64]) -> Result<(f64, Vec<Row>), String> {
    let capacity = capacity(subject)?;
    let rows = loads
        .iter()
        .map(|load| measure_undisturbed(subject, backlog, *load, capacity));
    Ok((capacity, rows.collect::<Result<_, _>>()?))
}

fn time() -> Duration {
    Duration::from_millis(from_env("BENCH_MILLIS", pick(6_000, 2_000)))
}

/// How many a second are served when twice as many clients as children wait for each other's turn: the
/// most of three times, as other work makes them fewer.
fn capacity(subject: Subject) -> Result<f64, String> {
    let (running, port) = subject.start(128)?;
    let time = time() / 3;
    let answers = (0..3).map(|_| clients::in_turn(port, 2 * CHILDREN, time));
    let most = answers.max().unwrap_or(0);
    running.end();
    Ok(most as f64 / time.as_secs_f64())
}

/// How many connections a second the clients make when a server answers each at once with a 503.
fn ceiling() -> f64 {
    const MANY: f64 = 100_000.0;
    let mut actor = Actor::spawn(&["refuser"]);
    let port = actor.line().parse().expect("a port");
    actor.settle(2);
    let time = time() / 6;
    let begin = Instant::now();
    let outcome = clients::run(port, &[(MANY, time)]);
    let took = begin.elapsed();
    actor.terminate();
    outcome.clients.len() as f64 / took.as_secs_f64()
}

/// Measures again, twice at the most, where the clients were late: something else had the
/// processors. Returns the figures of the time at which they were the least late.
fn measure_undisturbed(
    subject: Subject,
    backlog: usize,
    load: f64,
    capacity: f64,
) -> Result<Row, String> {
    const LATE: f64 = 50.0;
    let mut best = measure(subject, backlog, load, capacity)?;
    for _ in 0..2 {
        if best.late > LATE {
            let again = measure(subject, backlog, load, capacity)?;
            best = if again.late < best.late { again } else { best };
        }
    }
    Ok(best)
}

fn measure(subject: Subject, backlog: usize, load: f64, capacity: f64) -> Result<Row, String> {
    let (running, port) = subject.start(backlog)?;
    let time = time();
    // Then half of what it can serve.
    let phases = [(load * capacity, time), (capacity / 2.0, time / 2)];
    let outcome = clients::run(port, &phases);
    running.end();
    Ok(row(load, time, &outcome))
}

/// The figures of the second half of the load, when the queue has become what it becomes, and of the
/// time after.
fn row(load: f64, time: Duration, outcome: &Outcome) -> Row {
    let clients: &[Client] = &outcome.clients;
    let during: Vec<_> = clients
        .iter()
        .filter(|client| (time / 2..time).contains(&client.came))
        .collect();
    let seconds = time.as_secs_f64() / 2.0;
    let of = |fate| during.iter().filter(move |client| client.fate == fate);
    let waits = |wait: fn(&Client) -> Duration| -> Vec<f64> {
        let answered = of(Fate::Answered);
        answered
            .map(|client| wait(client).as_secs_f64() * 1e3)
            .collect()
    };
    let waited = waits(|client| client.waited);
    let after = clients.iter().filter(|client| client.came >= time);
    let last_in_vain = after.filter(|client| client.fate != Fate::Answered);
    let recovery = last_in_vain.map(|client| client.came + PATIENCE.min(client.waited));
    let recovery = recovery
        .max()
        .map_or(Duration::ZERO, |last| last.saturating_sub(time));
    Row {
        load,
        offered: during.len() as f64 / seconds,
        good: waited.len() as f64 / seconds,
        p50: quantile_or_none(&waited, 0.5),
        p99: quantile_or_none(&waited, 0.99),
        p99_at_server: quantile_or_none(&waits(|client| client.waited_at_server), 0.99),
        refused: of(Fate::Refused).count() as f64 / seconds,
        recovery: recovery.as_secs_f64() * 1e3,
        late: outcome.late.as_secs_f64() * 1e3,
    }
}

fn quantile_or_none(values: &[f64], share: f64) -> f64 {
    if values.is_empty() {
        f64::NAN
    } else {
        quantile(values, share)
    }
}

fn print(subject: Subject, backlog: usize, capacity: f64, rows: &[Row]) {
    let head = [
        "load",
        "came/s",
        "answered in time/s",
        "% of capacity",
        "p50 ms",
        "p99 ms",
        "from its connect ms",
        "refused/s",
        "well again after ms",
        "clients late by ms",
    ];
    let cells = |row: &Row| {
        vec![
            format!("{}×", row.load),
            format!("{:.0}", row.offered),
            format!("{:.0}", row.good),
            format!("{:.1}", 100.0 * row.good / capacity),
            format!("{:.0}", row.p50),
            format!("{:.0}", row.p99),
            format!("{:.0}", row.p99_at_server),
            format!("{:.0}", row.refused),
            format!("{:.0}", row.recovery),
            format!("{:.0}", row.late),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    let title = subject.title();
    let title = format!("{title}, backlog {backlog}, capacity {capacity:.0} a second");
    table(&title, &head, &rows);
}

fn draw(short: Vec<Line>, long: Vec<Line>) {
    let panel = |title, lines| Panel {
        title,
        unit: "answered in time, % of capacity",
        scale: Scale::Linear,
        lines,
    };
    let panels = [panel("backlog 128", short), panel("backlog 4,096", long)];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/img/overload.svg");
    let caption = "20 children × 10 ms; clients give up after 500 ms";
    chart::draw(&path, caption, "load, times the capacity", &panels).expect("a picture");
    println!("\ndrawn to docs/img/overload.svg");
}
