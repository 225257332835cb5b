//! The life of a pool: starting many children, a burst of connections, the replacement of a killed
//! child, the end; beside a bare loop of pipes and forks, in turn, in one run. `BENCH_QUICK=1` makes
//! it short.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

mod common;

use common::{ANSWER, Actor, REQUEST, answer, median, millis, pick, quantile, ratio};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    signal::{SigSet, Signal, kill},
    wait::waitpid,
};
use prefork_server::{
    Child, ChildId, Death, Flags, Monitor, PreFork, PreForkHooks, State, States, TcpServer,
    defaults, servers::TcpConn,
};
use std::{
    env,
    io::{self, PipeReader, Read, Write},
    net::TcpStream,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

fn main() {
    common::start(bench, play);
}

fn play(role: &[&str]) {
    let count = |at: usize| role[at].parse::<usize>().expect("a count");
    match role[0] {
        "bare" => bare(count(1)),
        "ours" => ours(count(1)),
        "holding" => holding(count(1)),
        "killing" => killing(count(1), count(2)),
        other => panic!("no role {other}"),
    }
}

// ---- The bare loop ----

/// Two pipes, for stdout and stderr, and a fork for each child, which writes one byte; then the end
/// of all. Nothing else of what a supervisor does: siblings' pipes stay open, nobody is watched.
fn bare(children: usize) {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.thread_block().expect("mask");
    let start = Instant::now();
    let born: Vec<_> = (0..children).map(|_| bare_child()).collect();
    for (_, [stdout, _]) in &born {
        let mut pipe = stdout;
        pipe.read_exact(&mut [0]).expect("the child's byte");
    }
    println!("{}", start.elapsed().as_nanos());
    stop.wait().expect("SIGTERM");
    for (child, _) in &born {
        kill(*child, Signal::SIGKILL).expect("kill");
    }
    for (child, _) in born {
        waitpid(child, None).expect("wait");
    }
}

fn bare_child() -> (nix::unistd::Pid, [PipeReader; 2]) {
    let (stdout, mut stdout_write) = io::pipe().expect("pipe");
    let (stderr, stderr_write) = io::pipe().expect("pipe");
    let child = common::bare_fork(|| {
        nix::unistd::dup2_stdout(&stdout_write).expect("dup2");
        nix::unistd::dup2_stderr(&stderr_write).expect("dup2");
        stdout_write.write_all(b"!").expect("write");
        loop {
            nix::unistd::pause();
        }
    });
    (child, [stdout, stderr])
}

// ---- Ours ----

/// Prints how long it took until every child of a fixed pool had sent its first word.
fn ours(children: usize) {
    let hooks = Firsts {
        wanted: children,
        start: Instant::now(),
    };
    let mut prefork = PreFork::builder(TcpServer::new(answer).max_requests(0))
        .hooks(hooks)
        .start_servers(children)
        .max_spare_servers(children)
        .max_clients(children)
        .start()
        .expect("start");
    prefork.hooks_mut().start = Instant::now();
    prefork.run().expect("run");
}

struct Firsts {
    wanted: usize,
    start: Instant,
}

impl PreForkHooks for Firsts {
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        if is_first(monitor, child) {
            self.wanted = self.wanted.saturating_sub(1);
            if self.wanted == 0 {
                let nanos = self.start.elapsed().as_nanos();
                monitor.print_stdout(nanos.to_string());
            }
        }
        defaults::server_ack(self, monitor, child);
    }
}

fn is_first(monitor: &Monitor, child: ChildId) -> bool {
    monitor
        .child(child)
        .is_some_and(|child| !child.flags().contains(Flags::ACKED))
}

/// Answers, and holds the connection until the client closes it.
fn holding(spare: usize) {
    let server = TcpServer::new(|conn: TcpConn| {
        answer(&conn)?;
        io::copy(&mut &conn, &mut io::sink()).map(drop)
    });
    let mut prefork = PreFork::builder(server.max_requests(0))
        .start_servers(spare)
        .min_spare_servers(spare)
        .max_spare_servers(2 * spare)
        .max_clients(1000)
        .start()
        .expect("start");
    println!("{}", prefork.server().local_addrs()[0].port());
    prefork.run().expect("run");
}

/// Kills its oldest child every now and then, without a word to the monitor, and prints the times
/// from the kill to the reaping and to the first word of the successor, in nanoseconds.
fn killing(children: usize, kills: usize) {
    let hooks = Killer {
        left: kills,
        killed: None,
        exited: None,
    };
    PreFork::builder(TcpServer::new(answer).max_requests(0))
        .hooks(hooks)
        .start_servers(children)
        .max_spare_servers(children)
        .max_clients(children)
        .run()
        .expect("run");
}

struct Killer {
    left: usize,
    killed: Option<Instant>,
    exited: Option<Instant>,
}

impl Killer {
    /// Every child has to be a second old when its turn comes: one that dies younger is taken for
    /// a start that has failed, and forking is slowed down.
    const FIRST: Duration = Duration::from_millis(1100);
    const EVERY: Duration = Duration::from_millis(25);
}

