//! Clients that come at a fixed rate, each with a connection of its own, and give up after a time. One
//! thread drives them all; starts no server.

use super::common::wire;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, setsockopt, sockopt::IpBindAddressNoPort,
};
use slab::Slab;
use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

/// For how long a client waits for its answer.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// What became of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Answered,
    /// It was told that the server is busy, or its connection was closed.
    Refused,
    GaveUp,
}

pub(crate) struct Client {
    /// Since the beginning.
    pub(crate) came: Duration,
    pub(crate) waited: Duration,
    /// Without the time by which this process made it come late.
    pub(crate) waited_at_server: Duration,
    pub(crate) fate: Fate,
}

/// What became of all clients, and how late one came at most: then there were fewer in a second than
/// there should have been, and this process was the limit.
pub(crate) struct Outcome {
    pub(crate) clients: Vec<Client>,
    pub(crate) late: Duration,
}

/// Runs phases of so many clients a second for a time, one after the other.
pub(crate) fn run(port: u16, phases: &[(f64, Duration)]) -> Outcome {
    let mut crowd = Crowd {
        poll: Poll::new().expect("a poller"),
        port,
        start: Instant::now(),
        waiting: Slab::new(),
        in_order: VecDeque::new(),
        serial: 0,
        done: Vec::new(),
        late: Duration::ZERO,
    };
    let mut begin = Duration::ZERO;
    for &(rate, time) in phases {
        crowd.come(rate, begin, begin + time);
        begin += time;
    }
    crowd.wait_for_the_last();
    Outcome {
        clients: crowd.done,
        late: crowd.late,
    }
}

/// So many clients, each of which comes again when it has its answer. Returns how many answers there
/// were.
pub(crate) fn in_turn(port: u16, clients: usize, time: Duration) -> usize {
    let end = Instant::now() + time;
    let client = |_| {
        thread::spawn(move || {
            let asks = std::iter::repeat_with(|| ask(port).expect("an answer"));
            asks.take_while(|()| Instant::now() < end).count()
        })
    };
    let clients: Vec<_> = (0..clients).map(client).collect();
    let answers = clients
        .into_iter()
        .map(|client| client.join().expect("a client"));
    answers.sum()
}

fn ask(port: u16) -> io::Result<()> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(wire::LAST_REQUEST)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

struct Waiting {
    serial: u64,
    stream: TcpStream,
    came: Duration,
    /// When it did come.
    connected: Duration,
    has_asked: bool,
    answer: Vec<u8>,
}

struct Crowd {
    poll: Poll,
    port: u16,
    start: Instant,
    waiting: Slab<Waiting>,
    /// Who came first is the first to give up. Names may be of clients that are gone.
    in_order: VecDeque<(usize, u64)>,
    serial: u64,
    done: Vec<Client>,
    late: Duration,
}

impl Crowd {
    fn come(&mut self, rate: f64, begin: Duration, end: Duration) {
        let gap = Duration::from_secs_f64(1.0 / rate);
        let mut next = begin;
        while next < end {
            let now = self.start.elapsed();
            self.late = self.late.max(now.saturating_sub(next));
            // Not all at once after a pause: the connections are to be looked at in between.
            for _ in 0..64 {
                if next <= now && next < end {
                    self.connect(next);
                    next += gap;
                }
            }
            self.turn(next.saturating_sub(self.start.elapsed()));
        }
    }

    fn wait_for_the_last(&mut self) {
        while !self.waiting.is_empty() {
            self.turn(Duration::from_millis(10));
        }
    }

    fn connect(&mut self, came: Duration) {
        let connected = self.start.elapsed();
        let mut stream = connecting(self.port, self.serial).expect("a connection under way");
        self.serial += 1;
        let entry = self.waiting.vacant_entry();
        let (key, serial) = (entry.key(), self.serial);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry();
        registered
            .register(&mut stream, Token(key), interest)
            .expect("registered");
        entry.insert(Waiting {
            serial,
            stream,
            came,
            connected,
            has_asked: false,
            answer: Vec::new(),
        });
        self.in_order.push_back((key, serial));
    }

    fn turn(&mut self, wait: Duration) {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result.expect("a wait"),
        }
        for event in &events {
            self.go_on(event.token().0);
        }
        self.give_up();
    }

    fn go_on(&mut self, key: usize) {
        let Some(client) = self.waiting.get_mut(key) else {
            return;
        };
        if let Some(fate) = client.go_on() {
            self.end(key, fate);
        }
    }

    fn give_up(&mut self) {
        let now = self.start.elapsed();
        while let Some(&(key, serial)) = self.in_order.front() {
            match self.waiting.get(key) {
                Some(client) if client.serial == serial => {
                    if now < client.came + PATIENCE {
                        return;
                    }
                    self.end(key, Fate::GaveUp);
                }
                _ => {}
            }
            self.in_order.pop_front();
        }
    }

    fn end(&mut self, key: usize, fate: Fate) {
        let client = self.waiting.remove(key);
        let now = self.start.elapsed();
        let waited = now.saturating_sub(client.came);
        // An answer that is seen late was late: this client would have gone.
        let fate = if waited > PATIENCE {
            Fate::GaveUp
        } else {
            fate
        };
        self.done.push(Client {
            came: client.came,
            waited,
            waited_at_server: now.saturating_sub(client.connected),
            fate,
        });
    }
}

impl Waiting {
    /// Asks, if it has not, and reads. What became of it, if that is known.
    fn go_on(&mut self) -> Option<Fate> {
        if !self.has_asked {
            match self.stream.write(wire::LAST_REQUEST) {
                Ok(_) => self.has_asked = true,
                Err(error) if is_wait(&error) => return None,
                Err(_) => return Some(Fate::Refused),
            }
        }
        let mut chunk = [0; 512];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) if self.answer.ends_with(wire::BODY.as_bytes()) => {
                    return Some(Fate::Answered);
                }
                Ok(0) => return Some(Fate::Refused),
                Ok(count) => self.answer.extend_from_slice(&chunk[..count]),
                Err(error) if is_wait(&error) => return None,
                Err(_) => return Some(Fate::Refused),
            }
        }
    }
}

fn is_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted
    )
}

/// A connection that is being made. Clients that give up leave their port in use for a minute, so they
/// come from many addresses.
fn connecting(port: u16, number: u64) -> nix::Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&fd, IpBindAddressNoPort, &true)?;
    let from = SockaddrIn::new(127, 0, 1, (number % 64) as u8 + 1, 0);
    socket::bind(fd.as_raw_fd(), &from)?;
    match socket::connect(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(fd.into()))
}
