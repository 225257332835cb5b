//! A stop that finds no child left for the clients that are queued: a last one is forked for them,
//! unless that is of no use. The parent stands still where the order of events matters.

use std::process::ExitCode;
use std::time::Duration;

use prefork_server::{Child, Error, Event, Monitor, Observer};

use crate::subject::{
    announce, builder, ended, expect_entry, expect_losses, expect_up, log_warnings, pids, send,
    stop, who,
};
use crate::support::{
    Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, gate, processes,
    programs, scenarios, until,
};

pub const PROGRAMS: Programs = programs![telling];

pub const SCENARIOS: Scenarios = scenarios![
    o22_a_child_that_is_being_replaced_serves_the_queue_of_a_stop,
    o22_a_client_is_served_in_a_stop_though_its_child_has_left_for_a_reload,
    o22_a_client_is_served_in_a_stop_though_its_child_has_left_at_its_limit,
    o22_a_client_is_served_in_a_stop_though_its_child_has_crashed,
    o22_a_client_is_served_in_a_stop_before_the_first_fork,
    i02_a_second_signal_forks_no_child_for_who_is_queued,
    e05_children_that_fail_to_start_are_not_forked_on_in_a_stop,
];

/// The program of the other scenarios, which also says whom it has told to leave.
fn telling(args: Args) -> ExitCode {
    log_warnings();
    let run = || -> Result<(), Error> {
        let mut prefork = builder(&args).observe(Orders).start()?;
        announce(&prefork);
        gate::pass("announced");
        let outcome = prefork.run();
        println!("{}", prefork.monitor().report());
        outcome.map(drop)
    };
    ended(run())
}

struct Orders;

impl Observer for Orders {
    fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        if let Event::Signalled { child, .. } = event {
            let pid = monitor.child(*child).map_or(0, Child::pid);
            println!("told {pid};");
        }
    }
}

/// A server that may have one child, and that child.
struct Alone {
    server: Server,
    child: u32,
}

impl Alone {
    fn start(world: &mut World, flags: &[&str]) -> Self {
        let server = spawn(world, flags);
        let child = expect_up(&server, 1)[0];
        Self { server, child }
    }

    /// A client that its child has in hand.
    fn hold(&self) -> Client {
        let mut client = connect(&self.server.address());
        assert_eq!(who(&mut client), self.child);
        client
    }

    /// Waits until the child was told to leave as often.
    fn expect_told(&self, times: usize) {
        let told = format!("told {};", self.child);
        let is_told = |text: &str| text.matches(&told).count() == times;
        self.server.expect_stdout("an order", is_told);
    }

    /// The parent stands still while the child ends, by `leave` or because of it. Then a client comes
    /// for whom no child is left, and the parent finds `signals` together with the death.
    fn leaves_a_client(&self, leave: impl FnOnce(), signals: &[Signal]) -> Client {
        stop(self.server.pid());
        leave();
        until("the child to end", SOON, || {
            (processes::state(self.child) == Some('Z')).then_some(())
        });
        let client = queue(&self.server);
        signals.iter().for_each(|&one| self.server.signal(one));
        self.server.signal(Signal::SIGCONT);
        client
    }
}

/// With a drain that lasts as long as it takes.
fn spawn(world: &mut World, flags: &[&str]) -> Server {
    let alone = ["--start", "1", "--max-clients", "1"];
    let drain = ["--drain-timeout", "20000"];
    world.spawn("telling", &[&alone[..], &drain, flags].concat())
}

/// A client in the queue.
fn queue(server: &Server) -> Client {
    let mut client = connect(&server.address());
    client.send_line("who");
    client
}

/// Returns the child that answers a client in the queue.
#[track_caller]
fn answered_by(client: &mut Client) -> u32 {
    let answer = client.read_line();
    let (pid, _) = answer.split_once(' ').expect("a pid");
    pid.parse().expect("a pid")
}

/// The client is served by a child that was forked for it, and no further one is.
#[track_caller]
fn is_served_by_a_last_child(server: &Server, mut client: Client) {
    let last = answered_by(&mut client);
    drop(client);
    assert_eq!(server.wait(SOON).code(), Some(0));
    let forked = pids(server, "forked");
    assert_eq!(forked.last(), Some(&last), "{forked:?}");
    assert!(forked.len() <= 2, "{forked:?}");
    assert_eq!(server.complaints(), "");
}

