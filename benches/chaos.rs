//! A long chaos test: does what `tests/scenarios/chaos.rs` does in seconds for `CHAOS_SECONDS`, and
//! measures times. Fails if a connection is lost without a reason or never served, or if an orphan
//! stays.
//!
//! Each part is a scenario of the test harness and has its deadline, its limit of processes and its
//! check for what is left over. Options, by environment: `CHAOS_SECONDS` (of each of the two loads;
//! 20), `CHAOS_PARENTS` (to be killed; 40), `CHAOS_CHILDREN` (32), `CHAOS_RATE` (connections a
//! second; 2,000), `CHAOS_WORK` (for how many milliseconds a child has each in hand; 12),
//! `CHAOS_SEED`, `BENCH_QUICK`. An argument selects parts by name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

#[path = "../tests/chaos/mod.rs"]
mod chaos;
mod common;
#[path = "../tests/support/mod.rs"]
mod support;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use chaos::{
    Campaign, Dice, Fault, Menu, Outcome, chaos_server, kill_a_pool_at_once, murder_parents,
};
use common::{
    pick,
    stats::{millis, quantile, table},
};
use support::{World, programs, scenarios};

fn main() -> ExitCode {
    support::main_of_bench(
        programs![chaos_server],
        scenarios![kills, mixed_menu, mass_death, pool_at_once, parents],
    )
}

