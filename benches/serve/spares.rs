//! A pool with the document's attributes under a constant load: how often it forks, and what it
//! serves compared with pools of a fixed size.

use crate::{
    Effort,
    common::{
        from_env,
        load::Load,
        run::{Figures, Server},
        servers,
        stats::{median, quantile, ratio, table},
        verdict::{Target, hold},
    },
};
use std::time::Duration;

/// To settle takes longer than to measure.
const MOST_ROUNDS: u64 = 5;

pub(crate) fn settle(clients: usize, effort: Effort) {
    let servers = [
        (["ours", "20"], "fixed, 20 children"),
        (["ours", "5"], "fixed, 5 children"),
        (["dynamic", "1000"], "the document's, cull_after 1 s"),
        (["dynamic", "0"], "the document's, cull_after 0"),
    ];
    let mut figures: [Figures; 4] = Default::default();
    for _ in 0..effort.rounds.min(MOST_ROUNDS) {
        for ((role, _), figures) in servers.iter().zip(&mut figures) {
            let mut actor = servers::own(role);
            let port = actor.line().parse().expect("a port");
            actor.settle(1);
            let mut server = Server::Own(&mut actor, port, true);
            let mut load = Load {
                port,
                clients,
                time: warm(role),
                lead: Duration::ZERO,
                requests: 1,
                rate: 0,
                urgent: false,
            };
            Figures::default().add(&mut server, &load);
            load.time = 4 * effort.time;
            figures.add(&mut server, &load);
        }
    }
    let [fixed, _, document, _] = &figures;
    let rows: Vec<_> = servers
        .iter()
        .zip(&figures)
        .map(|((_, name), own)| {
            vec![
                (*name).to_owned(),
                format!("{:.0}", median(&own.rate)),
                format!("{:.3}", ratio(&own.rate, &fixed.rate)),
                format!(
                    "{:.3}",
                    quantile(&own.rate, 1.0) / quantile(&fixed.rate, 1.0)
                ),
                format!("{:.1}", median(&own.forks)),
                format!("{:.1}", quantile(&own.forks, 1.0)),
                format!("{:.0}", median(&own.children)),
                format!("{:.2}", median(&own.words)),
                format!("{:.1}", median(&own.cpu)),
                format!("{:.2}", median(&own.parent)),
                format!("{:.0}", median(&own.p50)),
                format!("{:.0}", median(&own.p99)),
            ]
        })
        .collect();
    table(
        &format!("The document's default attributes, {clients} clients"),
        &[
            "pool",
            "conn/s",
            "ratio",
            "ratio of the best",
            "forks/s",
            "most",
            "children",
            "words/conn",
            "server CPU µs/conn",
            "parent, % of a core",
            "p50 µs",
            "p99 µs",
        ],
        &rows,
    );
    let say = |what: &str, target, measured| {
        hold(
            &format!("default spares, {clients} clients: {what}"),
            target,
            measured,
        );
    };
    say("forks/s", Target::AtMost(1.0), median(&document.forks));
    let rate = ratio(&document.rate, &fixed.rate);
    say("rate to the fixed pool's", Target::AtLeast(0.95), rate);
}

/// Until the pool has settled: some times `cull_after`. A fixed one has nothing to settle.
fn warm(role: &[&str]) -> Duration {
    let millis = match role {
        ["dynamic", ..] => from_env("BENCH_WARM_MILLIS", 3000),
        _ => 300,
    };
    Duration::from_millis(millis)
}
