//! The load: one process with epoll that allocates nothing per request; a closed loop for
//! throughput, a fixed arrival rate for latency. Of the servers it knows only the port.

mod latencies;

use self::latencies::Latencies;
use super::{
    numbers, proc, servers,
    wire::{BODY, LAST_REQUEST, REQUEST, signature},
};
use crate::common::actor::Actor;
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, sockopt},
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use nix::unistd::Uid;
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

/// The load for a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// The port of the server; filled in by its owner.
    pub(crate) port: u16,
    /// Concurrent connections: always this many in the closed loop, at most this many in the open
    /// one.
    pub(crate) clients: usize,
    pub(crate) time: Duration,
    /// How long it runs before anything is counted: a pool that was idle has to warm up.
    pub(crate) lead: Duration,
    /// Requests on a connection; 0 if the server answers without a request.
    pub(crate) requests: u64,
    /// Connections per second, whether or not earlier ones have been answered; 0 is the closed
    /// loop.
    pub(crate) rate: u64,
    /// Whether it has priority over all processes on its core, as far as the user may set that.
    pub(crate) urgent: bool,
}

/// What the load measured. Latencies in microseconds: from before `connect` (in the open loop: from
/// when the connection was due) to the last byte of the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) answers: f64,
    /// With those that came before anything was counted, and the time that it took.
    pub(crate) all_answers: f64,
    pub(crate) all_seconds: f64,
    pub(crate) connections: f64,
    pub(crate) seconds: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    pub(crate) failures: u64,
    pub(crate) client_cpu_micros: f64,
    /// Of signed answers: how many children gave one, how many the busiest gave, and its pid.
    pub(crate) children: u64,
    pub(crate) busiest: f64,
    pub(crate) busiest_pid: u32,
}

impl Load {
    /// Starts a process that does this.
    pub(crate) fn spawn(&self) -> Actor {
        let millis = |time: Duration| u64::try_from(time.as_millis()).expect("a short time");
        let numbers = [
            u64::from(self.port),
            self.clients as u64,
            millis(self.time),
            self.requests,
            self.rate,
            millis(self.lead),
        ];
        let words = numbers.map(|number| number.to_string());
        let mut role = vec!["load"];
        role.extend(words.iter().map(String::as_str));
        if self.urgent && Uid::effective().is_root() {
            Actor::spawn_nice(-20, &servers::program(), &role)
        } else {
            Actor::spawn(&role)
        }
    }

    fn parse(role: &[&str]) -> Self {
        let numbers = numbers(&role.join(" "));
        let [port, clients, millis, requests, rate, lead] = numbers[..] else {
            panic!("what load is {role:?}?");
        };
        Self {
            port: u16::try_from(port).expect("a port"),
            clients: usize::try_from(clients).expect("a count"),
            time: Duration::from_millis(millis),
            requests,
            rate,
            lead: Duration::from_millis(lead),
            urgent: false,
        }
    }
}

impl Outcome {
    /// Waits until the process counts.
    pub(crate) fn begins(load: &mut Actor) {
        assert_eq!(load.line(), COUNTING);
    }

    /// The result that the process prints.
    pub(crate) fn of(load: &mut Actor) -> Self {
        let line = numbers(&load.line());
        let [
            answers,
            all_answers,
            all_micros,
            connections,
            micros,
            p50,
            p99,
            p999,
            max,
            failures,
            cpu,
            children,
            busiest,
            pid,
        ] = line[..]
        else {
            panic!("the load said {line:?}");
        };
        Self {
            answers: answers as f64,
            all_answers: all_answers as f64,
            all_seconds: all_micros as f64 / 1e6,
            connections: connections as f64,
            seconds: micros as f64 / 1e6,
            p50: p50 as f64,
            p99: p99 as f64,
            p999: p999 as f64,
            max: max as f64,
            failures,
            client_cpu_micros: cpu as f64 / 1000.0,
            children,
            busiest: busiest as f64,
            busiest_pid: u32::try_from(pid).expect("a pid"),
        }
    }
}

/// What the process says when it begins to count, if it has not from the start.
const COUNTING: &str = "counting";

