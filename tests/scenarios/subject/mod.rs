//! The server under test: one small program that the flags of a scenario make behave or misbehave,
//! and what a scenario can learn about it.
//!
//! Unless a flag says otherwise it culls no child, times none out and takes any number of requests,
//! so that a scenario sees only what it is about.

mod busy_count;
mod cgroup;
mod crowd;
mod flags;
mod hooks;
mod journal;
mod kernel;
mod misdeeds;
mod namespace;
mod seccomp;
mod strace;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::errno::Errno;
use prefork_server::servers::TcpConn;
use prefork_server::{Error, PreFork, PreForkHooks, TcpServer};

use crate::support::{
    Address, Args, Client, Programs, SOON, Server, Signal, World, connect, gate, processes,
    programs, until,
};

pub use busy_count::{BusyCount, expect_busy};
pub use cgroup::Group;
pub use crowd::Crowd;
pub use flags::{builder, builder_of, count, millis};
pub use hooks::{Journal, spawn_thread};
pub use journal::{
    await_checks, deaths, expect_entry, expect_exit, expect_losses, journal, nobody_was_blamed,
    pids, report,
};
pub use kernel::{children_at_once, has_signal, signal_set};
pub use namespace::Contained;
pub use strace::InjectedErrors;

/// What every scenario can start.
pub const PROGRAMS: Programs = programs![serve];

/// The program: serves until it is told to stop, then prints its report.
fn serve(args: Args) -> ExitCode {
    log_warnings();
    ended(run(&args))
}

fn run(args: &Args) -> Result<(), Error> {
    if args.has("--thread-before-start") {
        spawn_thread();
    }
    if args.has("--subreaper") {
        nix::sys::prctl::set_child_subreaper(true).expect("to adopt orphans");
    }
    if args.has("--no-title-area") {
        seccomp::refuse_prctl(nix::libc::PR_SET_MM, Errno::EPERM).expect("a filter");
    }
    // A descriptor of the program's own, for every child.
    let _file = args.value("--open").map(File::open);
    let mut prefork = builder(args).start()?;
    announce(&prefork);
    if let Some(path) = args.value("--address-file") {
        let address = prefork.server().local_addrs()[0];
        std::fs::write(path, format!("{address}\n")).expect("a file for the address");
    }
    gate::pass("announced");
    if args.has("--thread-after-start") {
        spawn_thread();
    }
    // A child of the program's own, which is dead soon and is not waited for until the end.
    let stranger = args.has("--stranger").then(|| Command::new("true").spawn());
    // The report of a server that has failed as well.
    let outcome = prefork.run();
    println!("{}", prefork.monitor().report());
    outcome?;
    if let Some(Ok(mut stranger)) = stranger {
        println!("stranger: {}", stranger.wait().unwrap());
    }
    Ok(())
}

fn descriptors_at_start(server: &Server) -> Option<usize> {
    let text = server.stdout();
    let line = text.lines().find(|line| line.starts_with("descriptors "))?;
    Some(line["descriptors ".len()..].parse().expect("a number"))
}

/// Says where it listens, as the scenarios expect it, and how many descriptors it has.
pub fn announce<H: PreForkHooks>(prefork: &PreFork<H, TcpServer>) {
    for address in prefork.server().local_addrs() {
        println!("listening on {address}");
    }
    // The one of the listing itself is in it.
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    println!("descriptors {}", descriptors.saturating_sub(1));
}

/// The exit code of a program, with the text of its error on stderr.
pub fn ended(result: Result<(), Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sends the warnings of the library to stderr.
pub fn log_warnings() {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Warn)
        .format_timestamp(None)
        .init();
}

/// The handler: does what the line says, or answers it with the child's pid before it.
pub fn converse(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        let line = line?;
        match line.as_str() {
            "panic" => panic!("the client asked for it"),
            _ if line.starts_with("extend ") => {
                let time = line["extend ".len()..].parse().expect("milliseconds");
                conn.extend(Duration::from_millis(time));
                writeln!(&conn, "done")?;
            }
            "grandchild" => writeln!(&conn, "{}", grandchild("exec sleep 1000")?)?,
            "chatterbox" => writeln!(&conn, "{}", grandchild("exec yes")?)?,
            _ if misdeeds::commit(&line)? => writeln!(&conn, "done")?,
            _ => writeln!(&conn, "{} {line}", std::process::id())?,
        }
    }
    Ok(())
}

