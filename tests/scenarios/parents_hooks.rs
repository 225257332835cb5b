//! Hooks of the parent: slow hooks, one that panics, one that posts itself, and one that changes
//! the limits while the server runs.

use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Duration;

use prefork_server::servers::TcpConn;
use prefork_server::{
    ChildId, Error, Line, Monitor, PreFork, PreForkHooks, States, TcpServer, defaults,
};

use crate::subject::{
    Held, announce, deaths, ended, ends_well, hold, log_warnings, millis, report,
};
use crate::support::{Args, Programs, Scenarios, Server, World, holds, pause, programs, scenarios};

pub const PROGRAMS: Programs = programs![slow_parent, restless];

pub const SCENARIOS: Scenarios = scenarios![
    c15_a_slow_hook_is_measured_and_reported,
    h03_a_hook_slower_than_timeout_blames_nobody: long,
    m02_a_lowered_max_clients_is_reached_without_hurting_a_client,
    c15_a_panic_in_a_hook_of_the_parent_is_survived,
    a_state_that_posts_itself_does_not_keep_the_server,
];

// The program.

/// Its parent does what a line that was printed says: `slow` for so many milliseconds, or another
/// `max-clients`.
fn slow_parent(args: Args) -> ExitCode {
    log_warnings();
    ended(run(&args))
}

fn run(args: &Args) -> Result<(), Error> {
    let mut prefork = PreFork::builder(TcpServer::new(obey).max_requests(0))
        .hooks(Obedient)
        .start_servers(2)
        .max_spare_servers(100)
        .timeout(millis(args, "--timeout", 0))
        .server_check_ack(args.parsed("--check").map(Duration::from_millis))
        .start()?;
    announce(&prefork);
    println!("{}", prefork.run()?);
    Ok(())
}

struct Obedient;

impl PreForkHooks for Obedient {
    fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        let text = String::from_utf8_lossy(line.bytes());
        if let Some(time) = text.strip_prefix("slow ") {
            pause(Duration::from_millis(time.parse().unwrap()));
        }
        if let Some(number) = text.strip_prefix("max-clients ") {
            monitor.set_max_clients(number.parse().unwrap());
        }
        defaults::server_stdout(self, monitor, child, line);
    }
}

/// Answers `who` as the subject does, and prints everything else.
fn obey(conn: TcpConn) -> io::Result<()> {
    for line in BufReader::new(&conn).lines() {
        let line = line?;
        if line == "who" {
            writeln!(&conn, "{} who", std::process::id())?;
        } else {
            println!("{line}");
            writeln!(&conn, "done")?;
        }
    }
    Ok(())
}

// What the scenarios share.

/// Has the child print a line, and waits until the parent has done what it says.
#[track_caller]
fn order(server: &Server, held: &mut Held, order: &str) {
    assert_eq!(held.client.ask(order), "done");
    let line = format!("{} STDOUT: {order}", held.pid);
    server.expect_stdout(order, |text| text.lines().any(|found| found == line));
}

// The scenarios.

/// Each call of a hook is measured. A call of 250 ms or more is counted in the report, and a
/// warning, at most one in ten seconds, names the hook and the time.
fn c15_a_slow_hook_is_measured_and_reported(world: &mut World) {
    let server = world.spawn("slow_parent", &[]);
    let address = server.address();
    let mut held = Held::new(&address);
    for text in ["slow 0", "slow 400", "slow 401", "slow 402"] {
        order(&server, &mut held, text);
    }
    let stderr = server.expect_stderr("the warning", |text| text.contains("hook "));
    assert!(stderr.contains(" ms, in which the parent did nothing else"));
    assert_eq!(stderr.matches(" ms, in which").count(), 1, "{stderr}");
    held.is_served();
    drop(held);
    ends_well(&server);
    let report = report(&server);
    let slow = report.rsplit_once(" slow hooks").and_then(|(text, _)| {
        let number = text.rsplit_once(' ')?.1;
        number.parse::<u64>().ok()
    });
    // Whatever was slow on a machine with more to do counts too.
    assert!(slow >= Some(3), "{report}");
}

