//! Signals of the parent as data, and faults of the field that come with signals, forks and outputs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod subject;
mod support;

use std::process::ExitCode;
use std::time::Duration;

use prefork_server::{
    Monitor, PreFork, PreForkHooks, Signal as Named, States, TcpServer, defaults,
};
use subject::{Held, SOON, announce, ended, ends_well, has_signal, log_warnings, send, signal_set};
use support::{Args, Server, Signal, World, holds, programs, scenarios, until};

fn main() -> ExitCode {
    support::main(
        programs![rereads, two_servers],
        scenarios![
            a_signal_leads_to_a_state_of_a_subclass,
            a_signal_that_leads_to_a_state_is_put_back,
            a_signal_can_lead_to_shutdown_or_away_from_it,
            a_signal_that_cannot_be_caught_fails_the_start,
            each_of_two_servers_gets_the_signals_that_it_asked_for,
        ],
    )
}

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
    let server = TcpServer::new(subject::converse).max_requests(0);
    PreFork::builder(server)
        .hooks(hooks)
        .start_servers(2)
        .max_spare_servers(10)
}

/// Runs a server whose hooks lead signals to states.
fn rereads(args: Args) -> ExitCode {
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
fn two_servers(_: Args) -> ExitCode {
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

/// SIGHUP leads to a state, once for each that came by itself; children have the default for it.
fn a_signal_leads_to_a_state_of_a_subclass(world: &mut World) {
    let server = world.spawn("rereads", &["--hup"]);
    let mut held = Held::new(&server.address());
    for times in 1..=3 {
        server.signal(Signal::SIGHUP);
        server.expect_stdout("the state", |text| {
            text.matches("state reread\n").count() == times
        });
    }
    held.is_served();
    assert!(has_signal(server.pid(), "SigCgt", Signal::SIGHUP));
    assert!(!has_signal(held.pid, "SigCgt", Signal::SIGHUP));
    assert!(!has_signal(held.pid, "SigIgn", Signal::SIGHUP));
    // One that was led to a state while the server runs.
    server.signal(Signal::SIGUSR2);
    expect_line(&server, "state late");
    // It ends a child that it is sent to, and nobody else.
    send(held.pid, Signal::SIGHUP);
    held.client.gone();
    Held::new(&server.address()).is_served();
    ends_well(&server);
}

/// Whatever was led to a state is the program's own again at the end.
fn a_signal_that_leads_to_a_state_is_put_back(world: &mut World) {
    let sets = |flags: &[&str], world: &mut World| {
        let server = world.spawn("rereads", flags);
        Held::new(&server.address()).is_served();
        ends_well(&server);
        let text = server.stdout();
        let line = text.lines().find(|line| line.starts_with("after: "));
        line.expect("a line").to_owned()
    };
    let without = sets(&[], world);
    assert_eq!(sets(&["--hup", "--usr1-stops"], world), without);
}

/// The states that can be posted can be led to; what the framework would have done is not done then.
fn a_signal_can_lead_to_shutdown_or_away_from_it(world: &mut World) {
    let server = world.spawn("rereads", &["--usr1-stops", "--term"]);
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

/// The error names what failed.
fn a_signal_that_cannot_be_caught_fails_the_start(world: &mut World) {
    let server = world.spawn("rereads", &["--stop"]);
    assert_eq!(server.wait(SOON).code(), Some(1));
    let text = server.stderr();
    let expected = "error: signal Stop: cannot lead to a state";
    assert!(text.contains(expected), "{text}");
}

/// Neither hears of what the other asked for; both hear of SIGTERM.
fn each_of_two_servers_gets_the_signals_that_it_asked_for(world: &mut World) {
    let server = world.spawn("two_servers", &[]);
    let addresses = server.addresses(2);
    let pids = addresses.iter().map(|address| Held::new(address).pid);
    let pids: Vec<u32> = pids.collect();
    server.signal(Signal::SIGHUP);
    expect_line(&server, "state first reread");
    server.signal(Signal::SIGUSR1);
    expect_line(&server, "state second reopen");
    for pid in pids {
        for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
            assert!(!has_signal(pid, "SigCgt", signal), "{signal} in {pid}");
        }
    }
    assert_eq!(lines(&server, "state second reread"), 0);
    assert_eq!(lines(&server, "state first reopen"), 0);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(SOON).code(), Some(0));
    until("no line more", SOON, || {
        (lines(&server, "state first reread") == 1).then_some(())
    });
}
