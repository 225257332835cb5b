//! The program: a server that tells its status, and whose clients say what its children do.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use prefork_server::servers::TcpConn;
use prefork_server::{
    Builder, ChildServer, Confinement, Error, Event, Launch, Monitor, Observer, PreFork,
    PreForkHooks, Start, TcpServer, defaults, metrics,
};

use crate::support::{Args, Programs, gate, programs};

pub const PROGRAMS: Programs = programs![told];

/// Serves, and tells its status at `--status`.
fn told(args: Args) -> ExitCode {
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let upgraded = Launch::of_this_process() == Launch::Upgrade;
    let is_there = |flag| {
        args.value(flag)
            .is_some_and(|path| Path::new(path).exists())
    };
    let children = args.parsed("--children").unwrap_or(2);
    let milliseconds = |flag| Duration::from_millis(args.parsed(flag).unwrap_or(0));
    let builder = PreFork::builder(server(args))
        .hooks(Hooks {
            broken: args
                .value("--broken")
                .map(PathBuf::from)
                .filter(|_| upgraded),
        })
        .start_servers(children)
        .max_clients(args.parsed("--max").unwrap_or(children))
        .min_spare_servers(args.parsed("--spare").unwrap_or(1))
        .max_spare_servers(children)
        .pre_stop_delay(milliseconds("--pre-stop-delay"))
        .timeout(milliseconds("--timeout"));
    if upgraded && is_there("--silent") {
        return builder.run().map(drop);
    }
    let ready = Said::default();
    let mut prefork = reachable(args, builder).observe(ready).start()?;
    let status = prefork.status_addresses();
    for address in status {
        println!("status at {address}");
    }
    for address in prefork.agent_check_addresses() {
        println!("agent at {address}");
    }
    prefork.run().map(drop)
}

/// The server, whose answers are counted.
fn server(args: &Args) -> TcpServer {
    let (lines, seconds) = (
        metrics::counter("lines"),
        metrics::histogram("line_seconds", &[0.5, 1.0]),
    );
    let server = TcpServer::new(move |conn| {
        answer(&conn, || {
            lines.increment();
            seconds.observe(0.25);
        })
    });
    let server = server
        .port(0)
        .queue_time(true)
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    match args.parsed("--max-age") {
        Some(age) => server.max_queue_age(Duration::from_millis(age)),
        None => server,
    }
}

/// Where the server can be asked, and as whom its children answer.
fn reachable(args: &Args, builder: Builder<Hooks, TcpServer>) -> Builder<Hooks, TcpServer> {
    let builder = match args.value("--control") {
        Some(path) => builder.control(path),
        None => builder,
    };
    let builder = match args.value("--status") {
        Some(address) => builder.status(address.parse().unwrap()),
        None => builder,
    };
    let builder = match args.value("--agent") {
        Some(address) => builder.agent_check(address.parse().unwrap()),
        None => builder,
    };
    match args.value("--user") {
        Some(user) => builder.confinement(Confinement::new().user(user).no_new_privs()),
        None => builder,
    }
}

/// Says where the server listens once its first turn is over: what the parent holds from then on stays.
#[derive(Default)]
struct Said {
    listener: Option<String>,
}

impl Observer for Said {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        match event {
            Event::ListenerOpened { name, .. } => self.listener = Some((*name).to_owned()),
            Event::Turn { .. } => {
                if let Some(name) = self.listener.take() {
                    println!("listening on {name}");
                }
            }
            _ => {}
        }
    }
}

/// A child may be kept from being ready, and a program that takes the place of another one from
/// starting.
struct Hooks {
    /// A file that breaks it, once.
    broken: Option<PathBuf>,
}

impl PreForkHooks for Hooks {
    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        let broken = self.broken.take();
        if broken.is_some_and(|broken| fs::remove_file(broken).is_ok()) {
            return Err(io::Error::other("this program does not start"));
        }
        defaults::handler_start(self, monitor, server)
    }

    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        gate::pass("start");
        defaults::server_start(self, start)
    }
}

/// Answers each line; `scribble` writes nonsense over the child's slot until the client has gone.
fn answer(conn: &TcpConn, count: impl Fn()) -> io::Result<()> {
    let mut reader = BufReader::new(conn);
    let mut output = conn;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        count();
        match line.trim_end() {
            "pid" => writeln!(output, "{}", std::process::id())?,
            "die" => {
                eprintln!("out of cheese");
                std::process::abort();
            }
            "scribble" => scribble(output)?,
            other => {
                conn.describe(other);
                writeln!(output, "{other}")?;
            }
        }
        line.clear();
    }
    Ok(())
}

/// Writes to all of the board that this child can write, which is its own slot.
fn scribble(mut output: &TcpConn) -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let boards = maps.lines().filter(|line| line.contains("prefork-board"));
    let writable = boards.filter(|line| line.contains(" rw"));
    let ranges: Vec<(u64, u64)> = writable
        .map(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split(' ').next().unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            (number(start), number(end))
        })
        .collect();
    assert!(!ranges.is_empty(), "{maps}");
    let memory = File::options().write(true).open("/proc/self/mem")?;
    let mut seed = u64::from(std::process::id());
    // Until the client has gone.
    loop {
        for &(start, end) in &ranges {
            let noise = (start..end).step_by(8).flat_map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.to_ne_bytes()
            });
            memory.write_all_at(&noise.collect::<Vec<_>>(), start)?;
        }
        writeln!(output, "scribbled")?;
    }
}
