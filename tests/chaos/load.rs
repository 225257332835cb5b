//! The load: clients that come when they would come, however the server fares.
//!
//! One thread, an open loop: the arrivals are drawn beforehand, as independent clients would make
//! them, and a latency counts from the moment at which the client was to come, so that a server
//! that stands still is not spared those who would have come meanwhile. It never retries and never
//! ends a connection: it reads to the end of each.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

use super::answer::{Received, judge};
use super::clock;
use super::dice::Dice;
use super::fault::Fault;

/// Who comes, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub address: SocketAddr,
    /// Arrivals a second.
    pub rate: u32,
    /// For how long a child has a connection in hand, on average.
    pub work: Duration,
    /// How long a connection may take before it counts as stranded.
    pub deadline: Duration,
    pub seed: u64,
}

/// A connection whose client did not get its answer.
#[derive(Clone, Debug)]
pub struct Loss {
    pub nonce: u64,
    /// The client's port.
    pub port: u16,
    pub came: Duration,
    /// The last look at which it had not ended.
    pub before: Duration,
    pub ended: Duration,
}

/// What became of the connections.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub connections: u64,
    pub answered: u64,
    /// Nobody listened.
    pub refused: u64,
    /// Those that would have come, but for the crowd that waited already.
    pub turned_away: u64,
    /// From the moment of arrival to the end of the answer, in microseconds.
    pub latencies: Vec<u32>,
    pub losses: Vec<Loss>,
    /// Answers that were not the right ones.
    pub wrong: Vec<String>,
    /// Those that had neither an answer nor an end when the deadline had passed.
    pub stranded: Vec<String>,
    /// The faults that were asked for and whose connection was answered all the same.
    pub survived: Vec<Fault>,
    /// The faults that were asked for.
    pub asked: Vec<Fault>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.answered += other.answered;
        self.refused += other.refused;
        self.turned_away += other.turned_away;
        self.latencies.extend(other.latencies);
        self.losses.extend(other.losses);
        self.wrong.extend(other.wrong);
        self.stranded.extend(other.stranded);
        self.survived.extend(other.survived);
        self.asked.extend(other.asked);
    }
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<Tally>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// What the next clients ask for.
    faults: Mutex<VecDeque<Fault>>,
}

impl Load {
    pub fn start(plan: Plan) -> Self {
        let shared = Arc::new(Shared::default());
        let generator = Generator::new(plan, Arc::clone(&shared));
        let thread = thread::spawn(|| generator.run());
        Self { shared, thread }
    }

    /// Has the next client ask for `fault`.
    pub fn ask_for(&self, fault: Fault) {
        let mut faults = self.shared.faults.lock().expect("a load that runs");
        faults.push_back(fault);
    }

    /// Lets no client come any more, and waits until every connection has ended or is stranded.
    pub fn finish(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load to end")
    }
}

/// A connection under way.
#[derive(Debug)]
struct Open {
    stream: TcpStream,
    port: u16,
    nonce: u64,
    came: Duration,
    fault: Option<Fault>,
    /// What is still to be sent.
    request: Vec<u8>,
    received: Vec<u8>,
}

struct Generator {
    plan: Plan,
    shared: Arc<Shared>,
    dice: Dice,
    epoll: Epoll,
    open: Slab<Open>,
    /// When the last look began at which all that had happened was seen.
    looked: Duration,
    tally: Tally,
}

/// How many events are taken at a look.
const EVENTS: usize = 1024;

/// With so many under way no other comes: the queue of the listener (1,024) must not overflow.
/// Where it does the kernel answers with cookies, may fail to redeem one of them, and resets a
/// connection of which no server has ever known.
const CROWD: usize = 900;

impl Generator {
    fn new(plan: Plan, shared: Arc<Shared>) -> Self {
        Self {
            plan,
            shared,
            dice: Dice::new(plan.seed),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll"),
            open: Slab::new(),
            looked: clock::now(),
            tally: Tally::default(),
        }
    }

