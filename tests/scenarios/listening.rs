//! Two small programs, a TCP server and a UNIX server, for scenarios about the sockets themselves.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;

use prefork_server::servers::{Conn, Stream};
use prefork_server::{ChildServer, PreFork, TcpServer, UnixServer};

use crate::support::{
    Address, Args, Programs, SOON, Server, Signal, World, connect, gate, programs,
};

/// What the scenarios about sockets start.
pub const PROGRAMS: Programs = programs![listening_tcp, listening_unix];

/// How a program ends that could not start.
const REFUSED: u8 = 3;

/// Serves at `--address` and `--port`.
fn listening_tcp(args: Args) -> ExitCode {
    let mut server = TcpServer::new(answer)
        .max_requests(0)
        .port(args.parsed("--port").unwrap_or(0))
        .only_v6(args.has("--only-v6"));
    if let Some(address) = args.value("--address") {
        server = server.address(address);
    }
    run(&args, server, |server| server.local_addrs()[0].to_string())
}

/// Serves at `--path`.
fn listening_unix(args: Args) -> ExitCode {
    let server = UnixServer::new(args.value("--path").unwrap(), answer).max_requests(0);
    run(&args, server, |server| server.path().display().to_string())
}

fn run<S: ChildServer>(args: &Args, server: S, address: impl Fn(&S) -> String) -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .format_timestamp(None)
        .init();
    gate::pass("before-start");
    let builder = PreFork::builder(server).start_servers(args.parsed("--children").unwrap_or(2));
    let mut prefork = match builder.start() {
        Ok(prefork) => prefork,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(REFUSED);
        }
    };
    println!("listening on {}", address(prefork.server()));
    match prefork.run() {
        Ok(report) => println!("{report}"),
        Err(error) => eprintln!("{error}"),
    }
    ExitCode::SUCCESS
}

/// Answers each line with the child's pid, and ends the connection at "bye".
fn answer<S: Stream + Write>(conn: Conn<S>) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        if line? == "bye" {
            break;
        }
        writeln!(&conn, "{}", std::process::id())?;
    }
    Ok(())
}

/// Asks a server something once.
#[track_caller]
pub fn ask(address: &Address) -> u32 {
    connect(address).ask("pid").parse().unwrap()
}

/// Ends a server in order.
#[track_caller]
pub fn stop(server: &Server) {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// Waits until a server has refused to start, and returns the error; one before it is logged.
#[track_caller]
pub fn refused(server: &Server) -> String {
    let status = server.wait(SOON);
    assert_eq!(status.code(), Some(REFUSED.into()), "{}", server.stderr());
    server.stderr().lines().last().unwrap().to_owned()
}

/// Starts the program `unix` at that path.
#[track_caller]
pub fn spawn_unix(world: &mut World, path: &Path) -> Server {
    world
        .program("listening_unix")
        .arg("--path")
        .arg(path)
        .spawn()
}
