//! Programs that run others without an exec, and programs with a stop signal of their own: no
//! process has the sockets when the server has ended.

use std::time::{Duration, Instant};

use nix::sys::signal::killpg;
use nix::unistd::{Pid, getpgid};

use super::{show_command, signal, spawn, stop, until_gone, until_replaced};
use crate::support::{
    SOON, Scenarios, Server, Signal, World, processes, scenarios, try_connect, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    o14_interrupt_at_a_terminal_reaches_programs_through_the_parent,
    o14_program_has_a_group_of_its_own_unless_told_otherwise,
    o43_program_is_told_by_the_stop_signal_when_the_parent_dies,
    o43_program_is_told_by_its_stop_signal,
    o43_program_that_ignores_the_stop_signal_is_killed,
    o43_stop_signal_is_neither_blocked_nor_ignored,
    o14_what_is_deaf_in_a_wrapper_is_killed_at_the_end,
    o14_what_is_deaf_and_outlives_its_wrapper_is_killed,
    o14_what_outlives_its_wrapper_is_told,
    o14_what_comes_to_the_parent_is_reaped,
    o14_wrapper_leaves_nothing_behind,
    o14_wrappers_program_finishes_what_it_has_in_hand,
];

// Help. A process that outlives its wrapper is adopted by the scenario, which reaps late:
// `expect_orphans` allows for that, and each scenario says itself that no process lives.

/// A wrapper that waits for a program in the background, where the shell makes it ignore SIGINT,
/// and prints its pid.
const WITH_DEAF_PROGRAM: &str = "sleep 1000 & echo inner $!; wait";
/// A wrapper of a program that can be told to stop.
const WITH_PROGRAM: &str =
    "sh -c 'echo inner $$; trap \"exit 0\" INT; while :; do sleep 0.05; done'; true";
/// Ends at SIGTERM only.
const ENDS_AT_TERM: &str =
    "trap '' INT; trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.05; done";

