//! Replacement on real processes: reloads that succeed, fail, overlap and are overtaken by a stop,
//! and children that are replaced at their limits. No client is lost, and the capacity does not fall.

use std::cell::RefCell;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use prefork_server::servers::TcpConn;
use prefork_server::{
    Builder, Child, ChildId, ChildServer, Death, Error, Event, ExecServer, Monitor, Observer,
    PreFork, PreForkHooks, Start, State, TcpServer, defaults,
};

use crate::subject::{announce, ended, log_warnings};
use crate::support::{
    Address, Args, Client, Programs, SOON, Scenarios, Server, Signal, World, connect, gate, holds,
    load, processes, programs, scenarios, until,
};

pub mod steps;

mod program;

use self::program::{reloading, reloading_programs};

pub const PROGRAMS: Programs = programs![reloading, reloading_programs];

pub const SCENARIOS: Scenarios = scenarios![
    reloads_replace_every_child_and_lose_no_client,
    a_reload_with_as_many_children_as_allowed_lets_one_go_at_a_time,
    a_child_with_a_long_connection_does_not_hold_up_a_reload_without_room,
    i06_a_reload_whose_hook_fails_changes_nothing,
    i06_a_reload_whose_children_fail_is_given_up_and_the_old_ones_serve_on,
    a_reload_whose_children_hang_is_given_up_after_start_timeout,
    i04_a_reload_during_a_reload_begins_again,
    i03_a_stop_during_a_reload_wins,
    a_reload_lets_a_connection_last_longer_than_kill_timeout,
    children_at_max_requests_go_when_their_successors_are_ready,
    children_that_are_too_old_are_replaced_one_by_one: long,
    a_child_that_leaks_is_replaced_and_its_client_served,
    a_child_can_ask_for_its_replacement,
    a_program_that_says_no_word_is_replaced,
];

/// How many reloads the scenario of many makes beside four clients; `RELOADS=10000` makes the figure
/// in the documents, beside sixteen.
const RELOADS: usize = 10;

// What scenarios do.

/// A server with the settings "first".
struct Reloaded {
    server: Server,
    path: PathBuf,
}

impl Reloaded {
    fn start(world: &mut World, program: &str, flags: &[&str]) -> Self {
        let path = world.tempdir().join("settings");
        fs::write(&path, "first").expect("a file");
        let program = world.program(program).args(flags);
        let server = program.arg("--settings").arg(&path).spawn();
        Self { server, path }
    }

    fn new(world: &mut World, flags: &[&str]) -> Self {
        Self::start(world, "reloading", flags)
    }

    fn reload(&self, settings: &str) {
        write_whole(&self.path, settings);
        self.server.signal(Signal::SIGHUP);
    }

    fn said(&self, text: &str) -> usize {
        self.server.stdout().matches(text).count()
    }

    /// Waits until the server has said that as often.
    #[track_caller]
    fn expect(&self, text: &str, times: usize) {
        let what = format!("{times} times {text:?}");
        self.server
            .expect_stdout(&what, |stdout| stdout.matches(text).count() >= times);
    }

    /// Waits until every child answers with these settings.
    #[track_caller]
    fn expect_settings(&self, settings: &str) {
        let address = self.server.address();
        let mut in_a_row = 0;
        until("the settings in every child", SOON, || {
            let (_, found) = ask(&mut connect(&address), "who");
            in_a_row = if found == settings { in_a_row + 1 } else { 0 };
            (in_a_row == 20).then_some(())
        });
    }

    /// Stops the server; returns by how many children its capacity fell at most.
    fn stop(&self) -> usize {
        assert_eq!(self.server.stop(Signal::SIGTERM, SOON).code(), Some(0));
        let stdout = self.server.stdout();
        let (_, rest) = stdout.split_once("missed at most ").expect("the number");
        rest.lines()
            .next()
            .expect("a line")
            .parse()
            .expect("a number")
    }
}

/// A reader finds the old settings or the new ones, never half of them.
fn write_whole(path: &Path, settings: &str) {
    let new = path.with_extension("new");
    fs::write(&new, settings).expect("a file");
    fs::rename(&new, path).expect("its name");
}

/// The pid and the settings of the child that answers.
#[track_caller]
fn ask(client: &mut Client, line: &str) -> (u32, String) {
    let answer = client.ask(line);
    let (pid, settings) = answer.split_once(' ').expect("a pid and settings");
    (pid.parse().expect("a pid"), settings.to_owned())
}

