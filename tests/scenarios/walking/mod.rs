//! What all walks share: which points are walked, the runs one after the other, and what is told of
//! them. Starts no program and judges no outcome: a [`Walk`] says how that is done.
//!
//! A walk takes a sample of the points, drawn from a seed that changes every day. `WALK=all` takes
//! all of them, `WALK=200` so many, `WALK='parent accept4 1 EMFILE'` one, as a failure names it;
//! `WALK_SEED` gives the seed, and `-- --nocapture` shows what was walked.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what the test files use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod run;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::strace::{self, Point, Role};
use crate::support::World;

pub use run::{HANG, Run, clear, send};

/// A walk over the calls of one role.
pub struct Walk {
    pub role: Role,
    /// How many points are walked unless `WALK` says otherwise.
    pub sample: usize,
    /// What a run comes to into which nothing is injected.
    pub unharmed: &'static str,
    /// Starts the program, has it traced, serves its clients and stops it.
    pub run: fn(&mut World, Role, Option<&Point>) -> Run,
    /// What a run came to, in a word; or what is wrong with it.
    pub judge: fn(&mut World, &Run, Option<&Point>) -> Result<&'static str, String>,
}

/// Walks the points that are wanted, and fails if one of the runs is not as it must be.
pub fn walk_all(world: &mut World, walk: &Walk) {
    if strace::is_missing() {
        return;
    }
    world.deadline(Duration::from_secs(4 * 60 * 60));
    world.expect_orphans();
    // Each run is judged by itself, panics and all.
    world.expect_panics();
    let Some(points) = chosen(world, walk) else {
        return;
    };
    let mut faults = Vec::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let started = Instant::now();
    for point in &points {
        let run = (walk.run)(world, walk.role, Some(point));
        let outcome = (walk.judge)(world, &run, Some(point));
        clear(world);
        match outcome {
            Ok(outcome) => {
                tell(walk, point, outcome, &run);
                *outcomes.entry(outcome).or_default() += 1;
            }
            Err(fault) => {
                let text = described(point, &fault);
                eprintln!("{text}");
                faults.push(text);
            }
        }
    }
    eprintln!(
        "{}: {} points walked in {:.0?}, {} failed; {outcomes:?}",
        walk.role,
        points.len(),
        started.elapsed(),
        faults.len()
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Tells of an outcome that a reader may want to know the reason of.
fn tell(walk: &Walk, point: &Point, outcome: &str, run: &Run) {
    let is_usual = outcome == walk.unharmed || outcome.ends_with("served");
    if !is_usual && !outcome.starts_with("killed") {
        let stderr = run.server.stderr();
        let why = stderr.lines().last().unwrap_or_default();
        eprintln!("{point}: {outcome}: {why}");
    }
}

fn described(point: &Point, fault: &str) -> String {
    let test = env!("CARGO_CRATE_NAME");
    format!(
        "{fault}\n  at: {}\n  alone: WALK='{point}' cargo test --test {test} -- --nocapture",
        point.command()
    )
}

/// The points that are to be walked; `None` if none is of this role.
fn chosen(world: &mut World, walk: &Walk) -> Option<Vec<Point>> {
    let role = walk.role;
    let wanted = std::env::var("WALK").unwrap_or_default();
    if wanted.contains(' ') && !wanted.starts_with(&format!("{role} ")) {
        return None;
    }
    let recorded = (walk.run)(world, role, None);
    let outcome = (walk.judge)(world, &recorded, None);
    assert_eq!(
        outcome.as_deref(),
        Ok(walk.unharmed),
        "with nothing injected"
    );
    // The end is walked without an upgrade.
    let counts = match role.is_upgrade() {
        true => recorded.log.counts_until_stopped(),
        false => recorded.log.counts(),
    };
    let mut all = strace::points(role, &counts);
    if role == Role::WayBack {
        // Before the exec it is an upgrade like any other.
        let before = recorded.log.counts_before("execveat");
        all.retain(|point| point.nth > before.get(&point.call).copied().unwrap_or(0));
    }
    eprintln!("{role}: {} points, of the calls {counts:?}", all.len());
    for (call, _) in counts {
        if let Some(reason) = strace::without_errors(&call) {
            eprintln!("{role}: no error for {call}: it {reason}");
        }
    }
    if wanted == "all" {
        return Some(all);
    }
    if wanted.contains(' ') {
        // The calls of a run are not quite those of another: one that was not recorded may be meant.
        return Some(vec![Point::parse(&wanted).expect("ROLE CALL N FAULT")]);
    }
    let seed = strace::seed();
    let size = wanted.parse().unwrap_or(walk.sample);
    eprintln!("{role}: WALK_SEED={seed}, {size} points");
    Some(strace::sample(&all, size, seed))
}