impl PreForkHooks for Killer {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        states.add("kill");
    }

    fn handler_state(&mut self, monitor: &mut Monitor, _state: &str) {
        let free = monitor
            .free_servers()
            .filter(|child| child.state() == State::Free);
        let Some(oldest) = free.min_by_key(|child| (child.start_time(), child.id())) else {
            return;
        };
        let victim = common::pid(oldest.pid());
        self.killed = Some(Instant::now());
        kill(victim, Signal::SIGKILL).expect("kill");
    }

    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        self.exited = Some(Instant::now());
        defaults::server_exited(self, monitor, child, death);
    }

    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        if is_first(monitor, child) {
            match (self.killed.take(), self.exited.take()) {
                (Some(killed), Some(exited)) => {
                    let reaped = exited.duration_since(killed).as_nanos();
                    let replaced = killed.elapsed().as_nanos();
                    monitor.print_stdout(format!("{reaped} {replaced}"));
                    self.left = self.left.saturating_sub(1);
                    if self.left > 0 {
                        monitor.delay_set("kill", Self::EVERY);
                    }
                }
                // The last of those that the pool begins with sets the clock anew.
                _ => {
                    monitor.alarm_remove_all();
                    monitor.delay_set("kill", Self::FIRST);
                }
            }
        }
        defaults::server_ack(self, monitor, child);
    }
}

// ---- The benchmark ----

fn bench() {
    println!("medians; ratios are medians of the ratios of each round");
    start_and_stop();
    if common::beside().is_some() {
        return;
    }
    burst();
    replacement();
}

#[derive(Default)]
struct Figures {
    start: Vec<f64>,
    stop: Vec<f64>,
    parent_cpu: Vec<f64>,
    child_cpu: Vec<f64>,
    memory: Vec<f64>,
}

fn start_and_stop() {
    let rounds = pick(7, 3);
    let sizes = [100, 1000, 2000];
    let own = env::current_exe().expect("our own path");
    // With another build beside this one, that is the one to compare with.
    let programs = match common::beside() {
        Some(other) => [("ours", other), ("ours", own)],
        None => [("bare", own.clone()), ("ours", own)],
    };
    let mut of_sizes = Vec::new();
    for size in sizes {
        let mut figures: [Figures; 2] = Default::default();
        for _ in 0..rounds {
            for ((role, program), figures) in programs.iter().zip(&mut figures) {
                let mut actor = Actor::spawn_from(program, &[role, &size.to_string()]);
                figures
                    .start
                    .push(common::numbers(&actor.line())[0] as f64 / 1e6);
                actor.settle(size);
                let tree = actor.tree();
                assert_eq!(tree.len(), size + 1, "the children that were asked for");
                let spent = |pids: &[u32]| {
                    let nanos: u64 = pids.iter().map(|&pid| common::cpu(pid)).sum();
                    nanos as f64 / 1000.0 / size as f64
                };
                figures.parent_cpu.push(spent(&tree[..1]));
                figures.child_cpu.push(spent(&tree[1..]));
                let memory: Vec<f64> = tree[1..]
                    .iter()
                    .take(50)
                    .map(|&pid| common::private_memory(pid) as f64)
                    .collect();
                figures.memory.push(median(&memory));
                figures.stop.push(millis(actor.terminate()));
            }
        }
        of_sizes.push((size, figures));
    }
    let per_child = |of: &Figures, size: usize| median(&of.start) * 1000.0 / size as f64;
    let (smallest, first) = &of_sizes[0];
    let (bare_unit, unit) = (
        per_child(&first[0], *smallest),
        per_child(&first[1], *smallest),
    );
    let rows: Vec<_> = of_sizes
        .iter()
        .map(|(size, [bare, ours])| {
            vec![
                size.to_string(),
                format!("{:.1}", median(&bare.start)),
                format!("{:.1}", median(&ours.start)),
                format!("{:.2}", ratio(&ours.start, &bare.start)),
                format!("{:.1}", quantile(&bare.start, 0.0)),
                format!("{:.1}", quantile(&ours.start, 0.0)),
                format!(
                    "{:.2}",
                    quantile(&ours.start, 0.0) / quantile(&bare.start, 0.0)
                ),
                format!("{:.0}", per_child(bare, *size)),
                format!("{:.0}", per_child(ours, *size)),
                format!("{:.2}", per_child(bare, *size) / bare_unit),
                format!("{:.2}", per_child(ours, *size) / unit),
            ]
        })
        .collect();
    common::table(
        "Start, until all children have said their first word",
        &[
            "children",
            "bare, ms",
            "ours, ms",
            "ratio",
            "bare, best round",
            "ours, best round",
            "ratio",
            "bare, µs a child",
            "ours, µs a child",
            "bare, to the smallest",
            "ours, to the smallest",
        ],
        &rows,
    );
    let rows: Vec<_> = of_sizes
        .iter()
        .map(|(size, [bare, ours])| {
            let figures = [
                &bare.parent_cpu,
                &bare.child_cpu,
                &ours.parent_cpu,
                &ours.child_cpu,
            ];
            let mut row = vec![size.to_string()];
            row.extend(figures.map(|figures| format!("{:.0}", median(figures))));
            row.push(format!(
                "{:.2}",
                (median(&ours.parent_cpu) + median(&ours.child_cpu))
                    / (median(&bare.parent_cpu) + median(&bare.child_cpu))
            ));
            row
        })
        .collect();
    common::table(
        "CPU time of the start, µs a child",
        &[
            "children",
            "bare, in the parent",
            "bare, in the child",
            "ours, in the parent",
            "ours, in the child",
            "ratio of the sums",
        ],
        &rows,
    );
    let rows: Vec<_> = of_sizes
        .iter()
        .map(|(size, [bare, ours])| {
            vec![
                size.to_string(),
                format!("{:.0}", median(&bare.memory)),
                format!("{:.0}", median(&ours.memory)),
                format!("{:.1}", median(&bare.stop)),
                format!("{:.1}", median(&ours.stop)),
                format!("{:.2}", ratio(&ours.stop, &bare.stop)),
            ]
        })
        .collect();
    common::table(
        "Private memory of an idle child, and the shutdown of all (bare: SIGKILL to each)",
        &[
            "children",
            "bare child, KiB",
            "our child, KiB",
            "bare stop, ms",
            "our stop, ms",
            "ratio",
        ],
        &rows,
    );
}