/// The role of the process.
pub(crate) fn play(role: &[&str]) {
    let load = Load::parse(role);
    let mut generator = Generator::new(&load);
    let began = Instant::now();
    let mut cpu = 0;
    let mut uncounted = 0;
    if load.lead > Duration::ZERO {
        generator.run(load.lead);
        uncounted = generator.latencies.total;
        generator.forget();
        cpu = proc::cpu(std::process::id());
        println!("{COUNTING}");
    }
    let elapsed = generator.run(load.time);
    let in_all = began.elapsed();
    let latencies = &generator.latencies;
    let served = &generator.served;
    let busiest = served.iter().enumerate().max_by_key(|(_, count)| **count);
    let (pid, busiest) = busiest.unwrap_or((0, &0));
    println!(
        "{} {} {} {} {} {} {} {} {} {} {} {} {busiest} {pid}",
        latencies.total,
        latencies.total + uncounted,
        in_all.as_micros(),
        generator.connections,
        elapsed.as_micros(),
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        latencies.quantile(1.0),
        generator.failures,
        proc::cpu(std::process::id()) - cpu,
        served.iter().filter(|count| **count > 0).count(),
    );
}

/// A client: one connection at a time, again and again.
struct Client {
    socket: Option<OwnedFd>,
    began: Instant,
    buffer: [u8; 1024],
    length: usize,
    /// Requests that are still to be sent.
    left: u64,
    answered: bool,
    /// The last answer has come, and the end of the connection is what is left.
    over: bool,
}

struct Generator {
    load: Load,
    address: SockaddrIn,
    epoll: Epoll,
    clients: Vec<Client>,
    idle: Vec<usize>,
    latencies: Latencies,
    /// By pid, of the children that sign their answers.
    served: Vec<u32>,
    connections: u64,
    failures: u64,
}

/// What the timer's events are known by.
const TIMER: u64 = u64::MAX;
/// No pid is greater.
const PIDS: usize = 1 << 22;
/// After this many failures there is no server.
const TOO_MANY: u64 = 10_000;

