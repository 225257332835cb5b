//! The status helper: a process that answers clients from the record and the board. It asks nothing
//! of the parent or of children, and has a bound for clients, for their time and for memory.

use super::{connection::Connection, http::Hosts, responses::Responses};
use crate::{core::time::Time, sys::waiter::poll_many};
use nix::poll::PollFlags;
use std::{
    cmp::Reverse,
    io,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    time::Duration,
};

/// How many clients are connected at a time. One more takes the place of the one that has been idle
/// for longest, or of the one that has least time left.
const MOST_CLIENTS: usize = 256;
/// How many bytes of answers wait for slow clients at a time.
const MOST_HELD: usize = 32 * 1024 * 1024;
/// How many clients are accepted in a row.
const ACCEPTS: usize = 64;
/// How long a turn goes on with clients, and then with accepting them. It ends with the one who is
/// being served then; the next time begins with the clients that were left.
const TURN: Duration = Duration::from_millis(20);
/// How long to accept no connection after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// What clients are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StatusService {
    Http,
    /// HAProxy's agent-check: a line, unasked.
    Agent,
}

/// A socket that is listened on.
#[derive(Debug)]
pub(super) struct ServedSocket {
    listener: StatusListener,
    serves: StatusService,
    hosts: Hosts,
}

#[derive(Debug)]
enum StatusListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl StatusListener {
    /// Whether only this machine can connect. By which names others know an address is not known.
    fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr();
                address.is_ok_and(|address| address.ip().to_canonical().is_loopback())
            }
            Self::Unix(_) => true,
        }
    }
}

impl ServedSocket {
    /// The socket, of which the helper has a descriptor of its own. `host` is the name that it was
    /// opened with, if it is a TCP socket.
    pub(super) fn new(
        socket: BorrowedFd<'_>,
        host: Option<&str>,
        serves: StatusService,
    ) -> io::Result<Self> {
        let socket = socket.try_clone_to_owned()?;
        let listener = match host {
            Some(_) => StatusListener::Tcp(socket.into()),
            None => StatusListener::Unix(socket.into()),
        };
        let hosts = match host {
            Some(host) if listener.is_of_this_machine() => Hosts::Own(host.into()),
            _ => Hosts::Any,
        };
        Ok(Self {
            listener,
            serves,
            hosts,
        })
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.listener {
            StatusListener::Tcp(listener) => listener.as_fd(),
            StatusListener::Unix(listener) => listener.as_fd(),
        }
    }

    fn accept(&self) -> io::Result<OwnedFd> {
        match &self.listener {
            StatusListener::Tcp(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(socket.into())
            }
            StatusListener::Unix(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                Ok(socket.into())
            }
        }
    }
}

/// The helper's loop.
#[derive(Debug)]
pub(super) struct StatusHelper {
    answers: Responses,
    sockets: Vec<ServedSocket>,
    clients: Vec<Connection>,
    /// No connection is accepted before.
    accept_at: Time,
    /// How many bytes of answers may wait for slow clients.
    most_held: usize,
}

/// What a wait has found.
struct WaitResult {
    ends: bool,
    sockets: Vec<bool>,
    clients: Vec<bool>,
}

