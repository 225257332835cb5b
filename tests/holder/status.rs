//! The status of a server that has a holder: told at the same address by whichever parent there is.

use crate::support::{Address, SOON, Scenarios, World, connect, scenarios, until};
use crate::watched::Watched;

pub const SCENARIOS: Scenarios = scenarios![the_status_is_told_by_the_next_parent];

/// The process that answers ends with the parent, and the next one starts another. What has been counted
/// is counted on.
fn the_status_is_told_by_the_next_parent(world: &mut World) {
    let watched = Watched::new(world, &["--status", "127.0.0.1:0"]);
    for round in 0..3 {
        until("a status", SOON, || {
            (ask(&watched, "/ready").contains("200 OK")).then_some(())
        });
        let page = until("four children", SOON, || {
            Some(ask(&watched, "/status.json")).filter(|page| page.matches("\"pid\"").count() >= 4)
        });
        assert!(page.contains("200 OK"), "{page}");
        if round < 2 {
            watched.kill_parent();
        }
    }
    let metrics = ask(&watched, "/metrics");
    assert!(metrics.contains("forks_total 4\n"), "{metrics}");
    watched.stop();
}

fn ask(watched: &Watched, path: &str) -> String {
    let stdout = watched.server.stdout();
    let told = stdout
        .lines()
        .find_map(|line| line.strip_prefix("status at "));
    let mut client = connect(&Address::parse(told.expect("an address")));
    client.send_line(&format!("GET {path} HTTP/1.0\r\n\r"));
    client.read_rest()
}
