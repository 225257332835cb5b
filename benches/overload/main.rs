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

use chart::{Line, Panel};
use clients::{Client, Fate, PATIENCE};
use common::{
    actor::Actor,
    from_env, list_from_env, pick,
    stats::{quantile, table},
};
use prefork_server::{
    PreFork, TcpServer,
    servers::{Reply, TcpConn},
};
use std::{
    io::{self, Read, Write},
    path::Path,
    thread,
    time::Duration,
};

const CHILDREN: usize = 20;
const WORK: Duration = Duration::from_millis(10);
const MAX_AGE: Duration = Duration::from_millis(100);
/// How the server decides: it serves in order, with a plain limit, with a controlled delay, or with
/// that and a reserved child.
const RULES: [&str; 4] = ["in-order", "plain-limit", "controlled", "shedder"];
const BACKLOGS: [usize; 2] = [128, 4096];

fn main() {
    common::start(modes, |role| match role {
        ["server", rules, backlog] => serve(rules, backlog.parse().expect("a number")),
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
        let busy = Reply::canned(&b"busy"[..]).into_hook();
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

/// All children serve but the reserved one.
fn children(rules: &str) -> usize {
    CHILDREN + usize::from(rules == "shedder")
}

fn work(conn: TcpConn) -> io::Result<()> {
    (&conn).read_exact(&mut [0; 2])?;
    thread::sleep(WORK);
    (&conn).write_all(b"ok")
}

// The measurement.

/// One rate of clients, and what became of them.
struct Row {
    load: f64,
    offered: f64,
    good: f64,
    p50: f64,
    p99: f64,
    refused: f64,
    recovery: f64,
}

fn bench() {
    let loads: Vec<f64> = list_from_env("BENCH_LOADS", &[0.5, 1.0, 1.5, 3.0, 10.0]);
    let backlogs = list_from_env("BENCH_BACKLOGS", &BACKLOGS);
    let capacity = capacity();
    let ideal = CHILDREN as f64 / WORK.as_secs_f64();
    println!("capacity: {capacity:.0} a second; {ideal:.0} if nothing but the work took time");
    let mut drawn = Vec::new();
    for backlog in backlogs {
        let mut lines = Vec::new();
        let all = RULES.map(str::to_owned);
        for rules in list_from_env("BENCH_SERVERS", &all) {
            let rules = rules.as_str();
            let rows: Vec<_> = loads
                .iter()
                .map(|load| measure(rules, backlog, *load, capacity))
                .collect();
            print(rules, backlog, capacity, &rows);
            // A logarithmic axis has no zero.
            let share = |row: &Row| (row.load, (100.0 * row.good / capacity).max(1.0));
            lines.push(Line {
                name: rules.to_owned(),
                points: rows.iter().map(share).collect(),
            });
        }
        drawn.push(lines);
    }
    if let Ok([short, long]) = <[Vec<Line>; 2]>::try_from(drawn) {
        draw(short, long);
    }
}

/// How many a second are served when twice as many clients as children wait for each other's turn.
fn capacity() -> f64 {
    let (actor, port) = server("in-order", 128);
    let time = Duration::from_millis(from_env("BENCH_MILLIS", pick(6_000, 2_000)));
    let answers = clients::in_turn(port, 2 * CHILDREN, time);
    actor.terminate();
    answers as f64 / time.as_secs_f64()
}

fn server(rules: &str, backlog: usize) -> (Actor, u16) {
    let mut actor = Actor::spawn(&["server", rules, &backlog.to_string()]);
    let port = actor.line().parse().expect("a port");
    actor.settle(children(rules));
    (actor, port)
}

fn measure(rules: &str, backlog: usize, load: f64, capacity: f64) -> Row {
    let (actor, port) = server(rules, backlog);
    let time = Duration::from_millis(from_env("BENCH_MILLIS", pick(6_000, 2_000)));
    let rate = load * capacity;
    // Then half of what it can serve.
    let phases = [(rate, time), (capacity / 2.0, time / 2)];
    let clients = clients::run(port, &phases);
    let row = row(load, time, &clients);
    actor.terminate();
    row
}

/// The figures of the second half of the load, when the queue has become what it becomes, and of the
/// time after.
fn row(load: f64, time: Duration, clients: &[Client]) -> Row {
    let during: Vec<_> = clients
        .iter()
        .filter(|client| (time / 2..time).contains(&client.came))
        .collect();
    let seconds = time.as_secs_f64() / 2.0;
    let of = |fate| during.iter().filter(move |client| client.fate == fate);
    let waited: Vec<f64> = of(Fate::Answered)
        .map(|client| client.waited.as_secs_f64() * 1e3)
        .collect();
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
        refused: of(Fate::Refused).count() as f64 / seconds,
        recovery: recovery.as_secs_f64() * 1e3,
    }
}

fn quantile_or_none(values: &[f64], share: f64) -> f64 {
    if values.is_empty() {
        f64::NAN
    } else {
        quantile(values, share)
    }
}

fn print(rules: &str, backlog: usize, capacity: f64, rows: &[Row]) {
    let head = [
        "load",
        "came/s",
        "answered in time/s",
        "% of capacity",
        "p50 ms",
        "p99 ms",
        "refused/s",
        "well again after ms",
    ];
    let cells = |row: &Row| {
        vec![
            format!("{}×", row.load),
            format!("{:.0}", row.offered),
            format!("{:.0}", row.good),
            format!("{:.1}", 100.0 * row.good / capacity),
            format!("{:.0}", row.p50),
            format!("{:.0}", row.p99),
            format!("{:.0}", row.refused),
            format!("{:.0}", row.recovery),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    table(&format!("{rules}, backlog {backlog}"), &head, &rows);
}

fn draw(short: Vec<Line>, long: Vec<Line>) {
    let panel = |title, lines| Panel {
        title,
        unit: "answered in time, % of capacity",
        lines,
    };
    let panels = [panel("backlog 128", short), panel("backlog 4,096", long)];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/img/overload.svg");
    let caption = "20 children × 10 ms; clients give up after 500 ms";
    chart::draw(&path, caption, "load, times the capacity", &panels).expect("a picture");
    println!("\ndrawn to docs/img/overload.svg");
}