/// A number from the environment.
fn option(name: &str, default: u32) -> u32 {
    let text = env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

fn seconds() -> Duration {
    Duration::from_secs(option("CHAOS_SECONDS", pick(20, 4)).into())
}

/// Load and faults, in rounds of about ten seconds with a calm after each.
fn campaign(world: &mut World, menu: Menu, every: Duration) -> Outcome {
    let children = option("CHAOS_CHILDREN", 32) as usize;
    let fixed = every < Duration::from_millis(50);
    let rounds = (seconds().as_secs() as u32 / 10).max(1);
    world.process_limit(1000);
    world.deadline(2 * seconds() + Duration::from_secs(300));
    Campaign {
        children,
        max_clients: if fixed { children } else { 3 * children },
        rate: option("CHAOS_RATE", 2000),
        work: Duration::from_millis(option("CHAOS_WORK", 12).into()),
        menu,
        every,
        rounds,
        round: seconds() / rounds,
        massacre: false,
        seed: Dice::seed(),
    }
    .run(world)
}

/// SIGKILL to a random child every 20 ms.
fn kills(world: &mut World) {
    let outcome = campaign(world, Menu::kill(), Duration::from_millis(20));
    accounts("A random child killed every 20 ms", &outcome);
    replacements(&outcome);
}

/// A random fault every 50 ms.
fn mixed_menu(world: &mut World) {
    let outcome = campaign(world, Menu::mixed_for_long(), Duration::from_millis(50));
    accounts("A random fault every 50 ms", &outcome);
    let faults = outcome.verdict.faults.iter();
    let rows: Vec<_> = faults
        .map(|(fault, count)| vec![fault.name().to_owned(), count.to_string()])
        .collect();
    table("Faults by kind", &["fault", "children"], &rows);
}

/// All children killed at once, under load, again and again.
fn mass_death(world: &mut World) {
    let children = option("CHAOS_CHILDREN", 32) as usize;
    let rounds = (seconds().as_secs() as u32 * 2).max(1);
    world.process_limit(1000);
    world.deadline(8 * seconds() + Duration::from_secs(300));
    let outcome = Campaign {
        children,
        max_clients: children,
        rate: option("CHAOS_RATE", 2000),
        work: Duration::from_millis(option("CHAOS_WORK", 12).into()),
        menu: Menu::kill(),
        every: Duration::from_millis(100),
        rounds,
        round: Duration::from_millis(500),
        massacre: true,
        seed: Dice::seed(),
    }
    .run(world);
    accounts("All children killed at once, each half second", &outcome);
    let title = format!("{children} children killed at once under load, {rounds} times, ms");
    let row = figures("all successors have spoken", &outcome.recoveries);
    table(
        &title,
        &["from the first kill until", "p50", "p90", "p99", "max"],
        &[row],
    );
}

/// A hundred spare children killed at once, without clients.
fn pool_at_once(world: &mut World) {
    world.deadline(Duration::from_secs(300));
    let rounds = pick(20, 3);
    // Older than a second: a younger child that dies unused is a start that has failed.
    let apart = Duration::from_millis(1100);
    let recoveries = kill_a_pool_at_once(world, 100, rounds, apart);
    let title = format!("A pool of 100 killed at once, {rounds} times, ms");
    let row = figures("all successors have spoken", &recoveries);
    table(
        &title,
        &["from the first kill until", "p50", "p90", "p99", "max"],
        &[row],
    );
}

/// Parents killed at random moments.
fn parents(world: &mut World) {
    let count = option("CHAOS_PARENTS", pick(40, 10));
    world.deadline(Duration::from_secs(120) + count * Duration::from_secs(2));
    let murders = murder_parents(world, count as usize, Dice::seed());
    let lost = murders.tally.losses.len();
    let rows = [
        ("parents killed", murders.parents.to_string()),
        ("of these with children", murders.orphaned.len().to_string()),
        ("orphans that stayed", "0".to_owned()),
        ("ports not free at once", "0".to_owned()),
        (
            "clients left by an orphan that had them in hand",
            "0".to_owned(),
        ),
        ("connections", murders.tally.connections.to_string()),
        ("answered", murders.tally.answered.to_string()),
        (
            "refused, or in the queue when the port closed",
            (murders.tally.refused + lost as u64).to_string(),
        ),
        ("stranded", murders.tally.stranded.len().to_string()),
    ];
    let rows: Vec<_> = rows
        .map(|(name, value)| vec![name.to_owned(), value])
        .into();
    table(
        "Parents killed 0 to 500 ms after their exec",
        &["", ""],
        &rows,
    );
    let row = figures("the last child is gone", &murders.orphaned);
    table(
        "Orphans, ms",
        &["from the kill until", "p50", "p90", "p99", "max"],
        &[row],
    );
}

fn accounts(title: &str, outcome: &Outcome) {
    let Outcome { tally, verdict, .. } = outcome;
    let hit: usize = verdict.faults.values().sum();
    let latency = |share| {
        let values: Vec<f64> = tally.latencies.iter().map(|&us| f64::from(us)).collect();
        format!("{:.1}", quantile(&values, share) / 1000.0)
    };
    let rows = [
        ("faults", hit.to_string()),
        (
            "of these killed",
            verdict
                .faults
                .get(&Fault::Kill)
                .copied()
                .unwrap_or(0)
                .to_string(),
        ),
        ("connections", tally.connections.to_string()),
        ("answered", tally.answered.to_string()),
        (
            "not offered: too many waited",
            tally.turned_away.to_string(),
        ),
        (
            "lost in the hands of the victim",
            verdict.excused.to_string(),
        ),
        (
            "lost as the victim accepted",
            verdict.excused_in_passing.to_string(),
        ),
        ("lost for no reason", verdict.unexcused.len().to_string()),
        ("stranded", tally.stranded.len().to_string()),
        ("wrong answers", tally.wrong.len().to_string()),
        (
            "healthy children taken for silent",
            verdict.innocents.to_string(),
        ),
        ("answer, p50, ms", latency(0.5)),
        ("answer, p99, ms", latency(0.99)),
        ("answer, max, ms", latency(1.0)),
    ];
    let rows: Vec<_> = rows
        .map(|(name, value)| vec![name.to_owned(), value])
        .into();
    table(title, &["", ""], &rows);
    println!("\n{}", outcome.report);
}

/// From the kill to the parent's knowledge of it and to the successor.
fn replacements(outcome: &Outcome) {
    let of = |part: usize| -> Vec<Duration> {
        let all = outcome.verdict.replacements.iter();
        all.map(|times| times[part]).collect()
    };
    let known = of(0);
    let up = of(1);
    let title = format!("Replacement under load, {} kills, ms", up.len());
    let rows = [
        figures("the death known to the hooks", &known),
        figures("the successor's first word", &up),
    ];
    table(
        &title,
        &["from the kill to", "p50", "p90", "p99", "max"],
        &rows,
    );
}

fn figures(name: &str, times: &[Duration]) -> Vec<String> {
    let values: Vec<f64> = times.iter().map(|&time| millis(time)).collect();
    let shares = [0.5, 0.9, 0.99, 1.0].map(|share| format!("{:.2}", quantile(&values, share)));
    [name.to_owned()].into_iter().chain(shares).collect()
}
