//! Signals that are led to states, and faults from the field with signals, forks and outputs.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::subject::{
    Held, announce, ended, ends_well, expect_exit, has_signal, log_warnings, pids, send, signal_set,
};
use crate::support::{
    Address, Args, Programs, SOON, Scenarios, Server, Signal, World, holds, port_is_free,
    processes, programs, scenarios, until,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, Uid, fork, pause};
use prefork_server::servers::TcpConn;
use prefork_server::{
    Monitor, PreFork, PreForkHooks, Signal as Named, States, TcpServer, UnixServer, defaults,
};

pub mod ended;
pub mod helpers;
pub mod odd;

use self::ended::strangers_ended_by_hand;
use self::helpers::strangers_helpers;
use self::odd::{do_odd_things, strangers_bare, strangers_odd};

pub const PROGRAMS: Programs = programs![
    strangers_rereads,
    strangers_two_servers,
    strangers_helpers,
    strangers_daemon,
    strangers_odd,
    strangers_bare,
    strangers_ended_by_hand
];

pub const SCENARIOS: Scenarios = scenarios![
    a_signal_leads_to_a_state_of_a_subclass,
    a_signal_that_leads_to_a_state_is_put_back,
    a_signal_can_lead_to_shutdown_or_away_from_it,
    a_signal_that_cannot_be_caught_fails_the_start,
    each_of_two_servers_gets_the_signals_that_it_asked_for,
    o09_a_program_that_becomes_a_daemon_after_the_start_works,
];

/// Leads signals to states, as the flags say, and prints each call.
struct Leading {
    name: &'static str,
    leads: Vec<(Named, &'static str)>,
}

impl Leading {
    fn of(args: &Args) -> Self {
        let mut leads = Vec::new();
        for (flag, lead) in [
            ("--hup", (Named::Hangup, "reread")),
            ("--usr1-stops", (Named::User1, "shutdown")),
            ("--term", (Named::Terminate, "drain")),
            ("--stop", (Named::Stop, "halt")),
        ] {
            if args.has(flag) {
                leads.push(lead);
            }
        }
        Self { name: "", leads }
    }
}

impl PreForkHooks for Leading {
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
        for (signal, state) in &self.leads {
            states.signal(*signal, state);
        }
    }

    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        let line = format!("state {}{state}", self.name);
        monitor.print_stdout(line);
        if state == "reread" {
            // Later ones can be led as well.
            monitor.signal(Named::User2, "late");
        }
    }
}

fn leading(hooks: Leading) -> prefork_server::Builder<Leading, TcpServer> {
    let server = TcpServer::new(crate::subject::converse).max_requests(0);
    PreFork::builder(server)
        .hooks(hooks)
        .start_servers(2)
        .max_spare_servers(10)
}

/// Runs a server whose hooks lead signals to states.
fn strangers_rereads(args: Args) -> ExitCode {
    log_warnings();
    let result = leading(Leading::of(&args)).start().and_then(|mut prefork| {
        announce(&prefork);
        prefork.run().map(drop)
    });
    println!("after: {}", own_signals());
    ended(result)
}

fn own_signals() -> String {
    let sets = ["SigBlk", "SigIgn", "SigCgt"].map(|set| signal_set(std::process::id(), set));
    format!("{sets:x?}")
}

/// Runs two servers in one loop: the first has HUP lead to a state, the second USR1.
fn strangers_two_servers(_: Args) -> ExitCode {
    log_warnings();
    ended(run_two())
}

fn run_two() -> Result<(), prefork_server::Error> {
    let start = |name, lead| {
        let hooks = Leading {
            name,
            leads: vec![lead],
        };
        leading(hooks).start()
    };
    let mut servers = [
        start("first ", (Named::Hangup, "reread"))?,
        start("second ", (Named::User1, "reopen"))?,
    ];
    servers.iter().for_each(announce);
    loop {
        let mut done = 0;
        for server in &mut servers {
            done += usize::from(server.turn(Some(Duration::from_millis(5)))?.is_done());
        }
        if done == servers.len() {
            return Ok(());
        }
    }
}

fn expect_line(server: &Server, line: &str) {
    server.expect_stdout(line, |text| text.lines().any(|it| it == line));
}

fn lines(server: &Server, line: &str) -> usize {
    server.stdout().lines().filter(|it| *it == line).count()
}

/// SIGHUP leads to a state, once for each separate signal; children have a handler that does nothing.
fn a_signal_leads_to_a_state_of_a_subclass(world: &mut World) {
    let server = world.spawn("strangers_rereads", &["--hup"]);
    let mut held = Held::new(&server.address());
    for times in 1..=3 {
        server.signal(Signal::SIGHUP);
        server.expect_stdout("the state", |text| {
            text.matches("state reread\n").count() == times
        });
    }
    held.is_served();
    assert!(has_signal(server.pid(), "SigCgt", Signal::SIGHUP));
    assert!(has_signal(held.pid, "SigCgt", Signal::SIGHUP));
    assert!(!has_signal(held.pid, "SigIgn", Signal::SIGHUP));
    // One that was led to a state while the server runs.
    server.signal(Signal::SIGUSR2);
    expect_line(&server, "state late");
    // It has no effect on a child that it is sent to.
    send(held.pid, Signal::SIGHUP);
    held.is_served();
    drop(held);
    Held::new(&server.address()).is_served();
    ends_well(&server);
}

