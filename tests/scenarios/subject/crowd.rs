//! Clients that come one after the other for as long as they are wanted, and lose nothing.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::SOON;
use crate::support::{Address, try_connect, until};

/// Some clients, each in a thread of its own.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Option<ErrorKind>>>,
}

#[derive(Debug, Default)]
struct Shared {
    served: AtomicUsize,
    is_over: AtomicBool,
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

    /// Lets nobody come any more, and returns how many were served. Panics if a client was refused
    /// or lost.
    #[track_caller]
    pub fn leave(self) -> usize {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let (ends, served) = self.join();
        assert!(ends.iter().all(Option::is_none), "refused: {ends:?}");
        served
    }

    /// Waits until each client was refused, and returns how many were served. Panics if one was
    /// lost.
    #[track_caller]
    pub fn leave_refused(self) -> usize {
        let (ends, served) = self.join();
        let refusals = [ErrorKind::ConnectionRefused, ErrorKind::NotFound];
        let refused = |end: &Option<ErrorKind>| end.is_some_and(|end| refusals.contains(&end));
        assert!(ends.iter().all(refused), "{ends:?}");
        served
    }

    #[track_caller]
    fn join(self) -> (Vec<Option<ErrorKind>>, usize) {
        let ends = self.clients.into_iter().map(JoinHandle::join);
        let ends = ends.map(|end| end.expect("a client that is not lost"));
        (ends.collect(), self.shared.served.load(Ordering::Relaxed))
    }
}

impl Shared {
    /// Comes until it is refused or the crowd is over.
    fn come_again_and_again(&self, address: &Address) -> Option<ErrorKind> {
        while !self.is_over.load(Ordering::Relaxed) {
            let mut client = match try_connect(address) {
                Ok(client) => client,
                Err(error) => return Some(error.kind()),
            };
            for question in ["who", "again"] {
                client.try_send_line(question).expect("a connection");
                let answer = client.try_read_line().expect("a connection");
                assert!(answer.is_some(), "the connection ended at {question:?}");
            }
            self.served.fetch_add(1, Ordering::Relaxed);
        }
        None
    }
}
