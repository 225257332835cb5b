//! Where children were stuck, as their deaths tell it, and where living ones are. Built with the feature `stacks` only:
//! `cargo test --profile stacks --features stacks --test stacks`.
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what other modules use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]
#![allow(unsafe_code, reason = "the program damages itself")]

mod looks;
mod stuck;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use support::{
    Client, SOON, Scenarios, Server, Signal, World, connect, processes, scenarios, until,
};

const SCENARIOS: Scenarios = scenarios![
    a_function_of_rust_is_named,
    a_function_is_named_above_calls_of_c,
    a_function_on_a_deep_stack_is_named,
    of_a_hundred_children_all_are_named,
    the_log_names_the_function,
    a_child_with_blocked_signals_is_killed_all_the_same,
    a_stopped_child_is_killed_all_the_same,
    a_damaged_child_hurts_nobody,
    a_child_that_overwrites_the_shared_memory_hurts_nobody,
    an_overflow_ends_a_child_as_without_the_feature,
    an_overflow_whose_handler_loops_is_told,
    a_shutdown_tells_where_a_child_was_stuck,
    a_program_is_not_asked,
    a_handler_of_the_programs_own_stays,
    a_reader_that_is_killed_costs_the_stack_only,
    a_reader_does_not_outlive_the_parent,
    no_descriptor_and_no_process_is_left,
];

fn main() -> ExitCode {
    let modules: &[(&str, Scenarios)] = &[("", SCENARIOS), ("looks::", looks::SCENARIOS)];
    support::main_of(stuck::PROGRAMS, modules)
}

/// How a child has ended, as the program prints it.
#[derive(Clone, Debug)]
struct Exit {
    cause: String,
    death: String,
    stuck_in: String,
    stack: Vec<String>,
}

impl Exit {
    fn of_line(line: &str) -> Option<(u32, Self)> {
        let (pid, rest) = line.strip_prefix("exited ")?.split_once('|')?;
        let mut fields = rest.split('|').map(str::to_owned);
        let mut next = || fields.next();
        let (cause, death, stuck_in) = (next()?, next()?, next()?);
        let exit = Self {
            cause,
            death,
            stuck_in,
            stack: fields.filter(|frame| !frame.is_empty()).collect(),
        };
        Some((pid.parse().ok()?, exit))
    }

    #[track_caller]
    fn names(&self, function: &str) {
        // With line tables alone, an inlined function has no path.
        let path = if function.contains("inlined") {
            ""
        } else {
            "stacks::stuck::"
        };
        let expected = format!("{path}{function}");
        assert_eq!(self.stuck_in, expected, "{self:#?}");
        let at_a_line = |frame: &String| frame.contains(&expected) && frame.contains("stuck.rs:");
        assert!(self.stack.iter().any(at_a_line), "{self:#?}");
    }
}

fn exit_of(server: &Server, pid: u32) -> Option<Exit> {
    let stdout = server.stdout();
    // A line that is not complete is none yet.
    let complete = stdout
        .rsplit_once('\n')
        .map_or("", |(complete, _)| complete);
    let mut exits = complete.lines().filter_map(Exit::of_line);
    exits.find_map(|(exited, exit)| (exited == pid).then_some(exit))
}

#[track_caller]
fn expect_exit(server: &Server, pid: u32) -> Exit {
    until(&format!("the end of child {pid}"), 2 * SOON, || {
        exit_of(server, pid)
    })
}

fn spawn(world: &mut World, args: &[&str]) -> Server {
    let server = world.spawn("stuck", args);
    server.address();
    server
}

/// A child that is stuck in this way.
fn stuck_in(server: &Server, how: &str) -> (u32, Client) {
    let mut client = connect(&server.address());
    let pid = client.read_line().trim().parse().unwrap();
    client.send_line(how);
    (pid, client)
}

fn ends_well(server: &Server) {
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}\n{}", server.stderr());
}

/// The server answers a client.
#[track_caller]
fn serves(server: &Server) {
    let (_, mut client) = stuck_in(server, "no");
    assert_eq!(client.read_line().trim(), "free again");
}

/// Gets one child stuck in each way, and checks what is told of it.
#[track_caller]
fn each_is_named(world: &mut World, ways: &[(&str, &str)]) {
    let clients = ways.len().to_string();
    let server = spawn(world, &["--clients", &clients]);
    let stuck: Vec<_> = ways.iter().map(|(how, _)| stuck_in(&server, how)).collect();
    for ((pid, _client), (_, function)) in stuck.iter().zip(ways) {
        let exit = expect_exit(&server, *pid);
        assert_eq!(exit.cause, "TimedOut", "{exit:#?}");
        exit.names(function);
    }
    serves(&server);
    ends_well(&server);
}