fn shell(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

/// The pid that a wrapper has printed of its program, except those of `but`.
#[track_caller]
fn inner(server: &Server, but: &[u32]) -> u32 {
    until("a wrapper to say who is in it", SOON, || {
        let stdout = server.stdout();
        let said = stdout.lines().filter_map(|line| line.split_once("inner "));
        let mut pids = said.filter_map(|(_, pid)| pid.parse().ok());
        pids.find(|pid| !but.contains(pid))
    })
}

fn group(pid: u32) -> u32 {
    let group = getpgid(Some(Pid::from_raw(pid.cast_signed()))).unwrap();
    group.as_raw().cast_unsigned()
}

#[track_caller]
fn expect_ready(server: &Server) {
    server.expect_stdout("a program that is ready", |text| text.contains("ready"));
}

/// Stops a server, and checks that neither that process nor a listener is left.
#[track_caller]
fn stop_leaves_nothing(server: &Server, inner: u32) -> super::Report {
    let address = server.address();
    let report = stop(server);
    assert!(!processes::is_alive(inner), "the program runs on");
    try_connect(&address).expect_err("the port is free");
    report
}

/// The same of a server that has to kill the program: it does not wait for what it has killed, if
/// the wrapper has ended before.
#[track_caller]
fn stop_kills(server: &Server, inner: u32) -> super::Report {
    let address = server.address();
    let report = stop(server);
    until_gone(inner);
    try_connect(&address).expect_err("the port is free");
    report
}

// Wrappers.

/// A program leads a process group, and signals to stop go to the group: a program that a wrapper
/// has started without an exec is told too, and the server waits for both.
fn o14_wrapper_leaves_nothing_behind(world: &mut World) {
    let server = spawn(world, &[], &shell(WITH_PROGRAM));
    let inner = inner(&server, &[]);
    let report = stop_leaves_nothing(&server, inner);
    assert_eq!((report.count("forked"), report.count("Shutdown")), (1, 1));
}

/// If a wrapper dies of the signal while its program still works, the program has the time that the
/// child would have had.
fn o14_wrappers_program_finishes_what_it_has_in_hand(world: &mut World) {
    world.expect_orphans();
    let done = world.tempdir().join("done");
    let program = format!(
        "(trap 'sleep 0.3; touch {}; exit 0' TERM; echo ready; while :; do sleep 0.05; done) & echo inner $!; wait",
        done.display()
    );
    let server = spawn(world, &["--stop-signal", "TERM"], &shell(&program));
    let inner = inner(&server, &[]);
    expect_ready(&server);
    stop_leaves_nothing(&server, inner);
    assert!(done.exists());
}

/// SIGKILL goes to the group as well, `shutdown_timeout` after the stop, even if the wrapper has ended long
/// before.
fn o14_what_is_deaf_in_a_wrapper_is_killed_at_the_end(world: &mut World) {
    world.expect_orphans();
    let flags = ["--shutdown-timeout", "300"];
    let server = spawn(world, &flags, &shell(WITH_DEAF_PROGRAM));
    let inner = inner(&server, &[]);
    let report = stop_kills(&server, inner);
    assert_eq!((report.count("forked"), report.count("Shutdown")), (1, 1));
}

/// If a wrapper dies unasked, the program that it leaves is told to stop, and the child is
/// replaced.
fn o14_what_outlives_its_wrapper_is_told(world: &mut World) {
    world.expect_orphans();
    let server = spawn(world, &[], &shell(WITH_PROGRAM));
    let wrapper = server.expect_children(1)[0];
    let first = inner(&server, &[]);
    signal(wrapper, Signal::SIGKILL);
    until_gone(first);
    until_replaced(&server, wrapper);
    let second = inner(&server, &[first]);
    let report = stop_leaves_nothing(&server, second);
    // It is the wrapper's death that counts, and not that we have told the rest.
    let early = report.count("FailedStart") + report.count("Killed");
    assert_eq!((early, report.count("Shutdown")), (1, 1), "{report:?}");
}

/// A parent that adopts orphans, like the first process of a container, reaps those of the group.
fn o14_what_comes_to_the_parent_is_reaped(world: &mut World) {
    let server = spawn(world, &["--subreaper"], &shell(WITH_PROGRAM));
    let wrapper = server.expect_children(1)[0];
    let first = inner(&server, &[]);
    signal(wrapper, Signal::SIGKILL);
    let second = inner(&server, &[first]);
    until("the dead to be reaped", SOON, || {
        let gone = [wrapper, first].map(processes::state) == [None, None];
        (gone && server.zombies().is_empty()).then_some(())
    });
    stop_leaves_nothing(&server, second);
}

/// A program that ignores the signal and outlives its wrapper is killed after `kill_timeout`.
fn o14_what_is_deaf_and_outlives_its_wrapper_is_killed(world: &mut World) {
    world.expect_orphans();
    let flags = ["--kill-timeout", "300", "--shutdown-timeout", "300"];
    let server = spawn(world, &flags, &shell(WITH_DEAF_PROGRAM));
    let wrapper = server.expect_children(1)[0];
    let first = inner(&server, &[]);
    signal(wrapper, Signal::SIGKILL);
    until_gone(first);
    let second = inner(&server, &[first]);
    stop_kills(&server, second);
}

/// With `process_group(false)` a program stays in the parent's group.
fn o14_program_has_a_group_of_its_own_unless_told_otherwise(world: &mut World) {
    let server = spawn(world, &["--start-servers", "2"], &show_command());
    expect_ready(&server);
    for child in server.expect_children(2) {
        assert_eq!(group(child), child);
    }
    stop(&server);
    let server = spawn(world, &["--no-group"], &show_command());
    expect_ready(&server);
    let child = server.expect_children(1)[0];
    assert_eq!(group(child), group(server.pid()));
    stop(&server);
}

/// A terminal sends SIGINT to the foreground group, which the programs are not in: the parent tells
/// them to stop.
fn o14_interrupt_at_a_terminal_reaches_programs_through_the_parent(world: &mut World) {
    let launch = world.program("exec").own_group().arg("--");
    let server = launch.args(&shell(WITH_PROGRAM)).spawn();
    let inner = inner(&server, &[]);
    killpg(
        Pid::from_raw(server.pid().cast_signed()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    assert!(server.wait(SOON).success(), "{}", server.stderr());
    assert!(!processes::is_alive(inner));
}

// Stop signals.

/// `ExecServer::stop_signal` is sent in place of SIGINT.
fn o43_program_is_told_by_its_stop_signal(world: &mut World) {
    let server = spawn(world, &["--stop-signal", "TERM"], &shell(ENDS_AT_TERM));
    expect_ready(&server);
    let report = stop(&server);
    assert_eq!(report.count("Shutdown"), 1);
    assert!(server.stdout().contains("told"));
}

/// The kernel sends the same signal when the parent dies.
fn o43_program_is_told_by_the_stop_signal_when_the_parent_dies(world: &mut World) {
    let server = spawn(world, &["--stop-signal", "TERM"], &shell(ENDS_AT_TERM));
    expect_ready(&server);
    let child = server.expect_children(1)[0];
    server.kill9();
    until_gone(child);
}

/// The stop signal is neither blocked nor ignored in the program, even if it is in the parent.
///
/// The parent of this has SIGUSR1 blocked.
fn o43_stop_signal_is_neither_blocked_nor_ignored(world: &mut World) {
    let flags = ["--block", "--stop-signal", "USR1"];
    let server = spawn(world, &flags, &["sleep", "1000"]);
    let child = server.expect_children(1)[0];
    until("the exec", SOON, || {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim_end() == "sleep").then_some(())
    });
    stop(&server);
}

/// A program that ignores both SIGINT and SIGTERM gets SIGKILL when its time is over: here
/// `kill_timeout`, since it has fallen silent.
fn o43_program_that_ignores_the_stop_signal_is_killed(world: &mut World) {
    world.expect_orphans();
    let deaf = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done";
    for flags in [&[][..], &["--stop-signal", "TERM"]] {
        let times = ["--timeout", "300", "--kill-timeout", "300"];
        let times = [&times[..], &["--shutdown-timeout", "300"]].concat();
        // A program says its only ACK when it starts: how long it is silent already when the
        // scenario sees it ready is not known.
        let begun = Instant::now();
        let server = spawn(world, &[&times[..], flags].concat(), &shell(deaf));
        expect_ready(&server);
        let child = server.expect_children(1)[0];
        until_gone(child);
        assert!(begun.elapsed() > Duration::from_millis(500), "{flags:?}");
        let report = stop(&server);
        assert!(report.count("TimedOut") >= 1, "{flags:?}: {report:?}");
    }
}
