//! Connections a second and their price: this crate beside a bare program that forks and accepts and
//! has no monitor at all, in turn, in one run. `BENCH_QUICK=1` makes it short.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

mod common;

use common::{ANSWER, Actor, REQUEST, answer, median, pick, ratio};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, sockopt},
};
use prefork_server::{
    ChildServer, CommChannel, Monitor, PreFork, PreForkHooks, TcpServer, defaults,
};
use std::{
    env,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

fn main() {
    common::start(bench, play);
}

fn play(role: &[&str]) {
    let number = |at: usize| role[at].parse::<u64>().expect("a number");
    match role[0] {
        "floor" => floor(number(1)),
        "ours" => ours(Pool::Fixed(number(1)), CommChannel::Stdout),
        "private" => ours(Pool::Fixed(number(1)), CommChannel::Private),
        "dynamic" => ours(
            Pool::Dynamic(Duration::from_millis(number(1))),
            CommChannel::Stdout,
        ),
        "load" => load(
            u16::try_from(number(1)).expect("a port"),
            usize::try_from(number(2)).expect("a count"),
            Duration::from_millis(number(3)),
        ),
        other => panic!("no role {other}"),
    }
}

// ---- The servers ----

/// The floor: children that block in accept on one socket, and a parent that does nothing.
fn floor(children: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    for _ in 0..children {
        common::bare_fork(|| {
            loop {
                if let Ok((stream, _)) = listener.accept() {
                    let _ = answer(stream);
                }
            }
        });
    }
    println!("{}", listener.local_addr().expect("an address").port());
    common::until_stdin_ends();
}

enum Pool {
    Fixed(u64),
    /// The document's attributes, and this `cull_after`.
    Dynamic(Duration),
}

fn ours(pool: Pool, channel: CommChannel) {
    let server = TcpServer::new(answer).max_requests(0);
    let builder = PreFork::builder(server)
        .hooks(Counters)
        .comm_channel(channel)
        .timeout(Duration::from_secs(10));
    let builder = match pool {
        Pool::Fixed(children) => {
            let children = usize::try_from(children).expect("a count");
            builder
                .start_servers(children)
                .max_spare_servers(children.max(2))
                .max_clients(children)
        }
        Pool::Dynamic(cull_after) => builder.cull_after(cull_after),
    };
    let mut prefork = builder.start().expect("start");
    println!("{}", prefork.server().local_addrs()[0].port());
    prefork.run().expect("run");
}

/// Tells how many forks there have been, and how many words, when a byte comes on stdin.
struct Counters;

impl PreForkHooks for Counters {
    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        defaults::handler_start(self, monitor, server)?;
        monitor.select_read(io::stdin(), "tell").map(drop)
    }

    fn create_states(&mut self, states: &mut prefork_server::States) {
        defaults::create_states(self, states);
        states.add("tell");
    }

    fn handler_state(&mut self, monitor: &mut Monitor, _state: &str) {
        if !matches!(io::stdin().read(&mut [0]), Ok(1)) {
            return monitor.shutdown();
        }
        let report = monitor.report();
        let words = report.acks + report.busy + report.not_busy;
        let line = format!("{} {words}", report.forks);
        monitor.print_stdout(line);
    }
}

// ---- The load ----

/// One connection of the closed loop.
struct Client {
    socket: OwnedFd,
    began: Instant,
    answered: usize,
}

/// Latencies in microseconds, counted; nothing is allocated while the load runs.
struct Latencies {
    counts: Vec<u32>,
    total: u64,
}

impl Latencies {
    const LONGEST: usize = 1 << 20;

    fn new() -> Self {
        Self {
            counts: vec![0; Self::LONGEST],
            total: 0,
        }
    }

    fn note(&mut self, latency: Duration) {
        let micros = usize::try_from(latency.as_micros()).unwrap_or(usize::MAX);
        self.counts[micros.min(Self::LONGEST - 1)] += 1;
        self.total += 1;
    }

    fn quantile(&self, share: f64) -> usize {
        let wanted = (self.total as f64 * share) as u64;
        let mut seen = 0;
        self.counts
            .iter()
            .position(|&count| {
                seen += u64::from(count);
                seen > wanted
            })
            .unwrap_or(0)
    }
}

