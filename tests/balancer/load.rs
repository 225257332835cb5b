//! Clients whose requests are due at times that no answer changes: an open loop with a Poisson
//! process of arrivals, which has the same times in every run.
//!
//! It never asks a second time for a request that failed: that one is lost.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Address, SOON, try_connect, until};

/// For how long a client that waits for its time does not look whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it was due, since the start.
    pub due: Duration,
    /// From when it was due until it was answered.
    pub took: Duration,
    /// The host that has answered, or what happened instead.
    pub by: Result<String, String>,
}

/// The clients, at work.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: Address,
    begun: Instant,
    arrivals: Mutex<Arrivals>,
    stopped: AtomicBool,
    done: Mutex<Vec<Request>>,
}

impl Load {
    /// So many requests a second, of which at most `clients` are under way at a time.
    pub fn start(address: &Address, rate: f64, clients: usize) -> Self {
        let shared = Arc::new(Shared {
            address: address.clone(),
            begun: Instant::now(),
            arrivals: Mutex::new(Arrivals::new(rate)),
            stopped: AtomicBool::new(false),
            done: Mutex::default(),
        });
        let start = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.ask_until_stopped())
        };
        let clients = (0..clients).map(start).collect();
        Self { shared, clients }
    }

    /// How long it has been at work.
    pub fn now(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    /// Waits until so many more requests were answered by this host.
    pub fn reaches(&self, host: &str, more: usize) {
        let count = || {
            let done = lock(&self.shared.done);
            done.iter()
                .filter(|request| request.by.as_deref() == Ok(host))
                .count()
        };
        let before = count();
        until(&format!("{more} answers of {host}"), SOON, || {
            (count() >= before + more).then_some(())
        });
    }

    /// Ends the load, and returns all that was asked for, by the time at which it was due.
    pub fn end(self) -> Vec<Request> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client");
        }
        let mut done = std::mem::take(&mut *lock(&self.shared.done));
        done.sort_by_key(|request| request.due);
        done
    }
}

impl Shared {
    fn ask_until_stopped(&self) {
        while let Some(due) = self.wait_for_next() {
            let by = ask(&self.address).map_err(|error| error.to_string());
            let took = self.begun.elapsed().saturating_sub(due);
            lock(&self.done).push(Request { due, took, by });
        }
    }

    /// Takes the next request and waits until it is due; `None` if the load has ended before.
    fn wait_for_next(&self) -> Option<Duration> {
        let due = lock(&self.arrivals).next();
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            let left = due.saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                return Some(due);
            }
            thread::park_timeout(left.min(LOOK));
        }
    }
}

/// Asks once, and returns the name in the answer.
fn ask(address: &Address) -> io::Result<String> {
    let mut client = try_connect(address)?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: hosts\r\nConnection: close\r\n\r\n")?;
    let first = client.try_read_line()?.unwrap_or_default();
    if !first.starts_with("HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("answered by {first:?}")));
    }
    let mut last = None;
    while let Some(line) = client.try_read_line()? {
        last = Some(line);
    }
    last.ok_or_else(|| io::Error::other("half an answer"))
}

/// The times at which requests are due.
#[derive(Debug)]
struct Arrivals {
    rate: f64,
    last: Duration,
    seed: u64,
}

impl Arrivals {
    fn new(rate: f64) -> Self {
        Self {
            rate,
            last: Duration::ZERO,
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn next(&mut self) -> Duration {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        // Above 0 and at most 1.
        let uniform = ((self.seed >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        self.last += Duration::from_secs_f64(-uniform.ln() / self.rate);
        self.last
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
