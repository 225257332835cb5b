//! The servers under test that the benchmark starts itself: the bare floor, this crate, and the
//! crate `prefork`; each with the same handler. A server prints its port first, and measures
//! nothing.

use super::{actor::Actor, bare_fork, die_with, from_env, until_stdin_ends, wire};
use nix::{
    sys::{
        signal::Signal,
        socket::{Backlog, listen},
    },
    unistd::{Pid, getppid},
};
use prefork_server::{
    ChildServer, CommChannel, ExecServer, Monitor, PreFork, PreForkHooks, States, StatusAddress,
    TcpServer, defaults,
    servers::{AcceptOrder, Listen},
};
use std::{
    env,
    hint::black_box,
    io::{self, Read, Write},
    net::TcpListener,
    path::PathBuf,
    process,
    time::Duration,
};

/// The roles of this module; false for another one.
pub(crate) fn play(role: &[&str]) -> bool {
    let number = |at: usize| role[at].parse::<u64>().expect("a number");
    let work = || Work::parse(role.get(2).copied().filter(|word| !ORDERS.contains(word)));
    let fixed = |children| Pool::Fixed(usize::try_from(children).expect("a count"));
    let order = match role.last() {
        Some(&"oldest-first") => Some(AcceptOrder::OldestFirst),
        Some(&"in-turn") => Some(AcceptOrder::InTurn),
        _ => None,
    };
    let server = |work, max_requests| Ours {
        work,
        max_requests,
        order,
        channel: CommChannel::Stdout,
        status: None,
        queue_time: false,
    };
    let signed = Work::Signed(0);
    match role[0] {
        "floor" => floor(number(1), work()),
        "crate" => other_crate(u32::try_from(number(1)).expect("a count")),
        "ours" => server(work(), 0).run(&fixed(number(1))),
        "private" => Ours {
            channel: CommChannel::Private,
            ..server(work(), 0)
        }
        .run(&fixed(number(1))),
        "watched" | "timed" => Ours {
            status: Some(StatusAddress::unix(role[2])),
            queue_time: role[0] == "timed",
            ..server(Work::Answer, 0)
        }
        .run(&fixed(number(1))),
        "dynamic" => {
            let cull_after = Duration::from_millis(number(1));
            server(work(), 0).run(&Pool::Dynamic(cull_after));
        }
        "programs" => programs(number(1), number(2), &role[3..]),
        "mortal" => server(signed, number(2)).run(&fixed(number(1))),
        "surplus" => {
            let children = usize::try_from(number(1)).expect("a count");
            server(signed, 0).run(&Pool::Surplus(children));
        }
        _ => return false,
    }
    true
}

/// As many children, each of which runs `program`, at a port that was chosen for it.
fn programs(port: u64, children: u64, program: &[&str]) {
    let children = usize::try_from(children).expect("a count");
    let server = ExecServer::new(program[0])
        .args(program[1..].iter().copied())
        .listen(Listen::tcp(format!("127.0.0.1:{port}")));
    PreFork::builder(server)
        .start_servers(children)
        .min_spare_servers(children)
        .max_clients(children)
        .timeout(Duration::from_secs(10))
        .run()
        .expect("a server");
}

/// The names of the orders in which idle children may be chosen, as the last word of a role.
pub(crate) const ORDERS: [&str; 2] = ["oldest-first", "in-turn"];

/// A server of this file that runs in a process of its own.
pub(crate) fn own(role: &[&str]) -> Actor {
    Actor::spawn_from(&program(), role)
}

pub(crate) fn program() -> PathBuf {
    env::current_exe().expect("our own path")
}

/// What a child does with a connection.
#[derive(Clone, Copy, Debug)]
enum Work {
    Answer,
    /// Answers without having been asked.
    Greet,
    /// Reads and writes so many KiB of its own, and answers with its pid.
    Signed(usize),
}

impl Work {
    fn parse(word: Option<&str>) -> Self {
        match word {
            None => Self::Answer,
            Some("greet") => Self::Greet,
            Some("signed") => Self::Signed(0),
            Some(other) => {
                let kib = other
                    .strip_prefix("signed-")
                    .and_then(|kib| kib.parse().ok());
                Self::Signed(kib.unwrap_or_else(|| panic!("no work {other}")))
            }
        }
    }

