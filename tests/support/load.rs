//! A crowd of clients, each of which comes again as soon as it has been answered.
//!
//! It never gives up on a client: whoever is not answered is a panic of the scenario.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::address::Address;
use super::client::{Client, connect_as_another};

/// Runs so many clients while `meanwhile` runs; returns how many visits there were.
pub fn under_load(
    address: &Address,
    clients: usize,
    visit: impl Fn(Client) + Sync,
    meanwhile: impl FnOnce(),
) -> usize {
    let (visits, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    visit(connect_as_another(address));
                    visits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also after a panic, which would wait for the clients for ever.
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
