//! A deterministic simulation: the real core (monitor, hooks, framer) against model children, a
//! model kernel and a virtual clock, all driven by one seed. No process is made.
//!
//! `cargo test simulation` runs a million events. `SIMULATED_EVENTS=1000000000 cargo test --release
//! simulation` runs a thousand times as many, and `SIMULATED_SEED=n` one seed alone, which is what a
//! failure prints.

mod kernel;
mod model;
mod pipe;
mod random;
mod world;

use self::world::World;
use std::time::Instant;

/// Seeds that failed once, with what was wrong then. They are run first, for ever.
const REGRESSIONS: [(u64, &str); 1] = [(
    34,
    "a culled child, deaf to SIGINT, that once said BUSY retired for ever",
)];

const EVENTS_PER_SEED: u64 = 10_000;

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.replace('_', "").parse().expect("a number"))
}

fn run(seed: u64) -> u64 {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        world.live(EVENTS_PER_SEED);
        if std::env::var_os("SIMULATED_REPORT").is_some() {
            println!("seed {seed}: {}", world.report());
        }
        world.events()
    });
    outcome.unwrap_or_else(|payload| {
        eprintln!("to see it again: SIMULATED_SEED={seed} cargo test simulation");
        std::panic::resume_unwind(payload)
    })
}

#[test]
fn a_pool_under_faults_keeps_its_promises() {
    if let Some(seed) = from_environment("SIMULATED_SEED") {
        run(seed);
        return;
    }
    for (seed, _) in REGRESSIONS {
        run(seed);
    }
    let wanted = from_environment("SIMULATED_EVENTS").unwrap_or(1_000_000);
    let start = Instant::now();
    let mut events = 0;
    let mut seed = 0;
    while events < wanted {
        events += run(seed);
        seed += 1;
    }
    let rate = events as f64 / start.elapsed().as_secs_f64();
    println!("{events} events, {seed} seeds, {rate:.0} events/s");
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let digest = || {
        let mut world = World::new(7);
        world.live(EVENTS_PER_SEED);
        world.digest()
    };
    assert_eq!(digest(), digest());
}
