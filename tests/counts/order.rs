//! The oldest child serves nearly all connections where they are short: on a machine that does nothing
//! else. A child that was kept waiting for a processor has served a long one, and goes to the end of
//! the line.

use std::collections::BTreeMap;

use crate::support::{Signal, World, connect, until};
use crate::{SOON, WHO};

/// With `AcceptOrder::OldestFirst`.
pub(crate) fn the_oldest_goes_first(world: &mut World) {
    expect_the_oldest(world, &["--children", "8"]);
}

/// By itself where children have a limit: those that take turns would all reach it at the same time.
pub(crate) fn the_oldest_goes_first_where_there_is_a_limit(world: &mut World) {
    expect_the_oldest(world, &["--children", "8", "--limit", "1000000"]);
}

/// Repeats until three children have served nearly all connections. (While one of them brings a
/// connection to its end the next has come.)
fn expect_the_oldest(world: &mut World, arguments: &[&str]) {
    let server = world.spawn("serve", arguments);
    let address = server.address();
    server.expect_children(8);
    until("the oldest to serve", SOON, || {
        let mut shares = BTreeMap::<_, usize>::new();
        for _ in 0..100 {
            *shares.entry(connect(&address).ask(WHO)).or_default() += 1;
        }
        let mut shares: Vec<_> = shares.into_values().collect();
        shares.sort_unstable();
        let most: usize = shares.iter().rev().take(3).sum();
        (most >= 90).then_some(())
    });
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}
