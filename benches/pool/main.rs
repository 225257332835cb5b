//! The life of a pool: starting many children, a burst of connections, the replacement of a killed
//! child, reloads under load, culling, the end; compared with a bare loop of pipes and forks, in turn,
//! in one run; and what a confinement and a holder add to a fork.
//! `BENCH_QUICK=1` makes it short; docs/performance.md has the other variables.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

mod added;
mod births;
mod burst;
#[path = "../common/mod.rs"]
mod common;
mod confined;
mod deaths;
mod held;
mod reload;
mod roles;

use common::{beside, list_from_env, load, verdict};
use std::time::Instant;

fn main() {
    common::start(bench, |role| match role {
        ["load", rest @ ..] => load::play(rest),
        _ => assert!(roles::play(role), "no role {role:?}"),
    });
}

fn bench() {
    let start = Instant::now();
    println!("medians; ratios are medians of the ratios of each round");
    let sections = [
        "start",
        "burst",
        "replacement",
        "reload",
        "cull",
        "confinement",
        "holder",
    ]
    .map(str::to_owned);
    let sections = if beside().is_empty() {
        list_from_env("BENCH_MODES", &sections)
    } else {
        // The roles of the other build that this one knows the figures of.
        vec!["start".to_owned()]
    };
    for section in &sections {
        match &**section {
            "start" => births::start_and_stop(),
            "burst" => burst::bursts(),
            "replacement" => deaths::replacement(),
            "reload" => reload::reload(),
            "cull" => deaths::cull(),
            "confinement" => confined::cost(),
            "holder" => held::cost(),
            other => panic!("BENCH_MODES: no {other}"),
        }
    }
    verdict::print();
    println!("\n{:.0} s in all", start.elapsed().as_secs_f64());
}