/// Clients that connect, ask, are answered and wait for the end of their connection, again and again,
/// while `meanwhile` runs: no more children are busy than there are clients. Each must be answered.
/// Returns how many were.
pub fn under_load(address: &Address, clients: usize, meanwhile: impl FnOnce()) -> usize {
    under_load_with_pauses(address, clients, Duration::ZERO, meanwhile)
}

/// Pauses in which other scenarios can run. An exec, or the start of a child, takes longer: in each of
/// them clients come.
pub const BETWEEN: Duration = Duration::from_millis(2);

/// The same with such a pause of each client between two connections.
pub fn beside_clients(address: &Address, clients: usize, meanwhile: impl FnOnce()) -> usize {
    under_load_with_pauses(address, clients, BETWEEN, meanwhile)
}

pub fn under_load_with_pauses(
    address: &Address,
    clients: usize,
    between: Duration,
    meanwhile: impl FnOnce(),
) -> usize {
    let visit = |mut client: Client| {
        ask(&mut client, "who");
        client.close_write();
        client.eof();
    };
    load::under_load(address, clients, between, visit, meanwhile)
}

/// Every client is answered, and the number of children that can serve never falls.
///
/// `RELOADS=10000` gives the figure of docs/reliability.md.
fn reloads_replace_every_child_and_lose_no_client(world: &mut World) {
    let many = std::env::var("RELOADS").ok();
    let (children, clients, between) = match many {
        Some(_) => (24, 16, Duration::from_millis(4)),
        None => (4, 4, BETWEEN),
    };
    let reloads = many.map_or(RELOADS, |n| n.parse().expect("a number"));
    world.deadline(SOON * 6 + Duration::from_millis(500) * u32::try_from(reloads).unwrap());
    let start = children.to_string();
    let reloaded = Reloaded::new(world, &["--max-clients", "200", "--start", &start]);
    let server = &reloaded.server;
    let before = server.expect_children(children);
    let (descriptors, memory) = (server.descriptors_settled().len(), memory(server.pid()));
    let began = Instant::now();
    let served = under_load_with_pauses(&server.address(), clients, between, || {
        for number in 1..=reloads {
            reloaded.reload(&format!("settings {number}"));
            reloaded.expect("reloaded, ", number);
        }
    });
    println!(
        "{reloads} reloads in {:?}, {served} connections",
        began.elapsed()
    );
    reloaded.expect_settings(&format!("settings {reloads}"));
    let living = server.children();
    assert!(
        before.iter().all(|old| !living.contains(old)),
        "an old child lives"
    );
    until("the descriptors as before", SOON, || {
        let living = server.children().len() + server.zombies().len();
        (server.descriptors().len() <= descriptors + 2 * living.saturating_sub(children))
            .then_some(())
    });
    let grown = self::memory(server.pid()).saturating_sub(memory);
    assert!(grown < 2 << 20, "the parent has grown by {grown} bytes");
    assert_eq!(reloaded.stop(), 0, "the capacity fell");
}

/// Resident memory of a process, in bytes, but for that of files: how much of its program is there
/// depends on what the kernel has read ahead.
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let kib = |name: &str| -> u64 {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let number = value.and_then(|value| value.split_whitespace().next());
        number.and_then(|kib| kib.parse().ok()).expect("its memory")
    };
    (kib("RssAnon:") + kib("RssShmem:")) * 1024
}

/// At `max_clients` there is no room for a successor. A child that is told to go leaves the clients
/// that are queued, here always some, to the others.
fn a_reload_with_as_many_children_as_allowed_lets_one_go_at_a_time(world: &mut World) {
    let flags = ["--max-clients", "4", "--drain-timeout", "60000"];
    let reloaded = Reloaded::new(world, &flags);
    reloaded.server.expect_children(4);
    let served = under_load(&reloaded.server.address(), 32, || {
        for number in 1..=5 {
            reloaded.reload(&format!("settings {number}"));
            reloaded.expect("reloaded, ", number);
        }
    });
    assert!(served > 0);
    reloaded.expect_settings("settings 5");
    assert!(reloaded.server.children().len() <= 4);
    assert!(reloaded.stop() <= 1, "more than one was missing");
}