/// A closed loop: `clients` connections at any time, one request in each.
fn load(port: u16, clients: usize, time: Duration) {
    let address = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
    let mut latencies = Latencies::new();
    let mut failures = 0_u64;
    let mut slots: Vec<Client> = (0..clients)
        .map(|slot| connect(&epoll, &address, slot))
        .collect();
    let mut events = vec![EpollEvent::empty(); clients];
    let start = Instant::now();
    while start.elapsed() < time {
        let count = epoll.wait(&mut events, EpollTimeout::from(100_u8));
        for event in &events[..count.unwrap_or(0)] {
            let slot = usize::try_from(event.data()).expect("a slot");
            let client = &mut slots[slot];
            let mut buffer = [0; 512];
            let ended = match socket::recv(
                client.socket.as_raw_fd(),
                &mut buffer,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(0) => true,
                Ok(count) => {
                    client.answered += count;
                    if client.answered == ANSWER.len() {
                        latencies.note(client.began.elapsed());
                    }
                    event.events().contains(EpollFlags::EPOLLRDHUP)
                }
                Err(nix::Error::EAGAIN) => false,
                Err(_) => true,
            };
            if ended {
                failures += u64::from(client.answered != ANSWER.len());
                slots[slot] = connect(&epoll, &address, slot);
            }
        }
    }
    let elapsed = start.elapsed();
    println!(
        "{} {} {} {} {failures} {}",
        latencies.total,
        elapsed.as_micros(),
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        common::cpu(std::process::id()) / 1000,
    );
}

fn connect(epoll: &Epoll, address: &SockaddrIn, slot: usize) -> Client {
    let began = Instant::now();
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket =
        socket::socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("socket");
    // The close is a reset: neither side keeps a trace of the connection, and the ports last.
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    socket::setsockopt(&socket, sockopt::Linger, &at_once).expect("linger");
    socket::connect(socket.as_raw_fd(), address).expect("connect");
    socket::send(socket.as_raw_fd(), REQUEST, MsgFlags::MSG_NOSIGNAL).expect("send");
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
    epoll
        .add(&socket, EpollEvent::new(flags, slot as u64))
        .expect("add");
    Client {
        socket,
        began,
        answered: 0,
    }
}

// ---- The benchmark ----

/// What one run of the load against one server has shown.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    cpu: Vec<f64>,
    parent: Vec<f64>,
    switches: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    forks: Vec<f64>,
    words: Vec<f64>,
    client: Vec<f64>,
    children: Vec<f64>,
}

impl Figures {
    /// Runs the load once and adds what it showed. `counts`: the server tells forks and words.
    fn add(
        &mut self,
        server: &mut Actor,
        port: &str,
        clients: usize,
        time: Duration,
        counts: bool,
    ) {
        let before = server.tree();
        let parent = server.pid();
        let cpu = |tree: &[u32]| tree.iter().map(|&pid| common::cpu(pid)).sum::<u64>();
        let switched = |tree: &[u32]| tree.iter().map(|&pid| common::switches(pid)).sum::<u64>();
        let told = counts.then(|| server.ask());
        let cpu_before = cpu(&before) + common::cpu_of_reaped(parent);
        let (switches_before, parent_before) = (switched(&before), common::cpu(parent));
        let (clients, time) = (clients.to_string(), time.as_millis().to_string());
        let mut load = Actor::spawn(&["load", port, &clients, &time]);
        let line = common::numbers(&load.line());
        let after = server.tree();
        let cpu_after = cpu(&after) + common::cpu_of_reaped(parent);
        let (switches_after, parent_after) = (switched(&after), common::cpu(parent));
        let [connections, micros, p50, p99, failures, client] = line[..] else {
            panic!("the load said {line:?}");
        };
        assert_eq!(failures, 0, "connections without an answer");
        let (connections, seconds) = (connections as f64, micros as f64 / 1e6);
        self.rate.push(connections / seconds);
        self.cpu
            .push(cpu_after.saturating_sub(cpu_before) as f64 / 1000.0 / connections);
        self.parent
            .push((parent_after - parent_before) as f64 / 1e7 / seconds);
        self.switches
            .push(switches_after.saturating_sub(switches_before) as f64 / connections);
        self.client.push(client as f64 / connections);
        self.p50.push(p50 as f64);
        self.p99.push(p99 as f64);
        self.children.push((after.len() - 1) as f64);
        if let Some(told) = told {
            let now = server.ask();
            self.forks.push((now[0] - told[0]) as f64 / seconds);
            self.words.push((now[1] - told[1]) as f64 / connections);
        }
    }

    fn row(&self, name: &str, floor: &Self) -> Vec<String> {
        vec![
            name.to_owned(),
            format!("{:.0}", median(&self.rate)),
            format!("{:.3}", ratio(&self.rate, &floor.rate)),
            format!("{:.0}", best(&self.rate)),
            format!("{:.3}", best(&self.rate) / best(&floor.rate)),
            format!("{:.1}", median(&self.cpu)),
            format!("{:.3}", ratio(&self.cpu, &floor.cpu)),
            format!("{:.1}", median(&self.client)),
            format!("{:.2}", median(&self.parent)),
            format!("{:.2}", median(&self.switches)),
            if self.words.is_empty() {
                String::new()
            } else {
                format!("{:.2}", median(&self.words))
            },
            format!("{:.0}", median(&self.p50)),
            format!("{:.0}", median(&self.p99)),
        ]
    }
}

