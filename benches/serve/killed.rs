//! How long servers of others, and programs under this one, are without a child that was killed: from
//! the SIGKILL until another process is there in its place.

use crate::common::{
    peers::{self, Running},
    pid, proc,
    stats::{quantile, table},
};
use nix::sys::signal::{Signal, kill};
use std::{
    thread,
    time::{Duration, Instant},
};

const CHILDREN: usize = 20;
/// Between two looks: less than any of them needs.
const STEP: Duration = Duration::from_micros(200);
/// A server that has not replaced a child by then does not.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills a child of each, `kills` times.
pub(crate) fn replacement(kills: usize) {
    let started = peers::start(CHILDREN, false);
    let mut rows = Vec::new();
    for (peer, running) in &started {
        let times: Vec<f64> = (0..kills).filter_map(|_| kill_one(running)).collect();
        let at = |share| match times.is_empty() {
            true => "never".to_owned(),
            false => format!("{:.1}", quantile(&times, share)),
        };
        rows.push(vec![peer.name.to_owned(), at(0.5), at(0.9), at(1.0)]);
    }
    let title = format!("A killed child among {CHILDREN}: until another process is there, ms");
    table(&title, &["server", "p50", "p90", "max"], &rows);
}

/// Kills the oldest child, which no server takes for one that cannot start, and waits until there are as many as before, one of them new.
fn kill_one(running: &Running) -> Option<f64> {
    let before = children(running);
    let victim = *before.first()?;
    kill(pid(victim), Signal::SIGKILL).ok()?;
    let killed = Instant::now();
    loop {
        let now = children(running);
        if now.len() >= before.len() && !now.contains(&victim) {
            let took = killed.elapsed().as_secs_f64() * 1e3;
            // What it has to do before the next one.
            thread::sleep(Duration::from_millis(300));
            return Some(took);
        }
        if killed.elapsed() > PATIENCE {
            return None;
        }
        thread::sleep(STEP);
    }
}

fn children(running: &Running) -> Vec<u32> {
    let roots = running.roots();
    let tree = roots.iter().flat_map(|&root| proc::tree(root));
    tree.filter(|pid| !roots.contains(pid)).collect()
}
