//! A TCP server and a UNIX server whose handler does what the client orders, and what a scenario may ask.

pub mod addresses;
pub mod connections;
pub mod socket_files;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{SockaddrStorage, getpeername, shutdown};
use prefork_server::servers::{Conn, Domain, Stream, TcpConn};
use prefork_server::{
    Builder, ChildServer, DefaultHooks, PreFork, PreForkHooks, Start, TcpServer, UnixServer,
    defaults,
};

use crate::support::{Address, Args, Programs, SOON, Server, Signal, connect, processes, programs};

pub const PROGRAMS: Programs = programs![tcp, unix];

// The programs.

fn tcp(args: Args) -> ExitCode {
    let mut server = TcpServer::per_child(|| Ok(std::process::id()))
        .serve(|made_in, conn: TcpConn| {
            let local = conn.local_addr()?;
            obey(*made_in, &local.to_string(), conn)
        })
        .port(args.parsed("--port").unwrap_or(0))
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    if let Some(address) = args.value("--address") {
        server = server.address(address);
    }
    server = match args.value("--domain") {
        Some("inet") => server.domain(Domain::Inet),
        Some("inet6") => server.domain(Domain::Inet6),
        _ => server,
    };
    if let Some(address) = args.parsed("--also") {
        server = server.also(address);
    }
    let addresses = |server: &TcpServer| {
        let addresses = server.local_addrs().into_iter();
        addresses.map(|address| address.to_string()).collect()
    };
    run(&args, builder(&args, server), addresses)
}

fn unix(args: Args) -> ExitCode {
    let path = args.value("--path").unwrap();
    let mut server = UnixServer::per_child(path, || Ok(std::process::id()))
        .serve(|made_in, conn| obey(*made_in, "unix", conn))
        .max_requests(args.parsed("--max-requests").unwrap_or(0));
    if let Some(mode) = args.value("--mode") {
        server = server.mode(u32::from_str_radix(mode, 8).unwrap());
    }
    let path = |server: &UnixServer| vec![server.path().display().to_string()];
    run(&args, builder(&args, server), path)
}

fn builder<S: ChildServer>(args: &Args, server: S) -> Builder<DefaultHooks, S> {
    let mut builder = PreFork::builder(server)
        .start_servers(args.parsed("--children").unwrap_or(2))
        .max_spare_servers(50);
    if let Some(children) = args.parsed("--max-clients") {
        builder = builder.max_clients(children);
    }
    if let Some(timeout) = args.parsed("--timeout") {
        builder = builder.timeout(Duration::from_millis(timeout));
    }
    builder
}

fn run<S: ChildServer>(
    args: &Args,
    builder: Builder<DefaultHooks, S>,
    addresses: impl Fn(&S) -> Vec<String>,
) -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Error)
        .init();
    let hooks = Hooks {
        starve: args.value("--starve").map(PathBuf::from),
    };
    let mut prefork = match builder.hooks(hooks).start() {
        Ok(prefork) => prefork,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(3);
        }
    };
    for address in addresses(prefork.server()) {
        println!("listening on {address}");
    }
    match prefork.run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Hooks {
    /// A FIFO: without descriptors from the start of a child until a byte comes through it.
    starve: Option<PathBuf>,
}

impl PreForkHooks for Hooks {
    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        if let Some(path) = &self.starve {
            let mut fifo = File::open(path)?;
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, 3, hard)?;
            thread::spawn(move || {
                fifo.read_exact(&mut [0]).unwrap();
                setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            });
        }
        defaults::server_start(self, start)
    }
}

/// Does what each line says.
fn obey<S: Stream + io::Read + io::Write>(
    made_in: u32,
    local: &str,
    conn: Conn<S>,
) -> io::Result<()> {
    let mut reader = BufReader::new(&conn);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let (order, text) = line.split_once(' ').unwrap_or((line, ""));
        match order {
            "pid" => writeln!(&conn, "{}", std::process::id())?,
            "state" => writeln!(&conn, "{made_in} {}", std::process::id())?,
            "number" => writeln!(&conn, "{}", conn.requests_handled())?,
            "local" => writeln!(&conn, "{} {local}", conn.requests_handled())?,
            "patience" => {
                conn.set_read_timeout(Some(Duration::from_millis(text.parse().unwrap())));
                let kind = (&conn).read(&mut [0]).unwrap_err().kind();
                conn.set_read_timeout(None);
                writeln!(&conn, "{kind:?}")?;
            }
            "flood" => {
                conn.set_write_timeout(Some(Duration::from_millis(text.parse().unwrap())));
                let kind = loop {
                    if let Err(error) = (&conn).write_all(&[b'x'; 65536]) {
                        break error.kind();
                    }
                };
                eprintln!("flooded");
                conn.set_write_timeout(None);
                writeln!(&conn, "\n{kind:?}")?;
            }
            "time-out" => {
                conn.set_read_timeout(Some(Duration::from_millis(10)));
                writeln!(&conn, "ok")?;
            }
            "fail" => return Err(io::Error::other("on purpose")),
            "shut" => {
                for listener in listeners() {
                    shutdown(listener, nix::sys::socket::Shutdown::Both)?;
                }
                writeln!(&conn, "shut")?;
            }
            "work" => {
                drop(reader);
                return work(conn, Duration::from_millis(text.parse().unwrap()));
            }
            "parts" => {
                writeln!(&conn, "in parts")?;
                drop(reader);
                let (mut stream, _) = conn.into_parts()?;
                let mut line = [0; 2];
                stream.read_exact(&mut line)?;
                return stream.write_all(&line);
            }
            "reset" => {
                // More than the client will ever read.
                let block = [b'x'; 64 * 1024];
                loop {
                    (&conn).write_all(&block)?;
                }
            }
            _ => return Err(io::Error::other(format!("no such order: {line}"))),
        }
    }
}

/// Computes for long, while a thread says that the child is alive.
fn work<S: Stream + io::Write>(conn: Conn<S>, time: Duration) -> io::Result<()> {
    let (mut stream, acker) = conn.into_parts()?;
    let flags = OFlag::from_bits_retain(fcntl(stream.as_fd(), FcntlArg::F_GETFL)?);
    static DONE: AtomicBool = AtomicBool::new(false);
    let thread = thread::spawn(move || {
        while !DONE.load(Ordering::Relaxed) {
            acker.ack().unwrap();
            thread::sleep(Duration::from_millis(50));
        }
    });
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
    DONE.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    writeln!(stream, "blocking: {}", !flags.contains(OFlag::O_NONBLOCK))?;
    stream.end(Shutdown::Both)
}

/// The sockets of this process that are not connected.
fn listeners() -> Vec<RawFd> {
    let mut descriptors = processes::descriptors(std::process::id());
    descriptors.retain(|(fd, target)| {
        target.starts_with("socket:") && getpeername::<SockaddrStorage>(*fd).is_err()
    });
    descriptors.into_iter().map(|(fd, _)| fd).collect()
}

// What the scenarios share.

fn ask(address: &Address, order: &str) -> String {
    connect(address).ask(order)
}

fn stop(server: &Server) {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// Waits until `server` has refused to start, and returns the error; the one before is logged.
fn refused(server: &Server) -> String {
    let status = server.wait(SOON);
    assert_eq!(status.code(), Some(3), "{}", server.stderr());
    server.stderr().lines().last().unwrap().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
