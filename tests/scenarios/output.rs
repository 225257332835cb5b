//! The parent's own stdout and stderr when they do not accept the children's output: the parent
//! neither blocks nor ends, and counts what is lost.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{FlowArg, SetArg, cfmakeraw, tcflow, tcgetattr, tcsetattr};
use nix::unistd::pipe2;
use prefork_server::servers::UnixConn;
use prefork_server::{PreFork, UnixServer};

use crate::support;
use crate::support::{
    Address, Args, Programs, SLOW, SOON, Scenarios, Server, Signal, World, connect, processes,
    programs, scenarios, try_connect, until,
};

pub const PROGRAMS: Programs = programs![spammer];

pub const SCENARIOS: Scenarios = scenarios![
    c10_device_that_is_full,
    c10_stderr_that_is_full,
    c10_stderr_that_nobody_reads_any_more,
    c10_terminal_that_has_hung_up,
    c10_pipe_that_is_full,
    c10_pipe_that_nobody_reads_any_more,
    reader_that_is_slow_misses_nothing,
    c10_socket_that_is_full,
    c10_terminal_whose_output_is_stopped,
];

/// What is printed in a line.
const LINE: usize = 1000;

/// How many lines a client orders.
const A_CLIENTS: usize = 100;

/// A call that takes less is not warned of.
const NO_WARNING: Duration = Duration::from_millis(250);

// The program.

/// Prints what clients order; its report goes into a file.
fn spammer(args: Args) -> Result<(), Box<dyn Error>> {
    let on_stderr = args.has("--on-stderr");
    let spam = move |conn| spam(&conn, on_stderr);
    let server = UnixServer::new(args.value("--path").unwrap(), spam).max_requests(0);
    let prefork = PreFork::builder(server)
        .start_servers(3)
        .max_spare_servers(50)
        .timeout(Duration::from_millis(args.parsed("--timeout").unwrap()));
    let report = prefork.run()?;
    let text = format!(
        "{} {} {}",
        report.output_dropped,
        report.deaths(prefork_server::Cause::TimedOut),
        report.acks
    );
    fs::write(args.value("--report").unwrap(), text)?;
    Ok(())
}

/// Prints as many lines as each line says, and answers with the pid.
fn spam(conn: &UnixConn, on_stderr: bool) -> io::Result<()> {
    for line in BufReader::new(conn).lines() {
        for _ in 0..line?.parse().unwrap() {
            let line = "x".repeat(LINE);
            if on_stderr {
                eprintln!("{line}");
            } else {
                println!("{line}");
            }
        }
        writeln!(&*conn, "{}", std::process::id())?;
    }
    Ok(())
}

// What the scenarios share.

/// A server, its stdout or stderr a descriptor of the scenario's.
struct Spammer {
    server: Server,
    address: Address,
    report: PathBuf,
    output: OwnedFd,
    on_stderr: bool,
    /// How many bytes should have come out.
    printed: u64,
    /// How many ACKs the children must have sent.
    acks: u64,
}

/// The end of one.
struct Report {
    dropped: u64,
    timed_out: u64,
}

impl Spammer {
    fn start(world: &mut World, output: OwnedFd) -> Self {
        Self::with(world, output, "2000", false)
    }

    fn on_stderr(world: &mut World, output: OwnedFd) -> Self {
        Self::with(world, output, "2000", true)
    }

    fn with(world: &mut World, output: OwnedFd, timeout: &str, on_stderr: bool) -> Self {
        let path = world.tempdir().join("socket");
        let report = world.tempdir().join("report");
        let program = world
            .program("spammer")
            .args(&["--path", path.to_str().unwrap()])
            .args(&["--report", report.to_str().unwrap(), "--timeout", timeout]);
        let theirs = output.try_clone().unwrap();
        let server = if on_stderr {
            program.arg("--on-stderr").stderr(theirs).spawn()
        } else {
            program.stdout(theirs).spawn()
        };
        let address = Address::Unix(path);
        until("the server to listen", SOON, || try_connect(&address).ok());
        let spammer = Self {
            server,
            address,
            report,
            output,
            on_stderr,
            printed: 0,
            acks: 3,
        };
        spammer.check_flags();
        spammer
    }

