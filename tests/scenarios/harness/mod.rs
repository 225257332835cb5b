//! The harness tested by itself: each kind of fault must make a scenario fail, and say which.
//!
//! The scenarios named `inner_` are run by the others, in a runner of their own, so that their
//! failure is a success. No scenario here touches the library.

pub mod inner;
pub mod runner;
pub mod world;

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Args, Programs, gate, pause, programs};

pub const PROGRAMS: Programs = programs![
    echo, parent, sleeper, panicker, gated, announcer, hoarder, grumbler
];

/// The variable that turns this executable into the one with the inner scenarios.
pub const INNER: &str = "HARNESS_INNER";

// Programs.

/// Listens, echoes lines, and exits at the line `quit`.
fn echo(args: Args) -> io::Result<()> {
    if let Some(path) = args.value("--unix") {
        let listener = UnixListener::bind(path)?;
        println!("listening on {path}");
        while serve(listener.accept()?.0)? {}
        if !args.has("--leave-path") {
            std::fs::remove_file(path)?;
        }
        return Ok(());
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    while serve(listener.accept()?.0)? {}
    Ok(())
}

/// Echoes on one connection; false once it has said `quit`.
fn serve<S>(stream: S) -> io::Result<bool>
where
    for<'a> &'a S: io::Read + Write,
{
    for line in BufReader::new(&stream).lines() {
        let line = line?;
        if line == "quit" {
            return Ok(false);
        }
        writeln!(&stream, "{line}")?;
    }
    Ok(true)
}

/// Starts children of several kinds, says so, passes a gate and exits without reaping any.
#[expect(clippy::zombie_processes, reason = "to be found by the scenario")]
fn parent(args: Args) {
    let count = args.parsed("--count").unwrap_or(1);
    for _ in 0..count {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--program", "sleeper"]);
        if args.has("--bare") {
            command.env_clear();
        }
        for flag in ["--brief", "--own-session"] {
            if args.has(flag) {
                command.arg(flag);
            }
        }
        // Their outputs would otherwise be those of the parent, which the scenario reads.
        command.stdout(Stdio::null()).spawn().unwrap();
    }
    println!("started");
    gate::pass("exit");
    if args.has("--stay") {
        sleeper(args);
    }
}

/// Does nothing, forever unless it is to be brief.
fn sleeper(args: Args) {
    if args.has("--own-session") {
        nix::unistd::setsid().unwrap();
    }
    while !args.has("--brief") {
        pause(Duration::from_secs(1));
    }
}

/// Panics in a thread and exits with success.
fn panicker(_: Args) {
    let thread = std::thread::spawn(|| panic!("on purpose"));
    assert!(thread.join().is_err());
}

/// Stops at a gate.
fn gated(_: Args) {
    gate::pass("nobody-made-this-one");
    gate::pass("point");
    println!("passed");
}

/// Claims an address that is somebody else's.
fn announcer(args: Args) {
    println!("listening on {}", args.value("--address").unwrap());
}

/// Says where it listens, then starts a child whose output it reads, and keeps the pipe of another one
/// that is gone, unless it is to be tidy.
fn hoarder(args: Args) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    gate::pass("go");
    let start = |flags: &[&str]| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--program", "sleeper"]).args(flags);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let mut gone = start(&["--brief"])?;
    gone.wait()?;
    if args.has("--tidy") {
        drop(gone);
    } else {
        std::mem::forget(gone);
    }
    let _living = start(&[])?;
    println!("done");
    loop {
        pause(Duration::from_secs(1));
    }
}

/// Says why it ends before it listens.
fn grumbler(_: Args) -> io::Result<()> {
    Err(io::Error::other("no address to be had"))
}