impl StatusHelper {
    pub(super) fn new(answers: Responses, sockets: Vec<ServedSocket>) -> Self {
        Self {
            answers,
            sockets,
            clients: Vec::new(),
            accept_at: Time::START,
            most_held: MOST_HELD,
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

    fn wait(&self, life: BorrowedFd<'_>) -> io::Result<WaitResult> {
        let now = self.answers.now();
        let accepts = match self.accept_at <= now {
            true => PollFlags::POLLIN,
            false => PollFlags::empty(),
        };
        let sockets = self.sockets.iter().map(|socket| (socket.as_fd(), accepts));
        let clients = self.clients.iter();
        let clients = clients.map(|client| (client.as_fd(), client.interest()));
        let life = [(life, PollFlags::empty())];
        let asked: Vec<_> = life.into_iter().chain(sockets).chain(clients).collect();
        let mut ready = poll_many(&asked, Some(self.next_at().since(now)))?;
        let clients = ready.split_off(1 + self.sockets.len());
        let sockets = ready.split_off(1);
        let ends = ready == [true];
        Ok(WaitResult {
            ends,
            sockets,
            clients,
        })
    }

    /// When there is something to do without a request.
    fn next_at(&self) -> Time {
        let deadlines = self.clients.iter().map(Connection::deadline);
        let accept = Some(self.accept_at).filter(|at| *at > self.answers.now());
        let sample = self.answers.sample_at();
        deadlines
            .chain(accept)
            .min()
            .map_or(sample, |at| at.min(sample))
    }

    fn serve(&mut self, found: &WaitResult) {
        self.serve_clients(&found.clients);
        let until = self.answers.now() + TURN;
        for (at, ready) in found.sockets.iter().enumerate() {
            if *ready {
                self.accept(at, until);
            }
        }
    }

    fn serve_clients(&mut self, ready: &[bool]) {
        let until = self.answers.now() + TURN;
        let mut served = 0;
        for (at, &is_ready) in ready.iter().enumerate() {
            self.serve_client(at, is_ready);
            served = at + 1;
            if until <= self.answers.now() {
                break;
            }
        }
        self.clients.rotate_left(served);
        self.clients.retain(|client| !client.is_over());
    }

    fn serve_client(&mut self, at: usize, is_ready: bool) {
        let now = self.answers.now();
        let (client, answers) = (&mut self.clients[at], &mut self.answers);
        if is_ready {
            client.advance(now, &mut |request| answers.answer(request));
            self.bound_memory();
        } else if client.deadline() <= now {
            client.expire(now);
        }
    }

    fn accept(&mut self, at: usize, until: Time) {
        for _ in 0..ACCEPTS {
            match self.sockets[at].accept() {
                Ok(client) => self.add_client(client, at),
                Err(error) => return self.note_accept_error(&error),
            }
            if until <= self.answers.now() {
                return;
            }
        }
    }

    /// Without a pause, a lack of descriptors would keep the loop running.
    fn note_accept_error(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
        if !matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted) {
            self.accept_at = self.answers.now() + PAUSE;
            self.make_room();
        }
    }

    fn add_client(&mut self, client: OwnedFd, at: usize) {
        if self.clients.len() == MOST_CLIENTS {
            self.make_room();
        }
        let now = self.answers.now();
        let mut client = match self.sockets[at].serves {
            StatusService::Http => Connection::new(client, self.sockets[at].hosts.clone(), now),
            StatusService::Agent => Connection::with_text(client, self.answers.agent(), now),
        };
        let answers = &mut self.answers;
        client.advance(now, &mut |request| answers.answer(request));
        if !client.is_over() {
            self.clients.push(client);
            self.bound_memory();
        }
    }

    /// Drops a client: the one that has been idle for longest, else the one with least time left.
    fn make_room(&mut self) {
        self.give_up_one(|client| (!client.is_idle(), client.deadline()));
        self.clients.retain(|client| !client.is_over());
    }

    /// Gives up the client for which `rank` is the least.
    fn give_up_one<K: Ord>(&mut self, rank: impl Fn(&Connection) -> K) {
        let clients = self.clients.iter_mut();
        if let Some(client) = clients.min_by_key(|client| rank(client)) {
            client.give_up();
        }
    }

    /// Gives up clients that hold most, until the answers take no more than there is room for.
    fn bound_memory(&mut self) {
        while self.held() > self.most_held {
            self.give_up_one(|client| Reverse(client.holds()));
        }
    }

    /// How many bytes of answers wait for clients.
    fn held(&self) -> usize {
        self.clients.iter().map(Connection::holds).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::board::SharedView,
        sys::{clock::Clock, record_memory::RecordMemory},
    };
    use std::{io::Write, os::unix::net::UnixStream};

    /// The helper of a server in which many have died with long last lines, so that its document is
    /// large.
    fn helper() -> StatusHelper {
        let memory = RecordMemory::new(1).expect("memory");
        memory.write(|writer, pen| {
            for number in 0..50 {
                let words = "x".repeat(8_000);
                writer.death(number, &format!("{{\"words\":\"{words}\"}}"), pen);
            }
        });
        let clock = Clock::new();
        StatusHelper::new(
            Responses::new(memory, SharedView::default(), clock),
            Vec::new(),
        )
    }

    /// A client that has asked for a document, and reads nothing.
    fn slow_reader(helper: &mut StatusHelper) -> UnixStream {
        let (mut client, socket) = UnixStream::pair().expect("sockets");
        socket.set_nonblocking(true).expect("a mode");
        let request = b"GET /status.json HTTP/1.1\r\nHost: a\r\n\r\n";
        client.write_all(request).expect("room");
        let now = helper.answers.now();
        let connection = Connection::new(socket.into(), Hosts::Any, now);
        helper.clients.push(connection);
        client
    }

    /// Each has a document of its own, since each asks when that of the last one is old.
    #[test]
    fn slow_readers_take_bounded_memory_at_every_moment() {
        let mut helper = helper();
        helper.most_held = 2_000_000;
        let clients: Vec<_> = (0..20).map(|_| slow_reader(&mut helper)).collect();
        for at in 0..clients.len() {
            helper.answers.forget_texts();
            helper.serve_client(at, true);
            assert!(helper.held() <= helper.most_held, "after {at}");
        }
        helper.serve_clients(&[]);
        let left = helper.clients.len();
        assert!((4..8).contains(&left), "{left}: each has some 400 kB");
    }

    /// They ask at the same time.
    #[test]
    fn a_document_is_kept_once_for_all_who_ask_for_it() {
        let mut helper = helper();
        let clients: Vec<_> = (0..100).map(|_| slow_reader(&mut helper)).collect();
        for at in 0..clients.len() {
            helper.answers.keep_texts();
            helper.serve_client(at, true);
        }
        assert!(helper.held() < 1_000_000, "{}", helper.held());
        assert!(helper.clients.iter().all(|client| !client.is_over()));
    }
}
