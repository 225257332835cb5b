//! Compares the two `AcceptOrder`s: the oldest idle child serves again and again while the load is
//! low, or all children take turns, as in the floor. Measures latency, caches, culling and
//! `max_requests`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

use common::{
    actor::Actor,
    entries::warm_up,
    from_env, list_from_env,
    load::{self, Load},
    pick,
    run::{Figures, Server},
    servers::{self, ORDERS},
    stats::{median, table},
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
        lead: Duration::ZERO,
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
    let all = children.to_string();
    let works = [("signed", ""), ("signed-256", ", 256 KiB of its own")];
    let contestants: Vec<(String, Vec<&str>)> = works
        .iter()
        .flat_map(|&(work, addition)| {
            let floor = (format!("floor{addition}"), vec!["floor", &*all, work]);
            let ours = ORDERS.map(|order| {
                let role = vec!["ours", &*all, work, order];
                (format!("{order}{addition}"), role)
            });
            [vec![floor], ours.to_vec()].concat()
        })
        .collect();
    let mut figures: Vec<Figures> = contestants.iter().map(|_| Figures::default()).collect();
    for _ in 0..rounds() {
        for ((_, role), figures) in contestants.iter().zip(&mut figures) {
            with_server(role, children, |actor, port| {
                let load = Load {
                    port,
                    ..load(clients, from_env("BENCH_MILLIS", pick(600, 200)))
                };
                let mut server = Server::Own(actor, port, role[0] == "ours");
                warm_up(&load);
                figures.add(&mut server, &load);
            });
        }
    }
    let names = contestants.into_iter().map(|(name, _)| name);
    print(
        &format!("Who serves: {children} children, {clients} clients"),
        names.zip(&figures).collect(),
    );
}

/// Twenty children of which ten are to go within the run: whether the cull takes the one that has the
/// most to do, and what the clients notice.
fn cull(clients: usize) {
    let children = 20;
    let all = children.to_string();
    let mut culled: [Culled; 2] = Default::default();
    for _ in 0..rounds() {
        for (order, culled) in ORDERS.iter().zip(&mut culled) {
            culled.measure(&all, order, clients);
        }
    }
    let rows = ORDERS.iter().zip(&culled).flat_map(|(order, culled)| {
        [
            (format!("{order}, nobody is culled"), &culled.fixed),
            (format!("{order}, half of them are"), &culled.surplus),
        ]
    });
    print(
        &format!("Culled meanwhile: {children} children, {clients} clients"),
        rows.collect(),
    );
    for (order, culled) in ORDERS.iter().zip(&culled) {
        println!(
            "\n{order}: culled {:.0} children (median); the one that had been the busiest in {} of \
             {} rounds; children that served from the cull's second on: {:.0}.",
            median(&culled.gone),
            culled.hot_gone,
            rounds(),
            median(&culled.served)
        );
    }
}

#[derive(Default)]
struct Culled {
    fixed: Figures,
    surplus: Figures,
    /// Children that were culled.
    gone: Vec<f64>,
    /// In how many rounds the busiest was among them.
    hot_gone: u64,
    served: Vec<f64>,
}

impl Culled {
    fn measure(&mut self, all: &str, order: &str, clients: usize) {
        let children = all.parse().expect("a count");
        let long = load(clients, 2500);
        with_server(&["ours", all, "signed", order], children, |actor, port| {
            self.fixed
                .add(&mut Server::Own(actor, port, true), &Load { port, ..long });
        });
        with_server(&["surplus", all, order], children, |actor, port| {
            let before = actor.tree();
            let mut server = Server::Own(actor, port, true);
            let early = Load {
                port,
                ..load(clients, 200)
            };
            let hot = Figures::default().add(&mut server, &early);
            let served = self.surplus.add(&mut server, &Load { port, ..long });
            let after = actor.tree();
            let is_gone = |pid: &&u32| !after.contains(pid);
            self.gone.push(before.iter().filter(is_gone).count() as f64);
            self.hot_gone += u64::from(!after.contains(&hot.busiest_pid));
            self.served.push(served.children as f64);
        });
    }
}

/// Children that leave after a number of connections: one after the other if one has all of them,
/// all at about the same time if they take turns.
fn limits(clients: usize) {
    let children = 20;
    let all = children.to_string();
    let contestants: Vec<(String, Vec<&str>)> = ORDERS
        .iter()
        .flat_map(|&order| {
            ["0", "1000", "100"].map(|limit| {
                let role = vec!["mortal", &*all, limit, order];
                (format!("{order}, max_requests {limit}"), role)
            })
        })
        .collect();
    let mut figures: Vec<Figures> = contestants.iter().map(|_| Figures::default()).collect();
    for _ in 0..rounds() {
        for ((_, role), figures) in contestants.iter().zip(&mut figures) {
            with_server(role, children, |actor, port| {
                let load = Load {
                    port,
                    ..load(clients, pick(2000, 1000))
                };
                figures.add(&mut Server::Own(actor, port, true), &load);
            });
        }
    }
    let names = contestants.into_iter().map(|(name, _)| name);
    print(
        &format!("max_requests: {children} children, {clients} clients"),
        names.zip(&figures).collect(),
    );
}
