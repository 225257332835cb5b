//! The status helper: a process that answers clients from the record and the board. It asks nothing
//! of the parent or of children, and has a bound for clients, for their time and for memory.

use super::{
    answers::Answers,
    connection::{Connection, Next},
};
use crate::{core::time::Time, sys::waiter::poll_many};
use nix::poll::PollFlags;
use std::{
    io,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    time::Duration,
};

/// How many clients are connected at a time. One more takes the place of the one that has least time
/// left.
const MOST_CLIENTS: usize = 256;
/// How many bytes of answers wait for slow clients at a time.
const MOST_HELD: usize = 32 * 1024 * 1024;
/// How many clients are accepted in a row.
const ACCEPTS: usize = 64;
/// How long to accept nobody after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// What clients are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Serves {
    Http,
    /// HAProxy's agent-check: a line, unasked.
    Agent,
}

/// A socket that is listened on.
#[derive(Debug)]
pub(super) struct Door {
    listener: Listener,
    serves: Serves,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    /// The socket, of which the helper has a descriptor of its own.
    pub(super) fn new(socket: BorrowedFd<'_>, is_tcp: bool, serves: Serves) -> io::Result<Self> {
        let socket = socket.try_clone_to_owned()?;
        let listener = match is_tcp {
            true => Listener::Tcp(socket.into()),
            false => Listener::Unix(socket.into()),
        };
        Ok(Self { listener, serves })
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.listener {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }

    fn accept(&self) -> io::Result<OwnedFd> {
        match &self.listener {
            Listener::Tcp(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(socket.into())
            }
            Listener::Unix(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(socket.into())
            }
        }
    }
}

/// The helper's loop.
#[derive(Debug)]
pub(super) struct Helper {
    answers: Answers,
    doors: Vec<Door>,
    clients: Vec<Connection>,
    /// Nobody is accepted before.
    accept_at: Time,
}

/// What a wait has found.
struct Found {
    ends: bool,
    doors: Vec<bool>,
    clients: Vec<bool>,
}

impl Helper {
    pub(super) fn new(answers: Answers, doors: Vec<Door>) -> Self {
        Self {
            answers,
            doors,
            clients: Vec::new(),
            accept_at: Time::START,
        }
    }

    /// Serves until `life` hangs up. Returns the exit code.
    pub(super) fn run(mut self, life: BorrowedFd<'_>) -> i32 {
        loop {
            self.answers.sample();
            match self.wait(life) {
                Ok(found) if found.ends => return 0,
                Ok(found) => self.serve(&found),
                Err(error) => {
                    eprintln!("prefork-status: cannot wait: {error}");
                    return 1;
                }
            }
        }
    }

    fn wait(&self, life: BorrowedFd<'_>) -> io::Result<Found> {
        let now = self.answers.now();
        let accepts = match self.accept_at <= now {
            true => PollFlags::POLLIN,
            false => PollFlags::empty(),
        };
        let doors = self.doors.iter().map(|door| (door.as_fd(), accepts));
        let clients = self.clients.iter();
        let clients = clients.map(|client| (client.as_fd(), client.interest()));
        let life = [(life, PollFlags::empty())];
        let asked: Vec<_> = life.into_iter().chain(doors).chain(clients).collect();
        let mut ready = poll_many(&asked, Some(self.next_at().since(now)))?;
        let clients = ready.split_off(1 + self.doors.len());
        let doors = ready.split_off(1);
        let ends = ready == [true];
        Ok(Found {
            ends,
            doors,
            clients,
        })
    }

    /// When there is something to do though nobody asks.
    fn next_at(&self) -> Time {
        let deadlines = self.clients.iter().map(Connection::deadline);
        let accept = Some(self.accept_at).filter(|at| *at > self.answers.now());
        let sample = self.answers.sample_at();
        deadlines
            .chain(accept)
            .min()
            .map_or(sample, |at| at.min(sample))
    }

    fn serve(&mut self, found: &Found) {
        self.serve_clients(&found.clients);
        for (at, ready) in found.doors.iter().enumerate() {
            if *ready {
                self.accept(at);
            }
        }
        self.bound_memory();
    }

    fn serve_clients(&mut self, ready: &[bool]) {
        let now = self.answers.now();
        let answers = &mut self.answers;
        let mut ready = ready.iter();
        self.clients.retain_mut(|client| {
            let is_ready = ready.next().copied().unwrap_or(false);
            let mut answer = |request: &_| answers.answer(request);
            let next = match (is_ready, client.deadline() <= now) {
                (true, _) => client.advance(now, &mut answer),
                (false, true) => client.expire(now),
                (false, false) => Next::GoesOn,
            };
            next == Next::GoesOn
        });
    }

    fn accept(&mut self, door: usize) {
        for _ in 0..ACCEPTS {
            match self.doors[door].accept() {
                Ok(socket) => self.welcome(socket, self.doors[door].serves),
                Err(error) => return self.note_accept_error(&error),
            }
        }
    }

    /// Without a pause, a lack of descriptors would keep the loop running.
    fn note_accept_error(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
        if !matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted) {
            self.accept_at = self.answers.now() + PAUSE;
            self.drop_one(|client| client.deadline());
        }
    }

    fn welcome(&mut self, socket: OwnedFd, serves: Serves) {
        if self.clients.len() == MOST_CLIENTS {
            self.drop_one(|client| client.deadline());
        }
        let now = self.answers.now();
        let mut client = match serves {
            Serves::Http => Connection::new(socket, now),
            Serves::Agent => Connection::told(socket, self.answers.agent().into_bytes(), now),
        };
        let answers = &mut self.answers;
        if client.advance(now, &mut |request| answers.answer(request)) == Next::GoesOn {
            self.clients.push(client);
        }
    }

    /// Drops the client for which `rank` is the least.
    fn drop_one<K: Ord>(&mut self, rank: impl Fn(&Connection) -> K) {
        let clients = self.clients.iter().enumerate();
        if let Some((at, _)) = clients.min_by_key(|(_, client)| rank(client)) {
            self.clients.swap_remove(at);
        }
    }

    /// Drops clients that hold most, until the answers take no more than there is room for.
    fn bound_memory(&mut self) {
        let held = |clients: &[Connection]| clients.iter().map(Connection::holds).sum::<usize>();
        while held(&self.clients) > MOST_HELD {
            self.drop_one(|client| std::cmp::Reverse(client.holds()));
        }
    }
}
