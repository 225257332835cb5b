//! HAProxy in front of three hosts that tell it how loaded they are, in seconds.
//!
//! `cargo bench -p benchmarks --features status --bench balancer` does the same for long, beside other
//! ways to choose a host, and prints figures.

#[path = "../balancer/mod.rs"]
pub mod rig;

use std::time::Duration;

use crate::support::{Programs, Scenarios, World, programs, scenarios};
use rig::{Experiment, Policy, asker, host};

pub const PROGRAMS: Programs = programs![asker, host];

pub const SCENARIOS: Scenarios = scenarios![hosts_behind_haproxy_share_load_and_lose_nothing];

/// One of three hosts is four times slower, one is killed, one is drained and replaced: no request is
/// lost, and a host's part of the requests is its part of the free children.
fn hosts_behind_haproxy_share_load_and_lose_nothing(world: &mut World) {
    world.deadline(Duration::from_secs(120));
    let experiment = Experiment {
        policy: Policy::Agent,
        rate: 200.0,
        // Three times as long as the agents' averages remember.
        settling: Duration::from_secs(15),
        steady: Duration::from_secs(5),
        interval: Some("inter 200ms"),
        pre_stop_delay: Duration::from_secs(1),
    };
    let Some(outcome) = experiment.run(world) else {
        return;
    };
    println!("{} requests, {:?}", outcome.requests.len(), outcome.shares);
    let lost = outcome.lost();
    assert!(
        lost.is_empty(),
        "{} are lost: {:?}",
        lost.len(),
        lost.first()
    );
    assert!(outcome.retries > 0, "nothing had to be sent again");
    for share in &outcome.shares {
        assert!(share.error() < 0.1, "{share:?}");
    }
    // What is equal could be no choice at all.
    let [fast, _, slow] = &outcome.shares[..] else {
        panic!("three hosts");
    };
    assert!(slow.requests < 0.8 * fast.requests, "{:?}", outcome.shares);
}
