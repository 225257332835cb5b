//! Time: clocks that jump, loops that are late, starts that take long.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use prefork_server::servers::TcpConn;
use prefork_server::{Error, PreFork, PreForkHooks, Start, TcpServer, defaults};

use crate::injection::Strace;
use crate::subject::{
    Held, Journal, announce, await_checks, deaths, ended, ends_well, expect_up, log_warnings,
    millis, nobody_was_blamed,
};
use crate::support;
use crate::support::{Args, Programs, SOON, Scenarios, World, pause, programs, scenarios, until};

pub const PROGRAMS: Programs = programs![clock, late];

pub const SCENARIOS: Scenarios = scenarios![
    h01_a_wall_clock_that_jumps_kills_nobody,
    h03_a_loop_that_lags_blames_nobody,
    h04_durations_of_any_length_are_served_with,
    h06_a_start_that_says_that_it_lasts_is_waited_for,
    h06_a_start_that_is_silent_is_ended_like_any_silence,
];

// The programs.

/// Tells its clients the wall clock's time.
fn clock(args: Args) -> ExitCode {
    log_warnings();
    let server = TcpServer::new(tell_time).max_requests(0);
    ended(run(&args, server, Journal::new(&args)))
}

/// Its children take long to start.
fn late(args: Args) -> ExitCode {
    log_warnings();
    let server = TcpServer::new(tell_time).max_requests(0);
    ended(run(&args, server, Late(args.clone())))
}

fn run(args: &Args, server: TcpServer, hooks: impl PreForkHooks) -> Result<(), Error> {
    let mut prefork = PreFork::builder(server)
        .hooks(hooks)
        .start_servers(2)
        .max_spare_servers(100)
        .timeout(millis(args, "--timeout", 1000))
        .server_check_ack(Some(Duration::from_millis(100)))
        .kill_timeout(Duration::from_millis(200))
        .shutdown_timeout(Duration::from_millis(500))
        .start()?;
    announce(&prefork);
    println!("{}", prefork.run()?);
    Ok(())
}

fn tell_time(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        line?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        writeln!(&conn, "{} {seconds}", std::process::id())?;
    }
    Ok(())
}

struct Late(Args);

impl PreForkHooks for Late {
    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        for _ in 0..self.0.parsed("--steps").unwrap() {
            if self.0.has("--says-so") {
                start.comm().ack()?;
            }
            pause(Duration::from_millis(100));
        }
        defaults::server_start(self, start)
    }
}

// The scenarios.

/// All times are monotonic: when the wall clock jumps by days, forward or back, no child is timed
/// out, and timers go off as usual.
fn h01_a_wall_clock_that_jumps_kills_nobody(world: &mut World) {
    let places = ["x86_64-linux-gnu/", "aarch64-linux-gnu/", ""];
    let library = places
        .map(|place| format!("/usr/lib/{place}faketime/libfaketime.so.1"))
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(library) = library else {
        return eprintln!("skipped: this machine has no libfaketime");
    };
    let jump = world.tempdir().join("jump");
    fs::write(&jump, "+0").unwrap();
    let server = world
        .program("clock")
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &jump)
        .env("FAKETIME_NO_CACHE", "1")
        // The wall clock alone, as by an administrator.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .spawn();
    let mut held = Held::new(&server.address());
    let mut time = || -> i64 {
        let answer = held.client.ask("time");
        answer.split_once(' ').unwrap().1.parse().unwrap()
    };
    expect_up(&server, 2);
    let start = time();
    const DAY: i64 = 24 * 3600;
    for (offset, days) in [("+10d", 10), ("-10d", -10), ("+0", 0)] {
        // In one step: half a file is no time.
        let next = jump.with_extension("next");
        fs::write(&next, offset).unwrap();
        fs::rename(next, &jump).unwrap();
        let shift = time() - start;
        assert!((shift - days * DAY).abs() < DAY, "{shift} s for {offset}");
        await_checks(&server, 15);
        nobody_was_blamed(&server);
    }
    drop(held);
    ends_well(&server);
}

/// ACKs that have arrived are read before silence is judged, so a loop that is late at each turn
/// finds none missing.
fn h03_a_loop_that_lags_blames_nobody(world: &mut World) {
    let arguments = [
        "--timeout",
        "1000",
        "--check",
        "100",
        "--kill-timeout",
        "100",
    ];
    let server = world.spawn("serve", &arguments);
    let mut held = Held::new(&server.address());
    expect_up(&server, 2);
    // Microseconds: each wait lasts for more than half of the timeout, whatever has come meanwhile.
    let inject = "inject=epoll_wait,epoll_pwait:delay_exit=600000";
    let Some(strace) = Strace::attach(world, server.pid(), &["-e", inject]) else {
        drop(held);
        return ends_well(&server);
    };
    await_checks(&server, 5);
    held.is_served();
    nobody_was_blamed(&server);
    strace.detach();
    await_checks(&server, 2);
    nobody_was_blamed(&server);
    drop(held);
    ends_well(&server);
}

/// A duration that would overflow means never; a duration of zero means now.
fn h04_durations_of_any_length_are_served_with(world: &mut World) {
    let forever = u64::MAX.to_string();
    for times in [&*forever, "0"] {
        let mut arguments = vec!["--start", "3", "--max-spare", "2"];
        for name in ["--check", "--kill-timeout", "--cull-after"] {
            arguments.extend([name, times]);
        }
        arguments.extend(["--timeout", if times == "0" { "1" } else { times }]);
        let server = world.spawn("serve", &arguments);
        let address = server.address();
        for _ in 0..5 {
            // With a timeout of a millisecond children may come and go as fast as they are judged.
            until("somebody to serve", SOON, || {
                let mut client = support::try_connect(&address).ok()?;
                client.try_send_line("who").ok()?;
                client.try_read_line().ok()?
            });
        }
        assert_eq!(server.stderr().matches("panicked").count(), 0);
        ends_well(&server);
    }
}

/// A child with a long start says ACK meanwhile (`Comm::ack` in `server_start`), and may be
/// starting for any length of time.
fn h06_a_start_that_says_that_it_lasts_is_waited_for(world: &mut World) {
    // Without the ACKs none ever came to serve: each was told to stop after a second.
    let server = world.spawn("late", &["--steps", "25", "--says-so"]);
    let address = server.address();
    let children = server.expect_children(2);
    let held = Held::new(&address);
    assert!(children.contains(&held.pid));
    assert_eq!(server.children(), children);
    drop(held);
    ends_well(&server);
    assert_eq!(deaths(&server, "TimedOut"), 0);
}

/// Without a `start_timeout` a child that is silent in its start for longer than `timeout`
/// is told to stop, killed and replaced like any silent child.
fn h06_a_start_that_is_silent_is_ended_like_any_silence(world: &mut World) {
    let server = world.spawn("late", &["--steps", "1000", "--timeout", "500"]);
    server.address();
    let first = server.expect_children(2);
    until("both to be replaced", SOON, || {
        let now = server.children();
        (!now.is_empty() && first.iter().all(|pid| !now.contains(pid))).then_some(())
    });
    ends_well(&server);
    assert!(deaths(&server, "TimedOut") >= 2);
}
