//! A server whose accepts fail in many ways, and a client that checks that it is served.

pub mod clients;
pub mod errors;

use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::errno::Errno;
use prefork_server::servers::{Conn, Stream};
use prefork_server::{Builder, ChildServer, Error, PreFork, TcpServer, UnixServer};

use crate::subject;
use crate::subject::{Held, Journal, count, ended, expect_up, log_warnings};
use crate::support::{Address, Args, Programs, Server, World, programs};

pub const PROGRAMS: Programs = programs![shop];

// The program.

/// Serves on a port, or on the path that `--path` names.
fn shop(args: Args) -> ExitCode {
    log_warnings();
    ended(match args.value("--path") {
        Some(path) => serve_path(&args, path),
        None => serve_port(&args),
    })
}

fn serve_path(args: &Args, path: &str) -> Result<(), Error> {
    let server = UnixServer::new(path, |conn| obey(conn, None))
        .backlog(args.parsed("--backlog").unwrap())
        .max_requests(0);
    let prefork = builder(args, server).start()?;
    println!("listening on {path}");
    run(prefork)
}

fn serve_port(args: &Args) -> Result<(), Error> {
    let patience = args.parsed("--patience").map(Duration::from_millis);
    let mut server = TcpServer::new(move |conn| obey(conn, patience)).max_requests(0);
    if let Some(backlog) = args.parsed("--backlog") {
        server = server.backlog(backlog);
    }
    if let Some(unwanted) = args.parsed::<Ipv4Addr>("--refuse") {
        server = server.handler_connection(move |conn, serve| {
            if conn.peer_addr()?.ip() == unwanted {
                return Ok(());
            }
            serve(conn)
        });
    }
    let prefork = builder(args, server).start()?;
    subject::announce(&prefork);
    run(prefork)
}

fn builder<S: ChildServer>(args: &Args, server: S) -> Builder<Journal, S> {
    PreFork::builder(server)
        .hooks(Journal::new(args))
        .start_servers(count(args, "--start", 2))
        .max_spare_servers(100)
        .max_clients(count(args, "--max-clients", 100))
}

fn run<S: ChildServer>(mut prefork: PreFork<Journal, S>) -> Result<(), Error> {
    println!("{}", prefork.run()?);
    Ok(())
}

/// Answers `who` as the subject does; the other orders end the connection.
fn obey<S: Stream + Write>(conn: Conn<S>, patience: Option<Duration>) -> io::Result<()> {
    conn.set_read_timeout(patience);
    let mut lines = BufReader::new(&conn).lines();
    while let Some(line) = lines.next().transpose()? {
        match line.as_str() {
            "who" => writeln!(&conn, "{} who", std::process::id())?,
            "print" => {
                println!("printed");
                writeln!(&conn, "done")?;
            }
            "helper" => {
                let helper = Command::new("sleep").arg("1000").spawn()?;
                writeln!(&conn, "{}", helper.id())?;
                return Ok(());
            }
            "pour" => {
                drop(lines);
                return pour(&conn.into_parts()?.0);
            }
            _ => return Err(io::Error::other(format!("no such order: {line}"))),
        }
    }
    Ok(())
}

/// Writes as C would, without MSG_NOSIGNAL, until that cannot be done twice.
fn pour(stream: &impl AsFd) -> io::Result<()> {
    let block = [b'x'; 64 * 1024];
    loop {
        match nix::unistd::write(stream, &block) {
            Ok(_) | Err(Errno::ECONNRESET) => {}
            Err(Errno::EPIPE) => {
                println!("broken pipe");
                return Err(Errno::EPIPE.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

// What the scenarios share.

const ALONE: [&str; 4] = ["--start", "1", "--max-clients", "1"];

/// A server of one child, and that child.
fn alone(world: &mut World, arguments: &[&str]) -> (Server, Address, u32) {
    let server = world.spawn("shop", &[&ALONE[..], arguments].concat());
    let address = server.address();
    let child = expect_up(&server, 1)[0];
    (server, address, child)
}

/// Nothing was logged, and the same child continues.
#[track_caller]
fn unimpressed(server: &Server, address: &Address, child: u32) {
    assert_eq!(Held::new(address).pid, child);
    assert_eq!(server.children(), [child]);
    assert_eq!(server.complaints(), "");
}
