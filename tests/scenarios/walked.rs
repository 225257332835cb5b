//! The server that is walked, and its clients: it starts, serves and is stopped. It never panics by
//! itself, since what it writes may fail as well.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use prefork_server::{
    Builder, ChildId, ChildServer, CommChannel, Error, Event, Launch, Monitor, Observer, Operation,
    PreFork, PreForkHooks, Start, TcpServer, UnixServer, defaults,
};

use crate::support::{Address, Args, Programs, gate, programs};

/// What the walk starts.
pub const PROGRAMS: Programs = programs![walked];

/// What the program says when an upgrade is over, and when it begins.
pub const UPGRADED: &str = "upgraded";
pub const FAILED: &str = "upgrade failed";
pub const BEGUN: &str = "begun";

/// The name of the file of a program whose children fail.
pub const BAD: &str = "bad";

/// How long a client waits.
const ANSWER: Duration = Duration::from_secs(10);

/// The program: one server, one run. Says its errors on stderr.
fn walked(args: Args) -> ExitCode {
    gate::pass("walk");
    if args.has("--upgrades") && Launch::of_this_process() != Launch::Trial {
        say(&io::stdout(), BEGUN);
    }
    ended(walk(&args))
}

/// The exit code, and the error on stderr.
pub fn ended(outcome: Result<bool, Error>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&io::stderr(), &format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says which operation failed for good. The default then shuts the server down in an orderly way.
#[derive(Debug, Default)]
pub struct Complaints {
    failed: bool,
    /// Whether the children look which program they are.
    can_be_bad: bool,
}

impl PreForkHooks for Complaints {
    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        let own = self.can_be_bad.then(std::env::current_exe).transpose()?;
        if own.is_some_and(|own| own.ends_with(BAD)) {
            return Err(io::Error::other("this program is bad"));
        }
        defaults::server_start(self, start)
    }

    fn handler_run_error(
        &mut self,
        monitor: &mut Monitor,
        operation: Operation,
        error: &io::Error,
        child: Option<ChildId>,
    ) {
        self.failed = true;
        say(&io::stderr(), &format!("error: {operation}: {error}"));
        defaults::handler_run_error(self, monitor, operation, error, child);
    }
}

/// Says what comes of upgrades.
struct Outcomes;

impl Observer for Outcomes {
    fn event(&mut self, _: &Monitor, event: &Event<'_>) {
        match event {
            Event::Upgraded { .. } => say(&io::stdout(), UPGRADED),
            Event::UpgradeFailed { .. } => say(&io::stdout(), FAILED),
            _ => {}
        }
    }
}

/// Whether all went well.
fn walk(args: &Args) -> Result<bool, Error> {
    if let Some(path) = args.value("--unix") {
        let server = UnixServer::new(path, |conn| converse(&conn, &conn));
        let builder = describe(server.max_requests(0), args).comm_channel(CommChannel::Private);
        let prefork = builder.start()?;
        return serve(prefork, Some(&format!("unix:{path}")));
    }
    let prefork = describe(tcp_server(), args).start()?;
    let address = address_of(prefork.server());
    serve(prefork, address.as_deref())
}

pub fn tcp_server() -> TcpServer {
    let server = TcpServer::new(|conn| converse(&conn, &conn));
    server.port(0).max_requests(0)
}

/// The kernel is asked for it, and more than once if that fails: else no client could connect.
pub fn address_of(server: &TcpServer) -> Option<String> {
    let mut asked = (0..3).flat_map(|_| server.local_addrs());
    asked.next().map(|address| address.to_string())
}

pub fn describe<S: ChildServer>(server: S, args: &Args) -> Builder<Complaints, S> {
    // Longer where a client is in hand all the time.
    let patience = Duration::from_secs(args.parsed("--patience").unwrap_or(1));
    PreFork::builder(server)
        .hooks(Complaints {
            can_be_bad: args.has("--upgrades"),
            ..Complaints::default()
        })
        .observe(Outcomes)
        .start_servers(1)
        .min_spare_servers(1)
        .max_spare_servers(2)
        .max_clients(args.parsed("--max-clients").unwrap_or(3))
        .timeout(patience)
        .kill_timeout(Duration::from_millis(500))
        .shutdown_timeout(Duration::from_secs(2))
        .cull_after(Duration::from_millis(50))
}

fn serve<S: ChildServer>(
    prefork: PreFork<Complaints, S>,
    address: Option<&str>,
) -> Result<bool, Error> {
    if let Some(address) = address {
        say(&io::stdout(), &format!("listening on {address}"));
    }
    drive(prefork)
}

pub fn drive<S: ChildServer>(mut prefork: PreFork<Complaints, S>) -> Result<bool, Error> {
    prefork.run()?;
    Ok(!prefork.hooks().failed)
}

/// Greets, so that a client knows that it is in somebody's hands, and gives a line back.
fn converse(from: impl Read, mut to: impl Write) -> io::Result<()> {
    say(&io::stdout(), "a line of the child's own");
    to.write_all(b"hello\n")?;
    let mut line = String::new();
    BufReader::new(from).read_line(&mut line)?;
    to.write_all(line.as_bytes())
}

/// Writes a line by one call, and a few times if it fails: the walk is about the library's calls, and
/// `println!` panics where it cannot write.
pub fn say(to: &impl AsFd, line: &str) {
    let line = format!("{line}\n");
    for _ in 0..3 {
        if nix::unistd::write(to, line.as_bytes()).is_ok() {
            return;
        }
    }
}

/// Two clients, the second of which comes while the first is served. `at_once`: both are in
/// somebody's hands then, which takes two children.
pub fn pair(address: &Address, at_once: bool) -> io::Result<()> {
    let first = WalkedClient::connect(address)?.greeted()?;
    let mut second = WalkedClient::connect(address)?;
    if at_once {
        second = second.greeted()?;
    }
    first.ends_well()?;
    if !at_once {
        second = second.greeted()?;
    }
    second.ends_well()
}

trait ReadWrite: Read + Write {}

impl<S: Read + Write> ReadWrite for S {}

pub struct WalkedClient(Box<dyn ReadWrite>);

impl WalkedClient {
    pub fn connect(address: &Address) -> io::Result<Self> {
        Ok(match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, ANSWER)?;
                stream.set_read_timeout(Some(ANSWER))?;
                Self(Box::new(stream))
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER))?;
                Self(Box::new(stream))
            }
        })
    }

    pub fn greeted(mut self) -> io::Result<Self> {
        let mut greeting = [0; 6];
        self.0.read_exact(&mut greeting)?;
        if &greeting != b"hello\n" {
            return Err(io::Error::other("another greeting"));
        }
        Ok(self)
    }

    pub fn ends_well(mut self) -> io::Result<()> {
        self.0.write_all(b"one line\n")?;
        let mut answer = String::new();
        self.0.read_to_string(&mut answer)?;
        if answer != "one line\n" {
            return Err(io::Error::other(format!("the answer was {answer:?}")));
        }
        Ok(())
    }
}
