//! A whole pool killed at once, while no client connects.
//!
//! It never asserts how long the pool took to come back; the benchmark reports that.

use std::time::Duration;

use super::book::Book;
use super::campaign::{kill_all, line, whole};
use super::clock;
use super::dice::Dice;
use super::fault::Menu;
use super::rampage::{Killer, pause_until};
use super::verdict::{Verdict, compare_with_the_report, judge};
use crate::support::{Signal, World, until};

const SOON: Duration = Duration::from_secs(20);

/// How long each recovery took: from the first kill to the first word of the last successor.
pub type Recovery = Duration;

/// Kills a pool of `size` spare children `rounds` times, `apart`.
#[track_caller]
pub fn kill_a_pool_at_once(
    world: &mut World,
    size: usize,
    rounds: usize,
    apart: Duration,
) -> Vec<Recovery> {
    world.process_limit(4 * size + 100);
    let journal = world.tempdir().join("journal");
    let hands = world.tempdir().join("hands");
    let (size_, limit) = (size.to_string(), (2 * size).to_string());
    let flags = [
        ["--hands", hands.to_str().expect("a path")],
        ["--journal", journal.to_str().expect("a path")],
        ["--start", &size_],
        ["--min-spare", &size_],
        ["--max-clients", &limit],
    ];
    let server = world.spawn("chaos_server", flags.as_flattened());
    server.address();
    let mut killer = Killer {
        server: &server,
        book: &mut Book::open(&journal),
        dice: &mut Dice::new(0),
        menu: &mut Menu::kill(),
        blows: Vec::new(),
        most: 0,
    };
    whole(killer.book, 0, size);
    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        pause_until(clock::now() + apart);
        recoveries.push(kill_all(&mut killer));
    }
    let Killer { book, blows, .. } = killer;
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    book.update();
    let verdict = judge(&super::Tally::default(), book, &blows, None);
    assert_eq!(verdict.unexplained, [""; 0], "deaths for no reason");
    assert_eq!(
        blows.len(),
        rounds * size,
        "each child of the pool was killed once"
    );
    assert_eq!(book.over, 0, "the server has seen too many children");
    compare_with_the_report(&line(&server, "report "), book);
    recoveries
}
