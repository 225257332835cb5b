//! Clients that come one after the other for as long as they are wanted, and what became of them.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::SOON;
use crate::support::{Address, try_connect, until};

/// Some clients, each in a thread of its own.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<End>>,
}

#[derive(Debug, Default)]
struct Shared {
    served: AtomicUsize,
    is_over: AtomicBool,
}

/// Why a client comes no more.
#[derive(Debug, Eq, PartialEq)]
enum End {
    /// The crowd is over.
    Over,
    /// Nobody listens.
    Refused,
    /// It was connected, and did not get its answers; or it could not connect for another reason.
    Lost(String),
}

impl Crowd {
    /// As many clients as that, each with a connection for two questions at a time.
    pub fn come(address: &Address, clients: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let clients = (0..clients).map(|_| {
            let (address, shared) = (address.clone(), Arc::clone(&shared));
            thread::spawn(move || shared.come_again_and_again(&address))
        });
        Self {
            clients: clients.collect(),
            shared,
        }
    }

    /// How many connections were served so far.
    pub fn served(&self) -> usize {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Waits until so many more connections were served.
    #[track_caller]
    pub fn is_served(&self, more: usize) {
        let wanted = self.served() + more;
        until(&format!("{more} more clients to be served"), SOON, || {
            (self.served() >= wanted).then_some(())
        });
    }

    /// Lets no client come any more, and returns how many were served. Panics if a client was refused
    /// or lost.
    #[track_caller]
    pub fn leave(self) -> usize {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.end(|end| *end == End::Over)
    }

    /// Waits until each client was refused, and returns how many were served. Panics if one was
    /// lost.
    #[track_caller]
    pub fn leave_refused(self) -> usize {
        self.end(|end| *end == End::Refused)
    }

    /// Waits until each client was refused or lost, and returns how many were served.
    #[track_caller]
    pub fn leave_somehow(self) -> usize {
        self.end(|_| true)
    }

    #[track_caller]
    fn end(self, as_wanted: impl Fn(&End) -> bool) -> usize {
        let ends = self.clients.into_iter().map(JoinHandle::join);
        let ends: Vec<End> = ends.map(|end| end.expect("a thread")).collect();
        let others: Vec<_> = ends.iter().filter(|end| !as_wanted(end)).collect();
        assert!(others.is_empty(), "{} clients: {others:?}", others.len());
        self.shared.served.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn come_again_and_again(&self, address: &Address) -> End {
        while !self.is_over.load(Ordering::Relaxed) {
            match self.come(address) {
                Ok(()) => {}
                Err(Ok(error)) if is_refusal(&error) => return End::Refused,
                Err(Ok(error)) => return End::Lost(format!("not connected: {error}")),
                Err(Err(loss)) => return End::Lost(loss),
            }
        }
        End::Over
    }

    /// Comes once. The outer error is that of the connect.
    fn come(&self, address: &Address) -> Result<(), Result<io::Error, String>> {
        let mut client = try_connect(address).map_err(Ok)?;
        for question in ["who", "again"] {
            let lost = |error| Err(format!("{question}: {error}"));
            client.try_send_line(question).map_err(lost)?;
            match client.try_read_line() {
                Ok(Some(_)) => {}
                Ok(None) => return Err(Err(format!("{question}: the connection has ended"))),
                Err(error) => return Err(lost(error)),
            }
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn is_refusal(error: &io::Error) -> bool {
    [ErrorKind::ConnectionRefused, ErrorKind::NotFound].contains(&error.kind())
}