/// After a slow hook, words that have arrived are read before silence is judged, so that the time
/// in which the parent did not read does not count as silence.
fn h03_a_hook_slower_than_timeout_blames_nobody(world: &mut World) {
    // When the turn performed before it read, and a check was not put off after a long turn either
    // (`puts_off_timeout_check`), all children were told to stop. Each of the two is enough.
    let server = world.spawn("slow_parent", &["--timeout", "2000", "--check", "100"]);
    let address = server.address();
    let mut held = Held::new(&address);
    for text in ["slow 4500", "slow 4501"] {
        order(&server, &mut held, text);
    }
    let until_now = server.children();
    holds("nobody is told", Duration::from_secs(3), || {
        server.children() == until_now
    });
    held.is_served();
    drop(held);
    ends_well(&server);
    assert_eq!(deaths(&server, "TimedOut"), 0);
}

/// If `max_clients` is lowered below the number of children, free children are told to stop after
/// `cull_after`; busy ones first finish their connection.
fn m02_a_lowered_max_clients_is_reached_without_hurting_a_client(world: &mut World) {
    // Without the second half of `pool::surplus` all six stayed forever.
    let server = world.spawn("slow_parent", &[]);
    let address = server.address();
    let mut held = hold(&address, 5);
    server.expect_children(6);
    order(&server, &mut held[0], "max-clients 3");
    server.expect_children(5);
    holds("the busy ones go on", Duration::from_millis(1500), || {
        held.iter_mut().for_each(Held::is_served);
        server.children().len() == 5
    });
    held.truncate(3);
    server.expect_children(3);
    held.iter_mut().for_each(Held::is_served);
    held.clear();
    Held::new(&address).is_served();
    assert_eq!(server.children().len(), 3);
    ends_well(&server);
    assert_eq!(
        (deaths(&server, "Culled"), deaths(&server, "Shutdown")),
        (3, 3)
    );
}

/// A panic in a hook of the parent is caught, logged with the hook's name and counted; the loop
/// goes on.
fn c15_a_panic_in_a_hook_of_the_parent_is_survived(world: &mut World) {
    // Without the `catch_unwind` in `ParentState::caught` the parent ends.
    world.expect_panics();
    let server = world.spawn("serve", &["--start", "1", "--panic-once"]);
    let address = server.address();
    let mut held = Held::new(&address);
    // What the hook had asked for before it panicked, a look at the numbers, is done.
    server.expect_children(2);
    held.is_served();
    Held::new(&address).is_served();
    drop(held);
    ends_well(&server);
    assert!(
        server
            .stderr()
            .contains("hook server_busy panicked: the hook was told to")
    );
    let report = report(&server);
    assert!(report.contains(", 1 hook panics"), "{report}");
}

/// Hooks with a state that posts itself without end.
struct Restless;

impl PreForkHooks for Restless {
    fn create_states(&mut self, states: &mut States) {
        states.add("again");
    }

    fn handler_server_fork(&mut self, monitor: &mut Monitor) {
        defaults::handler_server_fork(self, monitor);
        monitor.post("again");
    }

    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        monitor.post(state);
    }
}

fn restless(_: Args) -> ExitCode {
    let server = TcpServer::new(|_| Ok(()));
    let started = PreFork::builder(server)
        .hooks(Restless)
        .start_servers(1)
        .start();
    ended(started.and_then(|mut prefork| {
        announce(&prefork);
        prefork.run().map(drop)
    }))
}

/// Fails if the end waits until nothing is queued.
fn a_state_that_posts_itself_does_not_keep_the_server(world: &mut World) {
    let server = world.spawn("restless", &[]);
    server.address();
    server.expect_children(1);
    ends_well(&server);
}