/// The round that was disturbed least: the machine may have other work.
fn best(rates: &[f64]) -> f64 {
    common::quantile(rates, 1.0)
}

const HEAD: &[&str] = &[
    "server",
    "conn/s",
    "ratio",
    "best conn/s",
    "ratio",
    "server CPU µs/conn",
    "ratio",
    "client CPU µs/conn",
    "parent, % of a core",
    "switches/conn",
    "words/conn",
    "p50 µs",
    "p99 µs",
];

fn bench() {
    // BENCH_ROUNDS and BENCH_MILLIS for those who have more or less time than that.
    let from_env = |name: &str| env::var(name).ok().and_then(|value| value.parse().ok());
    let rounds = from_env("BENCH_ROUNDS").unwrap_or(pick(15, 3));
    let time = Duration::from_millis(from_env("BENCH_MILLIS").unwrap_or(pick(600, 300)));
    println!("{rounds} rounds of {} ms, medians", time.as_millis());
    let sizes: &[(usize, usize)] = pick(
        &[(20, 16), (20, 64), (20, 1), (200, 16), (200, 64)],
        &[(20, 16), (20, 64)],
    );
    for &(children, clients) in sizes {
        fixed(children, clients, rounds, time);
    }
    if common::beside().is_some() {
        return;
    }
    dynamic(16, rounds, time);
    if !common::quick() {
        dynamic(1, rounds, time);
        dynamic(64, rounds, time);
    }
}

fn fixed(children: usize, clients: usize, rounds: u64, time: Duration) {
    let own = env::current_exe().expect("our own path");
    let mut servers = [
        ("floor", "floor", own.clone()),
        ("ours", "ours", own.clone()),
        ("private", "ours, private channel", own),
    ];
    if let Some(other) = common::beside() {
        servers[2] = ("ours", "ours, the other build", other);
    }
    let mut figures: [Figures; 3] = Default::default();
    for _ in 0..rounds {
        for ((role, _, program), figures) in servers.iter().zip(&mut figures) {
            let mut server = Actor::spawn_from(program, &[role, &children.to_string()]);
            let port = server.line();
            server.settle(children);
            figures.add(&mut server, &port, clients, time, *role != "floor");
        }
    }
    let rows: Vec<_> = servers
        .iter()
        .zip(&figures)
        .map(|((_, name, _), own)| own.row(name, &figures[0]))
        .collect();
    common::table(
        &format!("{children} children, {clients} clients"),
        HEAD,
        &rows,
    );
}

/// The pool as the document's attributes have it: how often it forks, and what that costs.
fn dynamic(clients: usize, rounds: u64, time: Duration) {
    let servers = [
        (["ours", "20"], "fixed, 20 children"),
        (["dynamic", "1000"], "document's, cull_after 1 s"),
        (["dynamic", "0"], "document's, cull_after 0"),
    ];
    let mut figures: [Figures; 3] = Default::default();
    for _ in 0..rounds {
        for ((role, _), figures) in servers.iter().zip(&mut figures) {
            let mut server = Actor::spawn(role);
            let port = server.line();
            server.settle(1);
            // Until it has settled.
            let mut warm = Figures::default();
            warm.add(&mut server, &port, clients, pick(2 * time, time), false);
            figures.add(&mut server, &port, clients, time, true);
        }
    }
    let rows: Vec<_> = servers
        .iter()
        .zip(&figures)
        .map(|((_, name), own)| {
            vec![
                (*name).to_owned(),
                format!("{:.0}", median(&own.rate)),
                format!("{:.3}", ratio(&own.rate, &figures[0].rate)),
                format!("{:.1}", median(&own.forks)),
                format!("{:.1}", own.forks.iter().copied().fold(0.0, f64::max)),
                format!("{:.0}", median(&own.children)),
                format!("{:.1}", median(&own.cpu)),
                format!("{:.2}", median(&own.parent)),
                format!("{:.0}", median(&own.p99)),
            ]
        })
        .collect();
    common::table(
        &format!("The document's default attributes, {clients} clients"),
        &[
            "pool",
            "conn/s",
            "ratio",
            "forks/s",
            "most",
            "children",
            "server CPU µs/conn",
            "parent, % of a core",
            "p99 µs",
        ],
        &rows,
    );
}