    /// The description is shared with the process that started the server, which does not expect a change.
    fn check_flags(&self) {
        let flags = fcntl(self.output.as_fd(), FcntlArg::F_GETFL).unwrap();
        assert!(!OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
    }

    /// Has `lines` printed, a few for a client: on a busy machine a child that prints them all for one is
    /// silent for too long.
    fn print(&mut self, lines: usize) {
        for _ in 0..lines / A_CLIENTS {
            let pid = connect(&self.address).ask(&A_CLIENTS.to_string());
            let line = format!("{pid} STDOUT: \n").len() + LINE;
            self.printed += (A_CLIENTS * line) as u64;
            self.check_flags();
        }
    }

    /// It serves as ever, and goes on hearing ACKs: for longer than the children may be silent.
    fn check_health(&mut self) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            let mut client = connect(&self.address);
            client.timeout(Duration::from_secs(5)).unwrap();
            client.ask("0");
            support::pause(Duration::from_millis(10));
        }
        self.acks += 3 * 2;
        self.check_flags();
    }

    fn stop(self) -> Report {
        let waited = self.end();
        self.check_flags();
        let report = fs::read_to_string(self.report).unwrap();
        let mut numbers = report.split(' ').map(|number| number.parse().unwrap());
        let report = Report {
            dropped: numbers.next().unwrap(),
            timed_out: numbers.next().unwrap(),
        };
        assert!(numbers.next().unwrap() >= self.acks, "ACKs were heard");
        assert_eq!(report.timed_out, 0);
        if !self.on_stderr {
            assert_eq!(self.server.complaints(), "");
            check_slow_calls(&self.server.stderr(), waited);
        }
        report
    }

    /// Stops it, and returns for how long it was not given a processor; `None` where the kernel does not
    /// tell.
    fn end(&self) -> Option<Duration> {
        self.server.signal(Signal::SIGTERM);
        // It offers what is left for a second.
        let pid = self.server.pid();
        until("the server to have ended", SOON, || {
            (!processes::is_alive(pid)).then_some(())
        });
        let waited = processes::waited_for_a_processor(pid);
        assert!(self.server.wait(SOON).success());
        waited
    }
}

/// A call is slow because the machine has let the parent wait, and not because it waits for a reader.
fn check_slow_calls(stderr: &str, waited: Option<Duration>) {
    for line in stderr.lines().filter(|line| line.contains(SLOW)) {
        let (before, _) = line.split_once(SLOW).unwrap();
        let (_, took) = before.rsplit_once(' ').unwrap();
        let took = Duration::from_millis(took.parse().unwrap());
        let own = waited.map(|waited| took.saturating_sub(waited));
        assert!(
            own.is_none_or(|own| own < NO_WARNING),
            "{line}, of which it was not given a processor for {waited:?}"
        );
    }
}

/// Reads what has come out, which is whole lines unless one was cut at the very end.
fn count(mut reader: impl Read) -> u64 {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (whole, _) = text.rsplit_once('\n').unwrap();
    let content = "x".repeat(LINE);
    for line in whole.lines() {
        let (prefix, rest) = line.split_once(": ").unwrap();
        let is_right = prefix.ends_with(" STDOUT") || prefix.ends_with(" STDERR");
        assert!(is_right && rest == content, "{line:?}");
    }
    text.len() as u64
}

/// What has come out and what was dropped is all there was.
fn check_full(mut spammer: Spammer, reader: impl Read) {
    spammer.print(3000);
    spammer.check_health();
    spammer.print(1000);
    let printed = spammer.printed;
    let report = spammer.stop();
    assert!(report.dropped > 0);
    assert_eq!(count(reader) + report.dropped, printed);
}

// The scenarios.

/// The parent never waits for its stdout: what does not fit is kept up to 256 KiB, then dropped and
/// counted. Meanwhile clients are served and words are read.
fn c10_pipe_that_is_full(world: &mut World) {
    // When the parent just wrote (`Way::Plain` for a pipe) no client was served any more.
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let spammer = Spammer::start(world, write);
    check_full(spammer, File::from(read));
}

