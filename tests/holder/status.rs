//! The status of a server that has a holder: told at the same address by whichever parent there is.

use std::io::Read;

use crate::support::{Address, SOON, Scenarios, World, connect, scenarios, until};
use crate::watched::Watched;

pub const SCENARIOS: Scenarios = scenarios![the_status_is_told_by_the_next_parent];

/// The process that answers ends with the parent, and the next one starts another. What has been counted
/// is counted on.
fn the_status_is_told_by_the_next_parent(world: &mut World) {
    let watched = Watched::new(world, &["--status", "127.0.0.1:0"]);
    // The process that tells the status is a child beside the four.
    watched.expect("ready ", 4);
    for round in 0..3 {
        until("a status", SOON, || {
            ask(&watched, "/ready")?.contains("200 OK").then_some(())
        });
        let page = until("four children", SOON, || {
            ask(&watched, "/status.json").filter(|page| page.matches("\"pid\"").count() >= 4)
        });
        assert!(page.contains("200 OK"), "{page}");
        if round < 2 {
            watched.kill_parent();
        }
    }
    let metrics = until("the metrics", SOON, || ask(&watched, "/metrics"));
    assert!(metrics.contains("forks_total 4\n"), "{metrics}");
    watched.stop();
}

/// The answer. The process that answered for the last parent may end with a client in hand.
fn ask(watched: &Watched, path: &str) -> Option<String> {
    let stdout = watched.server.stdout();
    let told = stdout
        .lines()
        .find_map(|line| line.strip_prefix("status at "));
    let mut client = connect(&Address::parse(told.expect("an address")));
    let request = format!("GET {path} HTTP/1.0\r\n\r");
    client.try_send_line(&request).ok()?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).ok()?;
    Some(answer).filter(|answer| !answer.is_empty())
}