/// The one that is told to go, for want of room for a successor, serves on; the others are replaced.
fn a_child_with_a_long_connection_does_not_hold_up_a_reload_without_room(world: &mut World) {
    let reloaded = Reloaded::new(world, &["--max-clients", "4"]);
    reloaded.expect("ready", 4);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = connect(&reloaded.server.address());
        let (pid, _) = ask(&mut client, "who");
        held.push((pid, client));
    }
    reloaded.reload("second");
    reloaded.expect(" to stop", 1);
    let stdout = reloaded.server.stdout();
    let told = |pid: u32| stdout.find(&format!("told {pid} to stop"));
    held.sort_by_key(|(pid, _)| told(*pid).unwrap_or(usize::MAX));
    held.truncate(1);
    let (old, mut client) = held.pop().expect("the one that was told first");
    reloaded.expect("reloaded, 4 replaced", 1);
    assert_eq!(ask(&mut client, "who"), (old, "first".to_owned()));
    reloaded.expect_settings("second");
    drop(client);
    reloaded.expect(&format!("exited {old} Reloaded"), 1);
    reloaded.server.expect_children(4);
    assert!(reloaded.stop() <= 2, "more were missing");
}

/// A hook that cannot read the new settings changes nothing: no child is forked or told to go.
fn i06_a_reload_whose_hook_fails_changes_nothing(world: &mut World) {
    let reloaded = Reloaded::new(world, &[]);
    let before = reloaded.server.expect_children(4);
    reloaded.expect_settings("first");
    reloaded.reload("invalid");
    reloaded.expect("failed: reload the settings: a key is unknown", 1);
    reloaded.expect_settings("first");
    assert_eq!(reloaded.server.expect_children(4), before);
    assert_eq!((reloaded.said("began"), reloaded.stop()), (0, 0));
}

/// No child of the broken epoch becomes ready, so none of the old ones goes.
fn i06_a_reload_whose_children_fail_is_given_up_and_the_old_ones_serve_on(world: &mut World) {
    let reloaded = Reloaded::new(world, &[]);
    let before = reloaded.server.expect_children(4);
    reloaded.expect_settings("first");
    reloaded.reload("broken");
    reloaded.expect("3 children in a row have not become ready", 1);
    let stderr = reloaded.server.stderr();
    assert!(stderr.contains("these settings cannot be used"), "{stderr}");
    reloaded.expect_settings("first");
    let living = reloaded.server.children();
    assert!(
        before.iter().all(|old| living.contains(old)),
        "an old child has gone"
    );
    reloaded.reload("third");
    reloaded.expect("reloaded, ", 1);
    reloaded.expect_settings("third");
    assert_eq!(reloaded.stop(), 0, "the capacity fell");
}

/// A start that hangs is a start that fails.
fn a_reload_whose_children_hang_is_given_up_after_start_timeout(world: &mut World) {
    // The first ones have to start in that time, too.
    let flags = ["--start-timeout", "2000", "--kill-timeout", "100"];
    let reloaded = Reloaded::new(world, &flags);
    let before = reloaded.server.expect_children(4);
    reloaded.expect_settings("first");
    reloaded.reload("hanging");
    reloaded.expect("3 children in a row have not become ready", 1);
    assert!(reloaded.said(" StartTimeout") >= 3);
    let living = reloaded.server.children();
    assert!(
        before.iter().all(|old| living.contains(old)),
        "an old child has gone"
    );
    reloaded.expect_settings("first");
    assert_eq!(reloaded.stop(), 0, "the capacity fell");
}

/// A reload during a reload begins again: in the end every child has the last settings, and the
/// capacity has not fallen.
fn i04_a_reload_during_a_reload_begins_again(world: &mut World) {
    let reloaded = Reloaded::new(world, &["--start", "10"]);
    reloaded.server.expect_children(10);
    beside_clients(&reloaded.server.address(), 4, || {
        for number in 1..=10 {
            reloaded.reload(&format!("settings {number}"));
            reloaded.expect("began", number);
        }
        reloaded.expect("reloaded, ", 1);
    });
    until("the last settings", SOON, || {
        (ask(&mut connect(&reloaded.server.address()), "who").1 == "settings 10").then_some(())
    });
    reloaded.expect_settings("settings 10");
    assert_eq!(reloaded.stop(), 0, "the capacity fell");
}

/// A stop ends a reload that is under way: no more children are forked, and all leave.
fn i03_a_stop_during_a_reload_wins(world: &mut World) {
    let reloaded = Reloaded::new(world, &["--start", "20"]);
    reloaded.server.expect_children(20);
    reloaded.reload("second");
    reloaded.expect("began", 1);
    reloaded.stop();
    assert!(
        reloaded.said(" Shutdown") > 0,
        "{}",
        reloaded.server.stdout()
    );
}