/// The parent does not wait for a stdout that is a socket either.
fn c10_socket_that_is_full(world: &mut World) {
    let (read, write) = UnixStream::pair().unwrap();
    let spammer = Spammer::start(world, write.into());
    check_full(spammer, read);
}

/// A terminal is opened again in non-blocking mode: a terminal that is stopped (Ctrl-S) stops
/// neither the parent nor the children.
fn c10_terminal_whose_output_is_stopped(world: &mut World) {
    let OpenptyResult { master, slave } = match openpty(None, None) {
        Ok(terminal) => terminal,
        Err(error) => return eprintln!("skipped: this machine has no terminals: {error}"),
    };
    // To the byte: no carriage returns.
    let mut settings = tcgetattr(&slave).unwrap();
    cfmakeraw(&mut settings);
    tcsetattr(&slave, SetArg::TCSANOW, &settings).unwrap();
    tcflow(&slave, FlowArg::TCOOFF).unwrap();
    let terminal = slave.try_clone().unwrap();
    let mut spammer = Spammer::start(world, slave);
    spammer.print(3000);
    spammer.check_health();
    // It goes on where it was stopped.
    tcflow(&terminal, FlowArg::TCOON).unwrap();
    let mut reader = BufReader::new(File::from(master));
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let whole = format!(" STDOUT: {}\n", "x".repeat(LINE));
    assert!(line.ends_with(&whole), "{line:?}");
    assert!(spammer.stop().dropped > 0);
}

/// A stdout without a reader does not end the server: its output is dropped and counted.
fn c10_pipe_that_nobody_reads_any_more(world: &mut World) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut spammer = Spammer::start(world, write);
    drop(read);
    spammer.print(3000);
    spammer.check_health();
    let printed = spammer.printed;
    assert_eq!(spammer.stop().dropped, printed);
}

/// The parent never waits for its stderr either.
fn c10_stderr_that_is_full(world: &mut World) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let spammer = Spammer::on_stderr(world, write);
    check_full(spammer, File::from(read));
}

/// A stderr without a reader does not end the server: its output is dropped and counted.
fn c10_stderr_that_nobody_reads_any_more(world: &mut World) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut spammer = Spammer::on_stderr(world, write);
    drop(read);
    spammer.print(3000);
    spammer.check_health();
    let printed = spammer.printed;
    assert_eq!(spammer.stop().dropped, printed);
}

/// A terminal that is gone does not end the server: its output is dropped and counted.
fn c10_terminal_that_has_hung_up(world: &mut World) {
    let OpenptyResult { master, slave } = match openpty(None, None) {
        Ok(terminal) => terminal,
        Err(error) => return eprintln!("skipped: this machine has no terminals: {error}"),
    };
    // Nobody else must keep the other end open.
    fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let mut spammer = Spammer::start(world, slave);
    drop(master);
    spammer.print(3000);
    spammer.check_health();
    let printed = spammer.printed;
    assert_eq!(spammer.stop().dropped, printed);
}

/// A full device does not end the server: its output is dropped and counted.
fn c10_device_that_is_full(world: &mut World) {
    let full = match File::options().write(true).open("/dev/full") {
        Ok(full) => full,
        Err(error) => return eprintln!("skipped: this machine has no /dev/full: {error}"),
    };
    let mut spammer = Spammer::start(world, full.into());
    spammer.print(3000);
    spammer.check_health();
    let printed = spammer.printed;
    assert_eq!(spammer.stop().dropped, printed);
}

/// More than the pipe holds, and less than the parent keeps. Nothing happens in the parent while it
/// is read, so that the rest comes only if it is offered again (`OFFER_AGAIN`).
fn reader_that_is_slow_misses_nothing(world: &mut World) {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut spammer = Spammer::with(world, write, "0", false);
    spammer.print(200);
    // Until all of it has come to the parent, which cannot be seen from here.
    support::pause(Duration::from_millis(300));
    let mut bytes = vec![0; spammer.printed as usize];
    File::from(read.try_clone().unwrap())
        .read_exact(&mut bytes)
        .unwrap();
    assert_eq!(count(bytes.as_slice()), spammer.printed);
    assert_eq!(spammer.stop().dropped, 0);
    drop(read);
}
