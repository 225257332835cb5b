//! How late handlers that are stuck are found and ended.
//!
//! `OVERTIME_HANDLERS=1000 cargo test --release --test scenarios -- overtime::lateness` measures it.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![on_time,];

/// How late handlers were found, and how late they were dead.
#[derive(Default)]
struct Lateness {
    found: Vec<Duration>,
    dead: Vec<Duration>,
}

impl Lateness {
    /// One child of each kind, as often as that, in a server of their own.
    fn measure(&mut self, world: &mut World, times: usize) {
        let flags = ["--busy-timeout", "1000", "--kill-timeout", "200"];
        let server = world.spawn("serve", &[&flags[..], &["--min-spare", "6"]].concat());
        let address = server.address();
        for _ in 0..times {
            let mut stuck = hold(&address, KINDS.len());
            for (held, kind) in stuck.iter_mut().zip(KINDS) {
                // OK to ignore: on a busy machine the first may have had its time.
                let _ = held.client.try_send_line(kind);
            }
            for mut held in stuck {
                held.client.gone();
                self.found.push(took(&server, held.pid) - BUSY);
                let in_hand = time(&death_of(&server, held.pid), "in-hand");
                self.dead.push(in_hand.saturating_sub(BUSY + KILL));
            }
        }
        ends_well(&server);
        world.reap_orphans();
    }
}

/// The 99th percentile, printed with others.
fn p99(what: &str, late: &mut [Duration]) -> Duration {
    late.sort_unstable();
    let [p50, p99, worst] = [50, 99, 100].map(|percent| late[(late.len() - 1) * percent / 100]);
    println!(
        "{what}: late by {p50:?} p50, {p99:?} p99, {worst:?} at most, of {}",
        late.len()
    );
    p99
}

/// The hook is called when `busy_timeout` is over, and the child is dead `kill_timeout` later.
pub(super) fn on_time(world: &mut World) {
    // The process for which one of the kinds waits.
    world.expect_orphans();
    let wanted = env::var("OVERTIME_HANDLERS").ok();
    let wanted: Option<usize> = wanted.map(|count| count.parse().expect("a number"));
    if wanted.is_some() {
        world.deadline(Duration::from_secs(60 * 60));
    }
    let mut lateness = Lateness::default();
    while lateness.found.len() < wanted.unwrap_or(KINDS.len()) {
        lateness.measure(world, if wanted.is_some() { 10 } else { 1 });
    }
    let found = p99("found", &mut lateness.found);
    let dead = p99("dead", &mut lateness.dead);
    // A loaded machine may be late by itself; the figure is measured on a quiet one.
    let measures = wanted.is_some();
    let [in_time, ended] = [BUSY, BUSY + KILL].map(|time| if measures { time / 20 } else { SOON });
    assert!(found <= in_time, "{found:?} of {in_time:?}");
    assert!(dead <= ended, "{dead:?} of {ended:?}");
}