/// Starts a process that holds the child's outputs for longer than the child lives.
fn grandchild(command: &str) -> io::Result<u32> {
    Ok(Command::new("sh").args(["-c", command]).spawn()?.id())
}

/// A connection that some child has in hand.
#[derive(Debug)]
pub struct Held {
    pub client: Client,
    pub pid: u32,
}

impl Held {
    /// Connects and waits until a child answers.
    #[track_caller]
    pub fn new(address: &Address) -> Self {
        Self::of(connect(address))
    }

    /// Waits until a child answers.
    #[track_caller]
    pub fn of(mut client: Client) -> Self {
        let pid = who(&mut client);
        Self { client, pid }
    }

    /// Panics unless the same child still answers.
    #[track_caller]
    pub fn is_served(&mut self) {
        assert_eq!(who(&mut self.client), self.pid, "another child answers");
    }
}

/// The pid of the child that serves this client.
#[track_caller]
pub fn who(client: &mut Client) -> u32 {
    let answer = client.ask("who");
    let pid = answer.split_once(' ').and_then(|(pid, _)| pid.parse().ok());
    pid.unwrap_or_else(|| panic!("no pid in {answer:?}"))
}

/// As many clients as that, each in the hands of a child of its own.
#[track_caller]
pub fn hold(address: &Address, count: usize) -> Vec<Held> {
    (0..count).map(|_| Held::new(address)).collect()
}

/// Stops the server in an orderly way. Whatever has happened to it, its parent holds no more
/// descriptors than it had before the first fork and those of the children that live: two outputs
/// each.
#[track_caller]
pub fn ends_well(server: &Server) {
    if let Some(at_start) = descriptors_at_start(server) {
        until("no descriptors left over in the parent", SOON, || {
            let living = server.children().len() + server.zombies().len();
            (server.descriptors().len() <= at_start + 2 * living).then_some(())
        });
    }
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// Sends a signal to a child.
#[track_caller]
pub fn send(pid: u32, signal: Signal) {
    let target = nix::unistd::Pid::from_raw(pid.cast_signed());
    let sent = nix::sys::signal::kill(target, signal);
    sent.unwrap_or_else(|error| panic!("{signal} for {pid}: {error}"));
}

/// Stops a process with SIGSTOP, and waits until it stands still.
#[track_caller]
pub fn stop(pid: u32) {
    send(pid, Signal::SIGSTOP);
    until("the process to stop", SOON, || {
        (processes::state(pid) == Some('T')).then_some(())
    });
}

/// Waits until the server has `count` children, and every one of them has said its first word.
#[track_caller]
pub fn expect_up(server: &Server, count: usize) -> Vec<u32> {
    let children = server.expect_children(count);
    for &pid in &children {
        expect_entry(server, "up", pid);
    }
    children
}

/// A child fills its outputs and dies while the parent is stopped: when that goes on, it finds the
/// death and the pipes at the same time. All that was written must come, before the death.
#[track_caller]
pub fn last_words_are_heard(world: &mut World, way: &str, how: &str) {
    let mut gate = world.gate("last-words");
    let server = world.spawn("serve", &[]);
    let address = server.address();
    let mut held = Held::new(&address);
    held.client.send_line(&format!("last-words {way}"));
    assert_eq!(gate.reached(SOON), held.pid);
    stop(server.pid());
    gate.release(held.pid);
    until("the child to die", SOON, || {
        (processes::state(held.pid) == Some('Z')).then_some(())
    });
    server.signal(Signal::SIGCONT);
    expect_exit(&server, held.pid, how);
    let stdout = server.stdout();
    let exited = format!(" exited {} ", held.pid);
    let (before, after) = stdout.split_once(&exited).expect("the journal");
    let prefix = format!("{} STDOUT: ", held.pid);
    assert_eq!(before.matches(&format!("{prefix}out ")).count(), 900);
    assert!(before.contains(&format!("{prefix}the end\n")), "{before}");
    assert!(!after.contains(&prefix), "{after}");
    let complaints = format!("{} STDERR: err ", held.pid);
    server.expect_stderr("all of it", |text| text.matches(&complaints).count() == 900);
    Held::new(&address).is_served();
    ends_well(&server);
}