    fn run(mut self) -> Tally {
        let mean = Duration::from_secs(1) / self.plan.rate;
        let mut next = clock::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            while next <= clock::now() {
                if self.open.len() < CROWD {
                    self.come(next);
                } else {
                    self.tally.turned_away += 1;
                }
                next += self.dice.gap(mean);
            }
            self.look(next.saturating_sub(clock::now()));
        }
        let stopped = clock::now();
        while !self.open.is_empty() && clock::now() - stopped < self.plan.deadline {
            self.look(Duration::from_millis(10));
        }
        let Self {
            open, mut tally, ..
        } = self;
        tally.stranded = open.iter().map(|(_, open)| open.describe()).collect();
        tally
    }

    /// A client comes, that was to come at `came`.
    fn come(&mut self, came: Duration) {
        self.tally.connections += 1;
        // Non-blocking, unlike the standard library's: a full queue must not hold the others up.
        let stream = match mio::net::TcpStream::connect(self.plan.address) {
            Ok(stream) => TcpStream::from(stream),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                self.tally.refused += 1;
                return;
            }
            Err(error) => panic!("a connection to {}: {error}", self.plan.address),
        };
        let fault = self.shared.faults.lock().expect("the faults").pop_front();
        self.tally.asked.extend(fault);
        let nonce = self.dice.next();
        let work = self.dice.duration(2 * self.plan.work).as_micros();
        let name = fault.map_or("-", Fault::name);
        let entry = self.open.vacant_entry();
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        let event = EpollEvent::new(interest, entry.key() as u64);
        self.epoll.add(&stream, event).expect("a watch");
        entry.insert(Open {
            port: stream.local_addr().map_or(0, |address| address.port()),
            stream,
            nonce,
            came,
            fault,
            request: format!("{nonce:x} {work} {name}\n").into_bytes(),
            received: Vec::new(),
        });
    }

    /// Waits for at most `wait`, and deals with all that has happened.
    fn look(&mut self, wait: Duration) {
        let fd = PollFd::new(std::os::fd::AsFd::as_fd(&self.epoll.0), PollFlags::POLLIN);
        // To the microsecond, which epoll_wait cannot; an interruption is as good as an event.
        let _ = ppoll(&mut [fd], Some(wait.into()), None);
        let now = clock::now();
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO);
        let count = count.unwrap_or(0);
        for event in &events[..count] {
            let key = usize::try_from(event.data()).expect("a key");
            if let Some(end) = self.open[key].go_on() {
                let open = self.open.remove(key);
                self.enter(open, end);
            }
        }
        if count < EVENTS {
            self.looked = now;
        }
    }

    fn enter(&mut self, open: Open, end: io::Result<()>) {
        let refused = end.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        let now = clock::now();
        match judge(&open.received, open.nonce) {
            _ if refused => self.tally.refused += 1,
            Received::Whole(_) => {
                let latency = (now - open.came).as_micros();
                if now - open.came > self.plan.deadline {
                    self.tally.stranded.push(open.describe());
                }
                self.tally.answered += 1;
                self.tally
                    .latencies
                    .push(latency.try_into().unwrap_or(u32::MAX));
                self.tally.survived.extend(open.fault);
            }
            Received::Part => self.tally.losses.push(Loss {
                nonce: open.nonce,
                port: open.port,
                came: open.came,
                before: self.looked,
                ended: now,
            }),
            Received::Wrong => {
                let text = String::from_utf8_lossy(&open.received).into_owned();
                self.tally
                    .wrong
                    .push(format!("{}: {text:.200}", open.describe()));
            }
        }
    }
}

impl Open {
    /// Sends and reads what can be; how the connection ended, if it has.
    fn go_on(&mut self) -> Option<io::Result<()>> {
        while !self.request.is_empty() {
            match self.stream.write(&self.request) {
                Ok(count) => drop(self.request.drain(..count)),
                // An error is told once: to read would find an end and not why.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Some(Err(error));
                }
                // Under way still, or the end, which reading tells.
                Err(_) => break,
            }
        }
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Some(Ok(())),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn describe(&self) -> String {
        let Self {
            nonce,
            port,
            fault,
            came,
            ..
        } = self;
        let fault = fault.map_or("nothing", Fault::name);
        format!("nonce {nonce:x} from port {port}, come at {came:?}, asking for {fault}")
    }
}

/// Whether it is too early, and nothing worse: a connection under way is not connected yet.
fn is_passing(error: &io::Error) -> bool {
    let passing = [
        ErrorKind::WouldBlock,
        ErrorKind::Interrupted,
        ErrorKind::NotConnected,
    ];
    passing.contains(&error.kind())
}