impl Generator {
    fn new(load: &Load) -> Self {
        let clients = (0..load.clients).map(|_| Client {
            socket: None,
            began: Instant::now(),
            buffer: [0; 1024],
            length: 0,
            left: 0,
            answered: false,
            over: false,
        });
        Self {
            load: *load,
            address: SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, load.port)),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll"),
            clients: clients.collect(),
            idle: (0..load.clients).rev().collect(),
            latencies: Latencies::new(),
            served: vec![0; PIDS],
            connections: 0,
            failures: 0,
        }
    }

    /// Begins to count anew.
    fn forget(&mut self) {
        self.latencies.forget();
        self.served.fill(0);
        self.connections = 0;
    }

    /// Connections that are under way in the end go on in the next run.
    fn run(&mut self, time: Duration) -> Duration {
        let timer = (self.load.rate > 0).then(|| self.timer());
        let mut events = vec![EpollEvent::empty(); self.load.clients + 1];
        let start = Instant::now();
        let mut due = Duration::ZERO;
        while start.elapsed() < time && self.failures < TOO_MANY {
            match &timer {
                Some(_) => {
                    let interval = Duration::from_nanos(1_000_000_000 / self.load.rate);
                    while due <= start.elapsed() && !self.idle.is_empty() {
                        self.connect(start + due);
                        due += interval;
                    }
                }
                None => {
                    for _ in 0..self.idle.len() {
                        self.connect(Instant::now());
                    }
                }
            }
            let count = self.epoll.wait(&mut events, EpollTimeout::from(100_u8));
            for event in &events[..count.unwrap_or(0)] {
                match (event.data(), &timer) {
                    (TIMER, Some(timer)) => timer.wait().expect("the timer"),
                    (slot, _) => {
                        self.attend(usize::try_from(slot).expect("a slot"), event.events());
                    }
                }
            }
        }
        start.elapsed()
    }

    /// Wakes the process whenever a connection is due; epoll's own timeout has milliseconds only.
    fn timer(&self) -> TimerFd {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).expect("a timer");
        let interval = Duration::from_nanos(1_000_000_000 / self.load.rate);
        let every = Expiration::Interval(TimeSpec::from_duration(interval));
        timer.set(every, TimerSetTimeFlags::empty()).expect("set");
        let event = EpollEvent::new(EpollFlags::EPOLLIN, TIMER);
        self.epoll.add(&timer, event).expect("add");
        timer
    }

    /// Has an idle client begin a connection that is, or was, due at `began`.
    fn connect(&mut self, began: Instant) {
        let Some(slot) = self.idle.pop() else { return };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket::socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("socket");
        // The close is a reset: neither side keeps a trace of the connection, and the ports last.
        let at_once = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        socket::setsockopt(&socket, sockopt::Linger, &at_once).expect("linger");
        match socket::connect(socket.as_raw_fd(), &self.address) {
            // On loopback it has come about all the same, unless the server's queue is full.
            Ok(()) | Err(nix::Error::EINPROGRESS) => {}
            Err(_) => {
                self.failures += 1;
                self.idle.push(slot);
                return;
            }
        }
        let client = &mut self.clients[slot];
        client.began = began;
        client.length = 0;
        client.left = self.load.requests;
        client.answered = false;
        client.over = false;
        let unsent = client.left > 0 && !client.send(&socket);
        let mut flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        flags.set(EpollFlags::EPOLLOUT, unsent);
        let event = EpollEvent::new(flags, slot as u64);
        self.epoll.add(&socket, event).expect("add");
        client.socket = Some(socket);
        self.connections += 1;
    }

    fn attend(&mut self, slot: usize, events: EpollFlags) {
        let client = &mut self.clients[slot];
        // An event of a connection that ended earlier in the same batch.
        let Some(socket) = client.socket.take() else {
            return;
        };
        if events.contains(EpollFlags::EPOLLOUT) && client.send(&socket) {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
            let mut event = EpollEvent::new(flags, slot as u64);
            self.epoll.modify(&socket, &mut event).expect("modify");
        }
        let room = &mut client.buffer[client.length..];
        let ended = match socket::recv(socket.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => true,
            Ok(count) => {
                client.length += count;
                if client.buffer[..client.length].ends_with(BODY.as_bytes()) {
                    self.latencies.note(client.began.elapsed());
                    let answer = &client.buffer[..client.length];
                    self.failures += u64::from(!is_ok(answer));
                    if let Some(pid) = signature(answer) {
                        self.served[pid.min(PIDS - 1)] += 1;
                    }
                    client.answer_came(&socket);
                }
                events.contains(EpollFlags::EPOLLRDHUP) || client.length == client.buffer.len()
            }
            Err(nix::Error::EAGAIN) => false,
            Err(_) => true,
        };
        if ended {
            // A server may close a connection that was to be kept, but not before any answer, and
            // not in the midst of one.
            let cut_short = !client.over && (client.length > 0 || !client.answered);
            self.failures += u64::from(cut_short);
            self.idle.push(slot);
        } else {
            client.socket = Some(socket);
        }
    }
}

impl Client {
    /// Whether the next request could be sent.
    fn send(&mut self, socket: &OwnedFd) -> bool {
        let request = if self.left == 1 {
            LAST_REQUEST
        } else {
            REQUEST
        };
        let sent = socket::send(socket.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL);
        match sent {
            Ok(count) => assert_eq!(count, request.len(), "a request in one piece"),
            Err(nix::Error::EAGAIN) => return false,
            // The end of the connection will be seen by the next recv.
            Err(_) => {}
        }
        self.left -= 1;
        true
    }

    fn answer_came(&mut self, socket: &OwnedFd) {
        self.answered = true;
        self.over = self.left == 0 || says_close(&self.buffer[..self.length]);
        if !self.over {
            self.length = 0;
            self.began = Instant::now();
            let _ = self.send(socket);
        }
    }
}

fn is_ok(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ") || answer.starts_with(b"HTTP/1.0 200 ")
}

/// Whether the server will keep the connection no longer.
fn says_close(answer: &[u8]) -> bool {
    let close = b"onnection: close";
    answer.windows(close.len()).any(|part| part == close)
}