    /// What the child that calls this does it with.
    fn begin(self) -> Worker {
        Worker {
            work: self,
            text: wire::signed(process::id()),
            memory: match self {
                Self::Signed(kib) => vec![1; kib * 1024 / size_of::<u64>()],
                _ => Vec::new(),
            },
        }
    }
}

struct Worker {
    work: Work,
    text: Vec<u8>,
    memory: Vec<u64>,
}

impl Worker {
    fn serve(&mut self, stream: impl Read + Write) -> io::Result<()> {
        match self.work {
            Work::Answer => wire::answer(stream),
            Work::Greet => wire::greet(stream),
            Work::Signed(_) => {
                // A word of each line of the cache.
                for word in self.memory.iter_mut().step_by(8) {
                    *word = black_box(*word).wrapping_mul(3);
                }
                wire::answer_with(stream, &self.text)
            }
        }
    }
}

/// The floor: children that block in accept on one socket, and a parent that does nothing.
fn floor(children: u64, work: Work) {
    let listener = listener();
    for _ in 0..children {
        bare_fork(|| accept_for_ever(&listener, work));
    }
    println!("{}", listener.local_addr().expect("an address").port());
    until_stdin_ends();
}

/// With a backlog as long as that of this crate: std's is 128, and of 500 clients those that do not
/// fit would retry after a second.
fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let as_ours = Backlog::new(1024).expect("a backlog");
    listen(&listener, as_ours).expect("listen");
    listener
}

fn accept_for_ever(listener: &TcpListener, work: Work) {
    let mut worker = work.begin();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            let _ = worker.serve(stream);
        }
    }
}

/// The crate `prefork`: forks, and waits for its children.
fn other_crate(children: u32) {
    let listener = listener();
    println!("{}", listener.local_addr().expect("an address").port());
    let parent = Pid::this();
    prefork::Prefork::from_resource(listener)
        .with_num_processes(children)
        .with_init(move |_, listener: TcpListener| {
            die_with(Signal::SIGKILL, parent);
            assert_eq!(getppid(), parent);
            accept_for_ever(&listener, Work::Answer);
        })
        .fork()
        .expect("fork");
}

enum Pool {
    Fixed(usize),
    /// The document's attributes, and this `cull_after`.
    Dynamic(Duration),
    /// Starts this many children, half of them surplus; the other attributes are the document's.
    Surplus(usize),
}

/// A server of this crate.
struct Ours {
    work: Work,
    max_requests: u64,
    /// The accept order; `None`: the crate's default.
    order: Option<AcceptOrder>,
    channel: CommChannel,
    status: Option<StatusAddress>,
    queue_time: bool,
}

impl Ours {
    fn run(self, pool: &Pool) {
        let Self {
            work,
            max_requests,
            order,
            channel,
            status,
            queue_time,
        } = self;
        let mut server = match work {
            Work::Answer => TcpServer::new(wire::answer),
            _ => TcpServer::per_child(move || Ok(work.begin()))
                .serve(|worker, conn| worker.serve(conn)),
        };
        server = server.queue_time(queue_time);
        if let Some(order) = order {
            server = server.accept_order(order);
        }
        let builder = PreFork::builder(server.max_requests(max_requests))
            .hooks(Counters)
            .busy_timeout(Duration::from_millis(from_env("BENCH_BUSY_TIMEOUT", 0)))
            .comm_channel(channel);
        let builder = match status {
            Some(address) => builder.status(address),
            None => builder,
        };
        // The ACKs of an interval would be counted as wake-ups.
        let builder = match work {
            Work::Greet => builder,
            _ => builder.timeout(Duration::from_secs(10)),
        };
        let builder = match *pool {
            Pool::Fixed(children) => builder
                .start_servers(children)
                .max_spare_servers(children.max(2))
                .max_clients(children),
            Pool::Dynamic(cull_after) => builder.cull_after(cull_after),
            Pool::Surplus(children) => builder
                .start_servers(children)
                .max_spare_servers(children / 2)
                .max_clients(children),
        };
        let mut prefork = builder.start().expect("start");
        println!("{}", prefork.server().local_addrs()[0].port());
        prefork.run().expect("run");
    }
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

    fn create_states(&mut self, states: &mut States) {
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