fn a_function_of_rust_is_named(world: &mut World) {
    let ways = [
        ("loop", "in_a_loop"),
        ("clock", "in_a_loop_with_a_clock"),
        ("inlined", "an_inlined_function"),
    ];
    each_is_named(world, &ways);
}

fn a_function_is_named_above_calls_of_c(world: &mut World) {
    let ways = [
        ("sleep", "in_sleep"),
        ("read", "in_read"),
        ("c", "in_a_call_of_c"),
        ("callback", "compares_for_ever"),
    ];
    each_is_named(world, &ways);
}

fn a_function_on_a_deep_stack_is_named(world: &mut World) {
    let ways = [
        ("deep", "in_a_loop"),
        ("full", "in_a_loop"),
        ("large", "in_sleep"),
    ];
    each_is_named(world, &ways);
}

/// At once, in a pool that has no other children.
fn of_a_hundred_children_all_are_named(world: &mut World) {
    const WAYS: [(&str, &str); 5] = [
        ("sleep", "in_sleep"),
        ("read", "in_read"),
        ("c", "in_a_call_of_c"),
        ("callback", "compares_for_ever"),
        ("loop", "in_a_loop"),
    ];
    world.deadline(Duration::from_secs(120));
    let server = spawn(world, &["--clients", "100", "--kill-timeout", "5000"]);
    let way = |at: usize| WAYS[if at < 96 { at % 4 } else { 4 }];
    let stuck: Vec<_> = (0..100).map(|at| stuck_in(&server, way(at).0)).collect();
    for (at, (pid, _client)) in stuck.iter().enumerate() {
        let exit = until("the end of a child", 6 * SOON, || exit_of(&server, *pid));
        exit.names(way(at).1);
    }
    ends_well(&server);
}

fn the_log_names_the_function(world: &mut World) {
    let server = spawn(world, &[]);
    let (pid, _client) = stuck_in(&server, "sleep");
    let named = "stuck in stacks::stuck::in_sleep (";
    server.expect_stderr("the warning", |text| {
        let of_the_child =
            |line: &str| line.contains(&format!("child {pid} ")) && line.contains(named);
        text.lines().any(of_the_child)
    });
    ends_well(&server);
}

/// It cannot answer, and no answer is waited for.
fn a_child_with_blocked_signals_is_killed_all_the_same(world: &mut World) {
    let server = spawn(world, &[]);
    let (pid, _client) = stuck_in(&server, "blocked");
    let exit = expect_exit(&server, pid);
    assert_eq!((exit.stuck_in.as_str(), exit.stack.len()), ("-", 0));
    assert_eq!(exit.cause, "TimedOut");
    assert!(exit.death.contains("SIGKILL"), "{exit:#?}");
    serves(&server);
    ends_well(&server);
}

fn a_stopped_child_is_killed_all_the_same(world: &mut World) {
    let server = spawn(world, &[]);
    let (pid, _client) = stuck_in(&server, "loop");
    let child = nix::unistd::Pid::from_raw(pid.cast_signed());
    nix::sys::signal::kill(child, Signal::SIGSTOP).unwrap();
    let exit = expect_exit(&server, pid);
    assert_eq!((exit.cause.as_str(), exit.stack.len()), ("TimedOut", 0));
    serves(&server);
    ends_well(&server);
}

fn a_damaged_child_hurts_nobody(world: &mut World) {
    let server = spawn(world, &["--clients", "2"]);
    let stuck = ["corrupted", "pointer"].map(|how| stuck_in(&server, how));
    for (pid, _client) in &stuck {
        assert_eq!(expect_exit(&server, *pid).cause, "TimedOut");
    }
    let (pid, _client) = stuck_in(&server, "sleep");
    expect_exit(&server, pid).names("in_sleep");
    serves(&server);
    ends_well(&server);
}

fn a_child_that_overwrites_the_shared_memory_hurts_nobody(world: &mut World) {
    let server = spawn(world, &["--clients", "2"]);
    let (pid, _client) = stuck_in(&server, "area");
    assert_eq!(expect_exit(&server, pid).cause, "TimedOut");
    let (pid, _client) = stuck_in(&server, "sleep");
    expect_exit(&server, pid).names("in_sleep");
    serves(&server);
    ends_well(&server);
}

fn an_overflow_ends_a_child_as_without_the_feature(world: &mut World) {
    let server = spawn(world, &[]);
    let (pid, _client) = stuck_in(&server, "overflow");
    let exit = expect_exit(&server, pid);
    assert_eq!(exit.cause, "Killed");
    assert!(exit.death.contains("SIGABRT"), "{exit:#?}");
    server.expect_stderr("std's message", |text| {
        text.contains("has overflowed its stack")
    });
    serves(&server);
    ends_well(&server);
}

