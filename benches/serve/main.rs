//! Connections per second and their cost: this crate compared with a bare program that forks and
//! accepts without a monitor, and with other preforking servers that are installed, in turn, in one
//! run. `BENCH_QUICK=1` makes it short; docs/performance.md has the other variables.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;
mod contest;
mod killed;
mod reloaded;
mod spares;
mod wakes;
mod watched;

use common::{beside, from_env, list_from_env, load, peers, pick, servers, verdict};
use contest::{Contest, Mode};
use std::time::{Duration, Instant};

fn main() {
    common::start(bench, play);
}

fn play(role: &[&str]) {
    match role {
        ["load", rest @ ..] => load::play(rest),
        _ => assert!(servers::play(role), "no role {role:?}"),
    }
}

/// How long, and how often.
#[derive(Clone, Copy)]
struct Effort {
    rounds: u64,
    /// The peers are there for comparison only, and take part in so many rounds.
    peer_rounds: u64,
    time: Duration,
}

fn bench() {
    let start = Instant::now();
    let effort = Effort {
        rounds: from_env("BENCH_ROUNDS", pick(40, 10)),
        peer_rounds: from_env("BENCH_PEER_ROUNDS", pick(8, 2)),
        time: Duration::from_millis(from_env("BENCH_MILLIS", 200)),
    };
    let Effort {
        rounds,
        peer_rounds,
        time,
    } = effort;
    let millis = time.as_millis();
    println!("{rounds} rounds of {millis} ms, those of others in {peer_rounds} of them; medians");
    let sizes = list_from_env("BENCH_SIZES", pick(&[20, 200, 1000], &[20]));
    let clients = list_from_env("BENCH_CLIENTS", pick(&[1, 16, 64], &[16]));
    let modes = list_from_env("BENCH_MODES", &default_modes());
    let wanted = |mode: &str| modes.iter().any(|wanted| wanted == mode);
    peers::introduce();
    for &children in &sizes {
        on_idle_cores(children, &clients, &wanted, effort);
        if wanted("saturated") && children <= 200 {
            // More clients than children, so that some always wait; fewer than the queue holds.
            let clients = (children * 5 / 2).max(64);
            Contest::new(children, Mode::Saturated, clients).run_alone(effort);
        }
    }
    if wanted("wakes") {
        wakes::count(pick(200, 50), effort);
    }
    if wanted("spares") {
        for &clients in &clients {
            spares::settle(clients, effort);
        }
    }
    if wanted("watched") {
        for &clients in &clients {
            watched::compare(clients, effort);
        }
    }
    if wanted("killed") {
        killed::replacement(pick(30, 10));
    }
    if wanted("reloaded") {
        reloaded::reloads(pick(10, 3));
    }
    verdict::print();
    println!("\n{:.0} s in all", start.elapsed().as_secs_f64());
}

fn default_modes() -> Vec<String> {
    // The work on a connection that is kept may be another in the other build.
    let modes: &[&str] = if beside().is_empty() {
        &[
            "closed",
            "kept",
            "open",
            "saturated",
            "wakes",
            "spares",
            "watched",
            "killed",
            "reloaded",
        ]
    } else {
        &["closed", "saturated"]
    };
    modes.iter().map(|&mode| mode.to_owned()).collect()
}

/// The modes in which nobody is held back.
fn on_idle_cores(
    children: usize,
    clients: &[usize],
    wanted: &dyn Fn(&str) -> bool,
    effort: Effort,
) {
    let mut contests = Vec::new();
    for (name, mode) in [("closed", Mode::Closed), ("kept", Mode::Kept)] {
        if wanted(name) {
            let contest = |&clients| Contest::new(children, mode, clients);
            contests.extend(clients.iter().map(contest));
        }
    }
    if wanted("open") {
        for rate in list_from_env("BENCH_RATES", &[1000, 15_000]) {
            contests.push(Contest::new(children, Mode::Open(rate), 512));
        }
    }
    if contests.is_empty() {
        return;
    }
    let others = if beside().is_empty() {
        peers::start(children, false)
    } else {
        Vec::new()
    };
    for contest in contests {
        contest.run(&others, effort);
    }
}