fn burst() {
    let (spare, connections) = (5, 200);
    let (mut bare, mut last, mut half) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pick(15, 3) {
        let mut actor = Actor::spawn(&["bare", &connections.to_string()]);
        bare.push(common::numbers(&actor.line())[0] as f64 / 1e6);
        drop(actor);
        let mut server = Actor::spawn(&["holding", &spare.to_string()]);
        let port = server.line().parse().expect("a port");
        server.settle(spare);
        let times = hold(port, connections);
        half.push(times[connections / 2]);
        last.push(times[connections - 1]);
    }
    let figures =
        |values: &[f64]| [0.5, 0.9, 1.0].map(|share| format!("{:.1}", quantile(values, share)));
    let row = |name: &str, values: &[f64], ratio: String| {
        let mut row = vec![name.to_owned()];
        row.extend(figures(values));
        row.push(ratio);
        row
    };
    common::table(
        &format!("A burst of {connections} held connections on {spare} idle children, ms"),
        &["", "p50", "p90", "max", "ratio"],
        &[
            row("bare loop, as many forks", &bare, "1.00".to_owned()),
            row(
                "half of them answered",
                &half,
                format!("{:.2}", ratio(&half, &bare)),
            ),
            row("all answered", &last, format!("{:.2}", ratio(&last, &bare))),
        ],
    );
}

/// Opens so many connections at once and keeps them: when each was answered, in order, in
/// milliseconds.
fn hold(port: u16, connections: usize) -> Vec<f64> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
    let start = Instant::now();
    let streams: Vec<TcpStream> = (0..connections)
        .map(|number| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
            stream.write_all(REQUEST).expect("write");
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, number as u64);
            epoll.add(&stream, event).expect("add");
            stream
        })
        .collect();
    let mut times = Vec::with_capacity(connections);
    let mut events = vec![EpollEvent::empty(); connections];
    while times.len() < connections {
        assert!(start.elapsed() < Duration::from_secs(30), "never answered");
        let count = epoll
            .wait(&mut events, EpollTimeout::from(1000_u16))
            .expect("wait");
        let now = millis(start.elapsed());
        for event in &events[..count] {
            let mut stream = &streams[usize::try_from(event.data()).expect("a number")];
            let mut buffer = [0; 512];
            assert_eq!(stream.read(&mut buffer).expect("read"), ANSWER.len());
            times.push(now);
        }
    }
    drop::<Vec<OwnedFd>>(streams.into_iter().map(OwnedFd::from).collect());
    // Until the children have seen the ends.
    thread::sleep(Duration::from_millis(50));
    times
}

fn replacement() {
    let (children, kills) = (100, pick(200, 30));
    let mut actor = Actor::spawn(&["killing", &children.to_string(), &kills.to_string()]);
    let (mut reaped, mut replaced) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        let line = common::numbers(&actor.line());
        reaped.push(line[0] as f64 / 1e6);
        replaced.push(line[1] as f64 / 1e6);
    }
    drop(actor);
    let row = |name: &str, values: &[f64]| {
        let mut row = vec![name.to_owned()];
        row.extend([0.5, 0.9, 0.99, 1.0].map(|share| format!("{:.2}", quantile(values, share))));
        row
    };
    common::table(
        &format!("Replacement of a killed child, {kills} kills among {children} children, ms"),
        &["from the kill to", "p50", "p90", "p99", "max"],
        &[
            row("the death known to the hooks", &reaped),
            row("the successor's first word", &replaced),
        ],
    );
}