/// The connection in hand is finished, however long it takes.
fn a_reload_lets_a_connection_last_longer_than_kill_timeout(world: &mut World) {
    let reloaded = Reloaded::new(world, &["--kill-timeout", "500"]);
    reloaded.server.expect_children(4);
    let mut held = connect(&reloaded.server.address());
    let (old, _) = ask(&mut held, "who");
    reloaded.reload("second");
    reloaded.expect("reloaded, ", 1);
    reloaded.expect_settings("second");
    reloaded.reload("third");
    reloaded.expect("reloaded, ", 2);
    reloaded.expect_settings("third");
    holds("the old child to serve", Duration::from_millis(800), || {
        ask(&mut held, "who") == (old, "first".to_owned())
    });
    drop(held);
    reloaded.expect(&format!("exited {old} Reloaded"), 1);
    assert_eq!(reloaded.stop(), 0, "the capacity fell");
}

fn children_at_max_requests_go_when_their_successors_are_ready(world: &mut World) {
    let reloaded = Reloaded::new(world, &["--max-requests", "100", "--start", "8"]);
    reloaded.server.expect_children(8);
    under_load(&reloaded.server.address(), 4, || {
        reloaded.expect(" Recycled", 10);
    });
    assert!(reloaded.said("replaced ") >= 10);
    reloaded.stop();
}

/// A tenth of the limit is much more than a start takes, so no child leaves without a successor.
fn children_that_are_too_old_are_replaced_one_by_one(world: &mut World) {
    world.deadline(SOON * 6);
    let flags = ["--max-lifetime", "8000", "--jitter", "100", "--start", "6"];
    let reloaded = Reloaded::new(world, &flags);
    let before = reloaded.server.expect_children(6);
    beside_clients(&reloaded.server.address(), 2, || {
        until("none of the first children", SOON * 2, || {
            let living = reloaded.server.children();
            before.iter().all(|old| !living.contains(old)).then_some(())
        });
    });
    assert!(reloaded.said(" Recycled") >= 6);
    assert_eq!(reloaded.stop(), 0, "the capacity fell");
}

/// Its limit is 24 MiB of private memory, and each line leaks 8.
fn a_child_that_leaks_is_replaced_and_its_client_served(world: &mut World) {
    if !Path::new("/proc/self/smaps_rollup").exists() {
        return println!("skipped: the kernel does not tell the memory of a process");
    }
    let limit = (24 << 20).to_string();
    let reloaded = Reloaded::new(world, &["--max-memory", &limit]);
    reloaded.server.expect_children(4);
    let mut client = connect(&reloaded.server.address());
    let (leaking, _) = ask(&mut client, "leak");
    (0..2).for_each(|_| drop(ask(&mut client, "leak")));
    reloaded.expect("replaced ", 1);
    assert_eq!(
        ask(&mut client, "who").0,
        leaking,
        "its client is served to the end"
    );
    drop(client);
    reloaded.expect(&format!("exited {leaking} Recycled"), 1);
    reloaded.stop();
}

fn a_child_can_ask_for_its_replacement(world: &mut World) {
    let reloaded = Reloaded::new(world, &[]);
    reloaded.server.expect_children(4);
    let mut client = connect(&reloaded.server.address());
    let (asking, _) = ask(&mut client, "replace me");
    reloaded.expect("replaced ", 1);
    assert_eq!(ask(&mut client, "who").0, asking);
    drop(client);
    reloaded.expect(&format!("exited {asking} Recycled"), 1);
    assert_eq!(reloaded.stop(), 0, "the capacity fell");
}

/// It counts as ready after a second.
fn a_program_that_says_no_word_is_replaced(world: &mut World) {
    let reloaded = Reloaded::start(world, "reloading_programs", &["--start", "2"]);
    let before = reloaded.server.expect_children(2);
    let runs = |pid: &u32| processes::system_call(*pid).is_some();
    until("both programs to run", SOON, || {
        before.iter().all(runs).then_some(())
    });
    reloaded.reload("second");
    reloaded.expect("reloaded, 2 replaced", 1);
    until("only new programs", SOON, || {
        let living = reloaded.server.children();
        (living.len() == 2 && !living.iter().any(|pid| before.contains(pid))).then_some(())
    });
    assert_eq!(reloaded.server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}