/// A child that was told to leave for a reload, and serves its last client, is told to serve the queue
/// when a stop begins.
///
/// With the end of its drain fixed by the first order it leaves, and another child must come.
fn o22_a_child_that_is_being_replaced_serves_the_queue_of_a_stop(world: &mut World) {
    let alone = Alone::start(world, &[]);
    let held = alone.hold();
    alone.server.signal(Signal::SIGHUP);
    alone.expect_told(1);
    let mut last = queue(&alone.server);
    drop(held);
    assert_eq!(answered_by(&mut last), alone.child, "it looks once more");
    let mut queued = queue(&alone.server);
    alone.server.signal(Signal::SIGTERM);
    alone.expect_told(2);
    drop(last);
    assert_eq!(answered_by(&mut queued), alone.child);
    drop(queued);
    assert_eq!(alone.server.wait(SOON).code(), Some(0));
    assert_eq!(pids(&alone.server, "forked"), [alone.child]);
}

/// Where there is no room the child goes before its successor is forked, and a stop may come between.
fn o22_a_client_is_served_in_a_stop_though_its_child_has_left_for_a_reload(world: &mut World) {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let alone = Alone::start(world, &[]);
        let held = alone.hold();
        alone.server.signal(Signal::SIGHUP);
        alone.expect_told(1);
        let client = alone.leaves_a_client(|| drop(held), &[signal]);
        is_served_by_a_last_child(&alone.server, client);
    }
}

/// A child may reach its limit just before a stop.
fn o22_a_client_is_served_in_a_stop_though_its_child_has_left_at_its_limit(world: &mut World) {
    let alone = Alone::start(world, &["--max-requests", "1"]);
    let held = alone.hold();
    let client = alone.leaves_a_client(|| drop(held), &[Signal::SIGTERM]);
    is_served_by_a_last_child(&alone.server, client);
}

/// A child may be killed just before a stop.
fn o22_a_client_is_served_in_a_stop_though_its_child_has_crashed(world: &mut World) {
    let alone = Alone::start(world, &[]);
    let kill = || send(alone.child, Signal::SIGKILL);
    let client = alone.leaves_a_client(kill, &[Signal::SIGTERM]);
    is_served_by_a_last_child(&alone.server, client);
}

/// A server listens before it forks, so a client may be queued before there is a child.
fn o22_a_client_is_served_in_a_stop_before_the_first_fork(world: &mut World) {
    let mut announced = world.gate("announced");
    let server = spawn(world, &[]);
    assert_eq!(announced.reached(SOON), server.pid());
    let client = queue(&server);
    server.signal(Signal::SIGTERM);
    announced.release(server.pid());
    is_served_by_a_last_child(&server, client);
    assert_eq!(pids(&server, "forked").len(), 1);
}

/// A second signal ends the server at once: no child is forked for the clients that are queued.
fn i02_a_second_signal_forks_no_child_for_who_is_queued(world: &mut World) {
    let alone = Alone::start(world, &["--max-requests", "1"]);
    let held = alone.hold();
    let both = [Signal::SIGTERM, Signal::SIGINT];
    let mut client = alone.leaves_a_client(|| drop(held), &both);
    client.gone();
    assert_eq!(alone.server.wait(SOON).code(), Some(0));
    assert_eq!(pids(&alone.server, "forked"), [alone.child]);
    expect_losses(&alone.server, "1 connections: 1 queued, 0 in hand");
}

/// Children that fail at their start would fail in a stop as well: while their failures delay forks, a
/// stop forks none. It does not wait for the end of the drain, and says whom it has lost.
fn e05_children_that_fail_to_start_are_not_forked_on_in_a_stop(world: &mut World) {
    let broken = world.tempdir().join("broken");
    std::fs::write(&broken, "").expect("a file");
    let path = broken.to_str().expect("a path");
    let server = spawn(world, &["--fail-while", path]);
    let failures = until("six failures", SOON * 2, || {
        let failures = pids(&server, "exited");
        (failures.len() == 6).then_some(failures)
    });
    let mut client = queue(&server);
    server.signal(Signal::SIGTERM);
    client.gone();
    assert_eq!(server.wait(SOON).code(), Some(0));
    let [failed, begun] = [("exited", failures[5]), ("shutdown", 0)]
        .map(|(event, pid)| expect_entry(&server, event, pid).at);
    // The next fork is due after 1.6 s.
    if begun - failed < Duration::from_millis(1500) {
        assert_eq!(pids(&server, "forked"), failures);
    }
    expect_losses(&server, "1 connections: 1 queued, 0 in hand");
}