fn an_overflow_whose_handler_loops_is_told(world: &mut World) {
    let server = spawn(world, &[]);
    let (pid, _client) = stuck_in(&server, "overflow-handled");
    let exit = expect_exit(&server, pid);
    assert_eq!(exit.cause, "TimedOut");
    let has = |name: &str| exit.stack.iter().any(|frame| frame.contains(name));
    assert!(has("stacks::stuck::loops_in_the_handler"), "{exit:#?}");
    serves(&server);
    ends_well(&server);
}

/// It was not over its time before: there is no `timeout`.
fn a_shutdown_tells_where_a_child_was_stuck(world: &mut World) {
    let server = spawn(world, &["--timeout", "0"]);
    let (pid, _client) = stuck_in(&server, "read");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    let exit = expect_exit(&server, pid);
    assert_eq!(exit.cause, "Shutdown");
    exit.names("in_read");
}

/// It has neither the handler nor the parent's addresses.
fn a_program_is_not_asked(world: &mut World) {
    let server = world.spawn("stuck", &["--exec"]);
    let pid = server.expect_children(1)[0];
    let exit = expect_exit(&server, pid);
    assert_eq!((exit.cause.as_str(), exit.stack.len()), ("TimedOut", 0));
    assert!(exit.death.contains("SIGINT"), "{exit:#?}");
    ends_well(&server);
}

fn a_handler_of_the_programs_own_stays(world: &mut World) {
    let server = spawn(world, &["--own-handler"]);
    let (pid, _client) = stuck_in(&server, "loop");
    let exit = expect_exit(&server, pid);
    assert_eq!((exit.cause.as_str(), exit.stack.len()), ("TimedOut", 0));
    ends_well(&server);
}

/// The process that reads stacks, and a child that does not answer it. A reader lives for a second
/// then, which a busy machine may hide: so there may be several children until one is seen.
#[track_caller]
fn reader(server: &Server) -> (u32, u32) {
    for _ in 0..8 {
        let (pid, _client) = stuck_in(server, "blocked");
        let found = until("a reader of stacks, or the end of the child", SOON, || {
            let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
            let is_reader = |pid: &u32| name(pid).is_ok_and(|name| name == "stacks-reader\n");
            let reader = server.children().into_iter().find(is_reader);
            (reader.is_some() || exit_of(server, pid).is_some()).then_some(reader)
        });
        if let Some(reader) = found {
            return (reader, pid);
        }
    }
    panic!("no reader of stacks was seen");
}

fn a_reader_that_is_killed_costs_the_stack_only(world: &mut World) {
    world.deadline(Duration::from_secs(90));
    let server = spawn(world, &[]);
    let (reader, pid) = reader(&server);
    // It may have ended meanwhile, and its number is not used again so soon.
    let _ = kill(reader, Signal::SIGKILL);
    assert_eq!(expect_exit(&server, pid).stack.len(), 0);
    let (pid, _client) = stuck_in(&server, "sleep");
    expect_exit(&server, pid).names("in_sleep");
    serves(&server);
    ends_well(&server);
}

fn a_reader_does_not_outlive_the_parent(world: &mut World) {
    world.expect_orphans();
    world.deadline(Duration::from_secs(90));
    let server = spawn(world, &[]);
    let (reader, pid) = reader(&server);
    server.kill9();
    until("the end of the reader", SOON, || {
        (!processes::is_alive(reader)).then_some(())
    });
    // It blocks the signal that the kernel sends to it at the end of its parent.
    let _ = kill(pid, Signal::SIGKILL);
}

fn kill(pid: u32, signal: Signal) -> nix::Result<()> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal)
}

/// However many stacks were read. The first death opens the counter of its control group, for ends
/// for lack of memory, so the descriptors are counted after that.
fn no_descriptor_and_no_process_is_left(world: &mut World) {
    world.deadline(Duration::from_secs(120));
    let server = spawn(world, &[]);
    let (pid, _client) = stuck_in(&server, "sleep");
    expect_exit(&server, pid);
    // A reader whose stack came too late lives on for a moment, and has a pipe.
    let held = || {
        until("the only child, and no reader", SOON, || {
            let children = server.children();
            let name = std::fs::read_to_string(format!("/proc/{}/comm", children.first()?));
            let is_child = name.is_ok_and(|name| name != "stacks-reader\n");
            (children.len() == 1 && is_child && server.zombies().is_empty()).then_some(())
        });
        server.descriptors_settled().len()
    };
    let before = held();
    let begin = Instant::now();
    let mut read = 0;
    while read < 5 {
        let (pid, _client) = stuck_in(&server, "sleep");
        let exit = expect_exit(&server, pid);
        // A reader has three seconds, which on a busy machine is too little for all these symbols.
        if !exit.stack.is_empty() {
            exit.names("in_sleep");
            read += 1;
        }
        assert!(begin.elapsed() < 5 * SOON, "{read} of 5 were read");
    }
    assert_eq!(held(), before);
    ends_well(&server);
}
