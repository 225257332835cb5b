//! A line echo server, over TCP or a UNIX socket.
//!
//! cargo run --release --example echo
//! cargo run --release --example echo -- --path /tmp/echo.sock

mod common;

use common::{Flags, Result, Usage};
use prefork_server::{
    TcpServer, UnixServer,
    servers::{Conn, Stream},
};
use std::{
    io::{self, BufRead, BufReader, Write},
    process::ExitCode,
};

/// Sends every line back, until the client ends its input, or is idle when the child is told to
/// stop.
fn echo<S: Stream>(conn: Conn<S>) -> io::Result<()> {
    let mut reader = BufReader::new(&conn);
    let mut line = Vec::new();
    while !reader.buffer().is_empty() || conn.wait_for_request(None)? {
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        (&conn).write_all(&line)?;
        line.clear();
    }
    Ok(())
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let about = "A line echo server, over TCP or a UNIX socket.";
    let flags = Flags::parse(&Usage {
        takes_path: true,
        own_flags: common::PATH_FLAG,
        ..Usage::new(about, 7777)
    })?;
    match &flags.path {
        Some(path) => {
            let server = UnixServer::new(path, echo).max_requests(flags.max_requests);
            let prefork = flags.builder(server).start()?;
            let path = path.display().to_string();
            let hint = format!("try: nc -U {path}");
            common::run(prefork, &[path], &hint)
        }
        None => {
            let server = TcpServer::new(echo)
                .address(&flags.address)
                .port(flags.port)
                .max_requests(flags.max_requests);
            let prefork = flags.builder(server).start()?;
            let addresses = prefork.server().local_addrs();
            let hint = addresses
                .first()
                .map(|address| format!("try: nc {} {}", address.ip(), address.port()));
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            common::run(prefork, &addresses, &hint.unwrap_or_default())
        }
    }
}
