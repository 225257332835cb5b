//! A host: a network and a table of processes of its own, with a server in it that takes its time for
//! each request.

use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use prefork_server::servers::{EndpointLoad, TcpConn};
use prefork_server::{Error, PreFork, TcpServer};

use super::HOSTS;
use super::network::Network;
use crate::support::{Args, SOON, Server, Signal, World};

/// What a host is like.
#[derive(Clone, Debug)]
pub struct Kind {
    pub name: &'static str,
    /// How long each request takes.
    pub work: Duration,
    pub children: usize,
    pub pre_stop_delay: Duration,
}

/// The last part of the address of a host.
pub fn number(name: &str) -> u8 {
    let mut numbered = (11..).zip(HOSTS);
    let found = numbered.find(|(_, host)| *host == name);
    found.expect("a host").0
}

/// One that runs.
#[derive(Debug)]
pub struct Host {
    /// What made its namespaces, and waits for the server.
    outer: Server,
    /// The server, which is process 1 of the host: with it all processes of the host end.
    pid: u32,
}

impl Host {
    pub fn start(world: &mut World, network: &Network, kind: &Kind) -> Self {
        let own = std::env::current_exe().expect("our own path");
        let namespaces = ["-npf", "--mount-proc", "--kill-child"];
        let launch = network.command(world, "unshare").args(&namespaces);
        let launch = launch.arg(own).args(&["--program", "host"]);
        let milliseconds = |time: Duration| time.as_millis().to_string();
        let outer = launch
            .args(&[
                "--name",
                kind.name,
                "--address",
                "0.0.0.0",
                "--port",
                "8080",
            ])
            .args(&["--status", "0.0.0.0:9100", "--agent", "0.0.0.0:9101"])
            .args(&["--work", &milliseconds(kind.work)])
            .args(&["--children", &kind.children.to_string()])
            .args(&["--pre-stop-delay", &milliseconds(kind.pre_stop_delay)])
            .spawn();
        outer.expect_stdout("the server", |text| text.contains("listening on"));
        let pid = outer.expect_children(1)[0];
        network.join(pid, number(kind.name));
        Self { outer, pid }
    }

    /// Kills all its processes at once. Its network goes with them.
    pub fn kill(self) {
        self.signal(Signal::SIGKILL);
        self.outer.wait(SOON);
    }

    /// Tells the server to stop, which it does after its `pre_stop_delay`.
    pub fn drain(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Waits for the end of a server that was told to stop.
    pub fn ends_well(self, deadline: Duration) {
        let status = self.outer.wait(deadline);
        assert!(status.success(), "{status}: {}", self.outer.stderr());
    }

    fn signal(&self, signal: Signal) {
        // OK: what waits for it has not been waited for, so the pid is no other process's.
        let sent = kill(Pid::from_raw(self.pid.cast_signed()), signal);
        sent.expect("a host that runs");
    }
}

/// The program in a host: an HTTP server, its status, and its agent if it is to have one.
pub fn host(args: Args) -> ExitCode {
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let milliseconds = |flag| Duration::from_millis(args.parsed(flag).unwrap_or(0));
    let work = milliseconds("--work");
    let body = format!("{}\n", args.value("--name").expect("a name"));
    let server = TcpServer::new(move |conn| answer(&conn, work, &body))
        .address(args.value("--address").unwrap_or("127.0.0.1"))
        .port(args.parsed("--port").unwrap_or(0))
        .queue_time(true)
        .max_requests(0);
    let children = args.parsed("--children").expect("a number");
    let builder = PreFork::builder(server)
        .start_servers(children)
        .max_clients(children)
        .max_spare_servers(children)
        .pre_stop_delay(milliseconds("--pre-stop-delay"))
        .status(args.parsed("--status").expect("an address"));
    let builder = match args.parsed("--agent") {
        Some(address) => builder.agent_check(address),
        None => builder,
    };
    let mut prefork = builder.start()?;
    for address in prefork.status_addresses() {
        println!("status at {address}");
    }
    for address in prefork.server().local_addrs() {
        println!("listening on {address}");
    }
    prefork.run().map(drop)
}

/// Answers one request, whatever it asks for, and tells how loaded the server is.
fn answer(conn: &TcpConn, work: Duration, body: &str) -> io::Result<()> {
    conn.set_deadline(Some(Duration::from_secs(10)));
    let mut lines = BufReader::new(conn).lines();
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            thread::sleep(work);
            return write(conn, body);
        }
    }
    Ok(())
}

fn write(conn: &TcpConn, body: &str) -> io::Result<()> {
    let (length, load) = (body.len(), conn.endpoint_load());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{}: {load}\r\nConnection: close\r\n\r\n",
        EndpointLoad::HEADER
    );
    let mut output = conn;
    output.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())
}
