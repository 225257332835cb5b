//! Who serves: a child of ours waits in an exclusive epoll, which wakes the same child over and over
//! while the load is low; children that block in accept, as those of the floor do, take turns. What
//! that means for latency, for caches, for the cull and for `max_requests`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

use common::{
    actor::Actor,
    from_env, list_from_env,
    load::{self, Load},
    pick,
    run::{Figures, Server},
    servers,
    stats::{median, quantile, table},
};
use std::time::{Duration, Instant};

fn main() {
    common::start(bench, |role| match role {
        ["load", rest @ ..] => load::play(rest),
        _ => assert!(servers::play(role), "no role {role:?}"),
    });
}

fn bench() {
    let start = Instant::now();
    let sizes = list_from_env("BENCH_SIZES", pick(&[20, 200], &[20]));
    let clients = list_from_env("BENCH_CLIENTS", &[1, 16, 64]);
    for &children in &sizes {
        for &clients in &clients {
            turns(children, clients);
        }
    }
    for &clients in &clients {
        cull(clients);
    }
    for &clients in &clients {
        limits(clients);
    }
    println!("\n{:.0} s in all", start.elapsed().as_secs_f64());
}

fn rounds() -> u64 {
    from_env("BENCH_ROUNDS", pick(7, 2))
}

fn load(clients: usize, millis: u64) -> Load {
    Load {
        port: 0,
        clients,
        time: Duration::from_millis(millis),
        requests: 1,
        rate: 0,
        urgent: false,
    }
}

/// Starts a server and gives it to `act`, with its port.
fn with_server(role: &[&str], children: usize, act: impl FnOnce(&mut Actor, u16)) {
    let mut actor = servers::own(role);
    let port = actor.line().parse().expect("a port");
    actor.settle(children);
    act(&mut actor, port);
}

const HEAD: [&str; 9] = [
    "conn/s",
    "server CPU µs/conn",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "max µs",
    "children that served",
    "the busiest, % of all",
    "forks/s",
];

/// The cells under `HEAD`.
fn cells(own: &Figures) -> Vec<String> {
    vec![
        format!("{:.0}", median(&own.rate)),
        format!("{:.1}", median(&own.cpu)),
        format!("{:.0}", median(&own.p50)),
        format!("{:.0}", median(&own.p99)),
        format!("{:.0}", median(&own.p999)),
        format!("{:.0}", median(&own.max)),
        format!("{:.0}", median(&own.served)),
        format!("{:.1}", median(&own.busiest)),
        format!("{:.1}", median(&own.forks)),
    ]
}

fn print(title: &str, rows: Vec<(String, &Figures)>) {
    let mut head = vec![""];
    head.extend(HEAD);
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, figures)| [vec![name], cells(figures)].concat())
        .collect();
    table(title, &head, &rows);
}

/// The distribution of the connections; then the same with children that each go over memory of
/// their own, which a child that is woken again may still find in the cache.
fn turns(children: usize, clients: usize) {
    let works = ["signed", "signed-256"];
    let contestants: Vec<_> = works
        .iter()
        .flat_map(|&work| ["floor", "ours"].map(|role| (role, work)))
        .collect();
    let mut figures: Vec<Figures> = contestants.iter().map(|_| Figures::default()).collect();
    for _ in 0..rounds() {
        for ((role, work), figures) in contestants.iter().zip(&mut figures) {
            with_server(
                &[role, &children.to_string(), work],
                children,
                |actor, port| {
                    let load = load(clients, from_env("BENCH_MILLIS", pick(600, 200)));
                    let mut server = Server::Own(actor, port, *role == "ours");
                    figures.add(&mut server, &Load { port, ..load });
                },
            );
        }
    }
    let name = |(role, work): &(&str, &str)| match work.strip_prefix("signed-") {
        Some(kib) => format!("{role}, {kib} KiB of its own"),
        None => (*role).to_owned(),
    };
    let rows = contestants.iter().map(name).zip(&figures).collect();
    print(
        &format!("Who serves: {children} children, {clients} clients"),
        rows,
    );
}

/// Twenty children of which ten are to go within the run: whether the cull takes the one that has the
/// most to do, and what the clients notice.
fn cull(clients: usize) {
    let children = 20;
    let all = children.to_string();
    let mut figures: [Figures; 2] = Default::default();
    let (mut gone, mut hot_gone, mut busy_gone) = (Vec::new(), 0_u64, Vec::new());
    for _ in 0..rounds() {
        with_server(&["ours", &all, "signed"], children, |actor, port| {
            let load = Load {
                port,
                ..load(clients, 2500)
            };
            figures[0].add(&mut Server::Own(actor, port, true), &load);
        });
        with_server(&["surplus", &all], children, |actor, port| {
            let before = actor.tree();
            let mut server = Server::Own(actor, port, true);
            let early = Load {
                port,
                ..load(clients, 200)
            };
            let hot = Figures::default().add(&mut server, &early);
            let late = Load {
                port,
                ..load(clients, 2500)
            };
            let busy = figures[1].add(&mut server, &late);
            let after = actor.tree();
            let is_gone = |pid: &&u32| !after.contains(pid);
            gone.push(before.iter().filter(is_gone).count() as f64);
            hot_gone += u64::from(!after.contains(&hot.busiest_pid));
            busy_gone.push(busy.children as f64);
        });
    }
    let [fixed, surplus] = &figures;
    let rows = vec![
        ("nobody is culled".to_owned(), fixed),
        ("half of them are".to_owned(), surplus),
    ];
    print(
        &format!("Culled meanwhile: {children} children, {clients} clients"),
        rows,
    );
    println!(
        "\nCulled: {:.0} children (median); the one that had been the busiest: in {hot_gone} of {} rounds.",
        median(&gone),
        rounds(),
    );
    println!(
        "Children that served from the cull's second on: {:.0}.",
        quantile(&busy_gone, 0.5)
    );
}

/// Children that leave after a number of connections: one after the other if one has all of them,
/// all at about the same time if they take turns.
fn limits(clients: usize) {
    let children = 20;
    let all = children.to_string();
    let roles: [&[&str]; 3] = [
        &["ours", &all, "signed"],
        &["mortal", &all, "1000"],
        &["mortal", &all, "100"],
    ];
    let names = ["max_requests 0", "max_requests 1000", "max_requests 100"];
    let mut figures: [Figures; 3] = Default::default();
    for _ in 0..rounds() {
        for (role, figures) in roles.iter().zip(&mut figures) {
            with_server(role, children, |actor, port| {
                let load = Load {
                    port,
                    ..load(clients, pick(2000, 1000))
                };
                figures.add(&mut Server::Own(actor, port, true), &load);
            });
        }
    }
    let rows = names.map(str::to_owned).into_iter().zip(&figures).collect();
    print(
        &format!("max_requests: {children} children, {clients} clients"),
        rows,
    );
}
