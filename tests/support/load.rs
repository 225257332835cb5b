//! A crowd of clients, each of which comes again as soon as it has been answered.
//!
//! It never gives up on a client: one that is not answered is a panic of the scenario.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::address::Address;
use super::client::{Client, connect_as_another};
use super::wait::pause;

/// Runs so many clients, with a pause of each between two visits, while `meanwhile` runs; returns how
/// many visits there were.
///
/// `CLIENT_PAUSE=n` makes the pause so many milliseconds. Without any, sixteen clients take all the time
/// that two processors have, and a figure tells how long the server has waited for one.
pub fn under_load(
    address: &Address,
    clients: usize,
    between: Duration,
    visit: impl Fn(Client) + Sync,
    meanwhile: impl FnOnce(),
) -> usize {
    let (visits, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let asked_for = std::env::var("CLIENT_PAUSE").ok();
    let asked_for = asked_for.map(|n| Duration::from_millis(n.parse().expect("a number")));
    let between = asked_for.unwrap_or(between);
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    visit(connect_as_another(address));
                    visits.fetch_add(1, Ordering::Relaxed);
                    if !between.is_zero() {
                        pause(between);
                    }
                }
            });
        }
        // Also after a panic, which would wait for the clients forever.
        let _end = End(&over);
        meanwhile();
    });
    visits.into_inner()
}

/// Has the clients come no more.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
