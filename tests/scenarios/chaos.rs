//! A short chaos test: a server under load whose children or parent are killed all the time.
//!
//! `cargo bench -p benchmarks --bench chaos` does the same for long and says how fast; here only
//! outcomes are asserted. What counts as what is told in `tests/chaos/mod.rs`.

#[path = "../chaos/mod.rs"]
pub mod rig;

use std::time::Duration;

use crate::support::{Programs, Scenarios, World, programs, scenarios};
use rig::{
    Campaign, Dice, Fault, Menu, Outcome, chaos_server, kill_a_pool_at_once, murder_parents,
};

pub const PROGRAMS: Programs = programs![chaos_server];

pub const SCENARIOS: Scenarios = scenarios![
    kills_under_load,
    mixed_menu_under_load: long,
    mass_death_repeated,
    a15_pool_killed_at_once_comes_back,
    parents_killed_at_random_moments: long,
];

const MILLISECOND: Duration = Duration::from_millis(1);

fn tell(outcome: &Outcome) {
    let Outcome { tally, verdict, .. } = outcome;
    println!("{} connections, {}", tally.connections, outcome.report);
    println!("{verdict:?}");
}

/// A pool of a fixed size in which a child is killed every 20 ms. After each round every client
/// that has connected must have been served, although no new client comes whose wake-up might help.
fn kills_under_load(world: &mut World) {
    world.deadline(Duration::from_secs(120));
    let outcome = Campaign {
        children: 24,
        max_clients: 24,
        rate: 300,
        work: 5 * MILLISECOND,
        menu: Menu::kill(),
        every: 20 * MILLISECOND,
        rounds: 3,
        round: Duration::from_secs(1),
        massacre: false,
        seed: Dice::seed(),
    }
    .run(world);
    tell(&outcome);
    assert!(outcome.tally.answered > 300, "there was a load");
    assert!(
        outcome.verdict.faults[&Fault::Kill] > 50,
        "there were kills"
    );
}

/// Every kind of fault, in a pool that may grow.
fn mixed_menu_under_load(world: &mut World) {
    world.deadline(Duration::from_secs(120));
    let outcome = Campaign {
        children: 12,
        max_clients: 40,
        rate: 200,
        work: 5 * MILLISECOND,
        menu: Menu::mixed(),
        every: 50 * MILLISECOND,
        rounds: 2,
        round: Duration::from_millis(1500),
        massacre: false,
        seed: Dice::seed(),
    }
    .run(world);
    tell(&outcome);
    for fault in Fault::ALL {
        assert!(outcome.verdict.faults.contains_key(&fault), "no {fault:?}");
    }
}

/// All children are killed at once, again and again, while clients come.
fn mass_death_repeated(world: &mut World) {
    world.deadline(Duration::from_secs(120));
    let outcome = Campaign {
        children: 24,
        max_clients: 24,
        rate: 300,
        work: 5 * MILLISECOND,
        menu: Menu::kill(),
        every: 100 * MILLISECOND,
        rounds: 6,
        round: 400 * MILLISECOND,
        massacre: true,
        seed: Dice::seed(),
    }
    .run(world);
    tell(&outcome);
    assert_eq!(outcome.recoveries.len(), 6);
}

/// All 100 children of a pool, killed at once, are found and replaced, 32 a turn; the socket stays
/// open, so no client is refused meanwhile.
fn a15_pool_killed_at_once_comes_back(world: &mut World) {
    world.deadline(Duration::from_secs(120));
    let recoveries = kill_a_pool_at_once(world, 100, 3, Duration::ZERO);
    println!("{recoveries:?}");
}

/// Whenever a parent dies, no child is left, the port is free, and the next server can use it.
fn parents_killed_at_random_moments(world: &mut World) {
    world.deadline(Duration::from_secs(180));
    let murders = murder_parents(world, 30, Dice::seed());
    println!("{murders:?}");
    assert!(murders.orphaned.len() > 5, "some had children by then");
    assert!(murders.tally.answered > 0, "there was a load");
}