/// A signal that was led to a state has the program's disposition again at the end.
fn a_signal_that_leads_to_a_state_is_put_back(world: &mut World) {
    let sets = |flags: &[&str], world: &mut World| {
        let server = world.spawn("strangers_rereads", flags);
        Held::new(&server.address()).is_served();
        ends_well(&server);
        let text = server.stdout();
        let line = text.lines().find(|line| line.starts_with("after: "));
        line.expect("a line").to_owned()
    };
    let without = sets(&[], world);
    assert_eq!(sets(&["--hup", "--usr1-stops"], world), without);
}

/// A signal can lead to any state that can be posted, instead of the framework's own reaction.
fn a_signal_can_lead_to_shutdown_or_away_from_it(world: &mut World) {
    let server = world.spawn("strangers_rereads", &["--usr1-stops", "--term"]);
    let mut held = Held::new(&server.address());
    server.signal(Signal::SIGTERM);
    expect_line(&server, "state drain");
    holds("it serves on", Duration::from_millis(200), || {
        server.children().len() == 2
    });
    held.is_served();
    drop(held);
    server.signal(Signal::SIGUSR1);
    assert_eq!(server.wait(SOON).code(), Some(0));
}

/// The error of a signal that cannot be led names the signal.
fn a_signal_that_cannot_be_caught_fails_the_start(world: &mut World) {
    let server = world.spawn("strangers_rereads", &["--stop"]);
    assert_eq!(server.wait(SOON).code(), Some(1));
    let text = server.stderr();
    let expected = "error: signal Stop: cannot lead to a state";
    assert!(text.contains(expected), "{text}");
}

/// Of two servers neither gets the other's signals; both get SIGTERM.
fn each_of_two_servers_gets_the_signals_that_it_asked_for(world: &mut World) {
    let server = world.spawn("strangers_two_servers", &[]);
    let addresses = server.addresses(2);
    let mut held: Vec<Held> = addresses.iter().map(Held::new).collect();
    server.signal(Signal::SIGHUP);
    expect_line(&server, "state first reread");
    server.signal(Signal::SIGUSR1);
    expect_line(&server, "state second reopen");
    for client in &mut held {
        for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
            send(client.pid, signal);
            client.is_served();
        }
    }
    drop(held);
    assert_eq!(lines(&server, "state second reread"), 0);
    assert_eq!(lines(&server, "state first reopen"), 0);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(SOON).code(), Some(0));
    until("no line more", SOON, || {
        (lines(&server, "state first reread") == 1).then_some(())
    });
}

/// Starts a server on a socket file, becomes a daemon, and runs it.
fn strangers_daemon(args: Args) -> ExitCode {
    log_warnings();
    let path = args.value("--path").unwrap();
    let server = UnixServer::new(path, |conn| writeln!(&conn, "{}", std::process::id()));
    let started = PreFork::builder(server).start_servers(2).start();
    ended(started.and_then(|mut prefork| {
        nix::unistd::daemon(true, true).unwrap();
        println!("daemon {}", std::process::id());
        if args.has("--thread") {
            crate::subject::spawn_thread();
        }
        if args.has("--drop") {
            while prefork.monitor().children().count() < 2 {
                let _ = prefork.turn(None)?;
            }
            let children: Vec<u32> = prefork.monitor().children().map(|it| it.pid()).collect();
            drop(prefork);
            let left = children
                .iter()
                .filter(|pid| processes::state(**pid).is_some());
            println!("left {}", left.count());
            return Ok(());
        }
        prefork.run().map(drop)
    }))
}

/// The pid is recorded at the first turn, so a program may start the server and then become a
/// daemon: the thread check, the socket file and a drop are the daemon's.
///
/// Without `take_possession` the daemon forks with two threads, leaves the file, and leaves zombies.
fn o09_a_program_that_becomes_a_daemon_after_the_start_works(world: &mut World) {
    world.expect_orphans();
    let path = world.tempdir().join("socket");
    let path = path.to_str().unwrap();
    let spawn = |flags: &[&str], world: &mut World| {
        let server = world.spawn("strangers_daemon", &[&["--path", path], flags].concat());
        assert_eq!(server.wait(SOON).code(), Some(0));
        let text = server.expect_stdout("the daemon", |text| text.contains("daemon "));
        let pid = text.lines().find_map(|line| line.strip_prefix("daemon "));
        (server, pid.unwrap().parse::<u32>().unwrap())
    };
    let gone = |pid: u32| {
        until("the daemon to end", SOON, || {
            (!processes::is_alive(pid)).then_some(())
        });
        assert!(!Path::new(path).exists());
    };
    let (_, pid) = spawn(&[], world);
    let address = Address::Unix(path.into());
    let child: u32 = crate::support::connect(&address)
        .read_line()
        .parse()
        .unwrap();
    assert_eq!(processes::Process::read(child).unwrap().parent, pid);
    send(pid, Signal::SIGTERM);
    gone(pid);
    let (server, pid) = spawn(&["--thread"], world);
    gone(pid);
    assert!(server.stderr().contains("2 threads"), "{}", server.stderr());
    let (server, pid) = spawn(&["--drop"], world);
    gone(pid);
    assert!(server.stdout().contains("left 0\n"), "{}", server.stdout());
}
