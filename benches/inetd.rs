//! A program for each connection: `prefork inetd -- cat` compared with other servers of that kind
//! that are installed, in turn, in one run. First `cargo build --release --features cli --bin
//! prefork`. `BENCH_QUICK=1` makes it short.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]

use nix::sys::{
    resource::{UsageWho, getrusage},
    signal::{Signal, kill},
    time::TimeValLike,
};
use std::{
    env, fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const REQUEST: &[u8] = b"hello\n";

/// A server, with the way to start it.
struct Contestant {
    name: &'static str,
    command: fn(SocketAddr) -> Option<Command>,
}

const CONTESTANTS: [Contestant; 4] = [
    Contestant {
        name: "prefork inetd",
        command: prefork,
    },
    Contestant {
        name: "tcpserver",
        command: tcpserver,
    },
    Contestant {
        name: "xinetd",
        command: xinetd,
    },
    Contestant {
        name: "systemd-socket-activate",
        command: systemd,
    },
];

/// The results of one round.
#[derive(Clone, Copy)]
struct Round {
    rate: f64,
    /// µs of CPU time a connection, of the server and all of its processes.
    cpu: f64,
    p50: f64,
    p99: f64,
}

fn main() {
    if !env::args().any(|arg| arg == "--bench") {
        println!("this is a benchmark: run it with `cargo bench -p benchmarks --bench inetd`");
        return;
    }
    let quick = env::var_os("BENCH_QUICK").is_some_and(|value| value != "0");
    let (rounds, time) = if quick { (1, 500) } else { (7, 2000) };
    println!("{rounds} rounds of {time} ms; medians\n");
    println!("| clients | server | connections/s | CPU µs a connection | p50 µs | p99 µs |");
    println!("|---|---|---|---|---|---|");
    for clients in [1, 16] {
        let mut results: Vec<Vec<Round>> = CONTESTANTS.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (contestant, results) in CONTESTANTS.iter().zip(&mut results) {
                results.extend(contestant.round(clients, Duration::from_millis(time)));
            }
        }
        for (contestant, rounds) in CONTESTANTS.iter().zip(&results) {
            print(clients, contestant.name, rounds);
        }
    }
}

fn print(clients: usize, name: &str, rounds: &[Round]) {
    if rounds.is_empty() {
        return println!("| {clients} | {name} | not installed | | | |");
    }
    let median = |of: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "| {clients} | {name} | {:.0} | {:.0} | {:.0} | {:.0} |",
        median(|round| round.rate),
        median(|round| round.cpu),
        median(|round| round.p50),
        median(|round| round.p99)
    );
}

impl Contestant {
    /// Starts the server, loads it, and ends it; then its CPU time is known, to the last process.
    fn round(&self, clients: usize, time: Duration) -> Option<Round> {
        let address = free_address();
        let mut command = (self.command)(address)?;
        let null = [Stdio::null(), Stdio::null(), Stdio::null()];
        let [stdin, stdout, stderr] = null;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let mut server = command.spawn().ok()?;
        until_it_answers(address);
        let before = cpu_of_children();
        let start = Instant::now();
        let mut times = load(address, clients, time);
        let took = start.elapsed();
        end(&mut server);
        let cpu = (cpu_of_children() - before) as f64;
        times.sort();
        let micros = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
        let count = times.len() as f64;
        Some(Round {
            rate: count / took.as_secs_f64(),
            cpu: cpu / count,
            p50: micros(50),
            p99: micros(99),
        })
    }
}

/// CPU time of all processes that were reaped, in µs.
fn cpu_of_children() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    (usage.user_time() + usage.system_time()).num_microseconds()
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

fn until_it_answers(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(address).is_err() {
        assert!(Instant::now() < deadline, "no answer from {address}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// How long each connection of some clients took, which connect again and again for `time`.
fn load(address: SocketAddr, clients: usize, time: Duration) -> Vec<Duration> {
    let client = move || {
        let end = Instant::now() + time;
        let mut times = Vec::new();
        while Instant::now() < end {
            times.push(ask(address).expect("an answer"));
        }
        times
    };
    let clients: Vec<_> = (0..clients).map(|_| thread::spawn(client)).collect();
    let times = clients
        .into_iter()
        .map(|client| client.join().expect("times"));
    times.flatten().collect()
}

fn ask(address: SocketAddr) -> std::io::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(REQUEST)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer != REQUEST {
        return Err(std::io::Error::other(format!("answered {answer:?}")));
    }
    Ok(start.elapsed())
}

fn end(server: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(server.id().cast_signed());
    kill(pid, Signal::SIGTERM).expect("a signal");
    server.wait().expect("its end");
}

/// A program in PATH, or where Debian has those for root.
fn installed(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut files = folders.map(|folder| folder.join(name));
    files.find(|file| file.exists())
}

fn prefork(address: SocketAddr) -> Option<Command> {
    let own = env::current_exe().expect("the path of this benchmark");
    let file = own.parent()?.parent()?.join("prefork");
    assert!(
        file.exists(),
        "first: cargo build --release --features cli --bin prefork"
    );
    let mut command = Command::new(file);
    command.args(["inetd", "--listen", &address.to_string()]);
    command.args(["--max-clients", "64", "--spare", "4..20", "--", "cat"]);
    Some(command)
}

fn tcpserver(address: SocketAddr) -> Option<Command> {
    let mut command = Command::new(installed("tcpserver")?);
    command.args(["-c", "64", "-b", "1024", "-H", "-R", "-l", "0"]);
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    command.args([&ip, &port, "cat"]);
    Some(command)
}

fn systemd(address: SocketAddr) -> Option<Command> {
    let mut command = Command::new(installed("systemd-socket-activate")?);
    command.args(["--accept", "--inetd", "-l", &address.to_string(), "cat"]);
    Some(command)
}

fn xinetd(address: SocketAddr) -> Option<Command> {
    let file = env::temp_dir().join(format!("bench-xinetd-{}.conf", std::process::id()));
    let text = format!(
        "service bench\n{{\n type = UNLISTED\n socket_type = stream\n protocol = tcp\n wait = no\n \
         user = root\n bind = {}\n port = {}\n server = {}\n instances = UNLIMITED\n \
         per_source = UNLIMITED\n cps = 1000000 1\n}}\n",
        address.ip(),
        address.port(),
        installed("cat")?.display()
    );
    let program = installed("xinetd")?;
    fs::write(&file, text).expect("a configuration");
    let mut command = Command::new(program);
    command.args(["-dontfork", "-f"]).arg(file);
    Some(command)
}
