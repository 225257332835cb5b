//! What systemd is told, by servers whose notify socket is the scenario's own. Built with the feature
//! `systemd` only: `cargo test --features systemd --test systemd`.
#![allow(
    unreachable_pub,
    reason = "nothing reaches into a test, and `pub` marks what other modules use"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod notified;
mod socket;
#[path = "../support/mod.rs"]
mod support;
mod units;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use socket::Notifications;
use support::{
    Address, Scenarios, Server, Signal, World, connect, holds, patient, pause, processes,
    scenarios, try_connect, until,
};
use support::{Client, SOON};
use units::{the_program_of_the_units_is_started, the_units_are_verified};

const SCENARIOS: Scenarios = scenarios![
    every_message_comes_in_order,
    a_status_comes_once_a_second_at_the_most,
    a_reload_is_told_and_its_end,
    a_reload_whose_children_fail_is_told_and_its_end,
    a_long_stop_asks_for_more_time_again_and_again,
    a_server_whose_children_fail_is_never_ready,
    a_program_is_ready_when_it_is_forked,
    an_abstract_name_is_told,
    a_socket_that_is_gone_is_warned_of_once,
    a_full_socket_is_told_later,
    a_name_that_is_wrong_is_warned_of,
    nothing_is_told_without_the_observer,
    nothing_is_told_without_the_variable,
    the_watchdog_is_fed_until_a_hook_is_stuck,
    the_watchdog_is_fed_until_no_child_acks,
    the_watchdog_of_another_process_is_not_fed,
    children_do_not_find_the_variables,
    a_daemon_tells_its_pid,
    a_socket_of_systemd_socket_activate_is_served,
    the_units_are_verified,
    the_program_of_the_units_is_started,
];

fn main() -> ExitCode {
    support::main(notified::PROGRAMS, SCENARIOS)
}

/// Starts a server with one child, which tells `notifications`.
fn spawn(world: &mut World, notifications: &Notifications, args: &[&str]) -> Server {
    spawn_with(world, notifications, args, &[])
}

fn spawn_with(
    world: &mut World,
    notifications: &Notifications,
    args: &[&str],
    env: &[(&str, &str)],
) -> Server {
    let mut launch = world.program("notified").args(args);
    launch = launch.env("NOTIFY_SOCKET", notifications.name());
    for (name, value) in env {
        launch = launch.env(name, value);
    }
    launch.spawn()
}

fn ends_well(server: &Server) {
    let status = server.stop(Signal::SIGTERM, SOON);
    assert!(status.success(), "{status}\n{}", server.stderr());
}

/// A client that a child is busy with.
fn busy_with(address: &Address) -> Client {
    let mut client = connect(address);
    client.ask("pid");
    client
}

fn every_message_comes_in_order(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let server = spawn(world, &told, &[]);
    let address = server.address();
    told.expect("STATUS=1 free, 0 busy, 0 waiting");
    let first = busy_with(&address);
    told.expect("STATUS=0 free, 1 busy, 0 waiting");
    let second = connect(&address);
    told.expect("STATUS=0 free, 1 busy, 1 waiting");
    drop((second, first));
    told.expect("STATUS=1 free, 0 busy, 0 waiting");
    let last = busy_with(&address);
    told.expect("STATUS=0 free, 1 busy, 0 waiting");
    server.signal(Signal::SIGTERM);
    told.expect("STATUS=stopping, 1 children left");
    drop(last);
    assert!(server.wait(SOON).success());
    told.read();
    let lines = told.lines();
    let (statuses, other): (Vec<String>, Vec<String>) = lines
        .iter()
        .cloned()
        .partition(|line| line.starts_with("STATUS="));
    // What is true for a moment only is a status too, if it is so when a second is over: the
    // connection that waits before the child takes it, say. Each that lasts is among them, by the
    // above.
    assert!(statuses.len() >= 6, "{lines:?}");
    assert!(statuses.windows(2).all(|two| two[0] != two[1]), "{lines:?}");
    assert_eq!(
        other,
        ["READY=1", "STOPPING=1", "EXTEND_TIMEOUT_USEC=15000000"]
    );
    assert_eq!(lines[0], "READY=1");
    let mut after = lines.iter().skip_while(|line| *line != "STOPPING=1");
    assert!(after.all(|line| !line.contains("free")), "{lines:?}");
}

/// Whatever the clients do.
fn a_status_comes_once_a_second_at_the_most(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let begin = Instant::now();
    let server = spawn(world, &told, &["--every-word"]);
    let address = server.address();
    // It may take all of this time to start.
    let enough = |told: &Notifications| {
        let lines = told.lines().into_iter();
        lines.filter(|line| line.starts_with("STATUS=")).count() > 1
    };
    let deadline = begin + patient(SOON);
    while begin.elapsed() < Duration::from_millis(2500)
        || !enough(&told) && Instant::now() < deadline
    {
        drop(busy_with(&address));
        told.read();
    }
    let statuses = told.lines().into_iter();
    let statuses = statuses.filter(|line| line.starts_with("STATUS="));
    let (count, seconds) = (statuses.count() as u64, begin.elapsed().as_secs());
    assert!(1 < count && count <= seconds + 1, "{count} in {seconds} s");
    ends_well(&server);
}

/// `Type=notify-reload` waits for the READY=1 that follows, and compares the time with its own.
fn a_reload_is_told_and_its_end(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let invalid = world.tempdir().join("invalid");
    let path = invalid.display().to_string();
    let server = spawn(world, &told, &["--invalid-by", &path]);
    told.expect("READY=1");
    for fails in [false, true] {
        if fails {
            std::fs::write(&invalid, "").expect("a file");
        }
        let before = monotonic();
        server.signal(Signal::SIGHUP);
        told.expect("RELOADING=1");
        let line = told.expect_line("the time", |line| line.starts_with("MONOTONIC_USEC="));
        let since: u128 = line["MONOTONIC_USEC=".len()..].parse().expect("a number");
        assert!((before..=monotonic()).contains(&since), "{since}");
        told.expect("READY=1");
    }
    ends_well(&server);
}

/// The children of the new epoch fail in their start; the old ones serve on.
fn a_reload_whose_children_fail_is_told_and_its_end(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let broken = world.tempdir().join("broken");
    let path = broken.display().to_string();
    let server = spawn(world, &told, &["--failing-by", &path, "--max-clients", "3"]);
    let address = server.address();
    told.expect("READY=1");
    std::fs::write(&broken, "").expect("a file");
    server.signal(Signal::SIGHUP);
    told.expect("RELOADING=1");
    server.expect_stderr("the end", |text| text.contains("; the old children stay"));
    told.expect("READY=1");
    drop(busy_with(&address));
    ends_well(&server);
}

/// Each message allows fifteen seconds from then on, and the next comes five seconds later: nothing
/// else wakes the loop at that time.
///
/// Without `extend_at` in `Systemd::next` the second comes late or never.
fn a_long_stop_asks_for_more_time_again_and_again(world: &mut World) {
    const EXTEND: &str = "EXTEND_TIMEOUT_USEC=15000000";
    let mut told = Notifications::bind(&world.tempdir());
    let server = spawn(world, &told, &[]);
    let client = busy_with(&server.address());
    server.signal(Signal::SIGTERM);
    told.expect(EXTEND);
    let first = Instant::now();
    told.expect(EXTEND);
    let (took, period) = (first.elapsed(), Duration::from_secs(5));
    assert!(took + Duration::from_secs(1) > period, "{took:?}");
    drop(client);
    assert!(server.wait(SOON).success());
    told.read();
    let count = told.lines().iter().filter(|line| *line == EXTEND).count();
    assert_eq!(count, 2);
}

fn monotonic() -> u128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    Duration::from(now.expect("a clock")).as_micros()
}

fn a_server_whose_children_fail_is_never_ready(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let server = spawn(world, &told, &["--failing"]);
    server.expect_stderr("a failed start", |text| text.contains("failed to start"));
    holds("nothing is told", Duration::from_millis(500), || {
        told.read();
        told.lines().is_empty()
    });
    server.stop(Signal::SIGTERM, SOON);
    told.read();
    assert_eq!(told.lines().first().map(String::as_str), Some("STOPPING=1"));
}

/// It says no word.
fn a_program_is_ready_when_it_is_forked(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let server = spawn(world, &told, &["--exec"]);
    told.expect("READY=1");
    server.expect_children(1);
    ends_well(&server);
}

fn an_abstract_name_is_told(world: &mut World) {
    let mut told = Notifications::abstract_name();
    let server = spawn(world, &told, &[]);
    told.expect("READY=1");
    ends_well(&server);
}

fn warnings(server: &Server) -> usize {
    server.stderr().matches("NOTIFY_SOCKET").count()
}

/// Two messages that cannot be sent: the first one is warned of.
fn a_socket_that_is_gone_is_warned_of_once(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let watched = ("WATCHDOG_USEC", "200000");
    let server = spawn_with(world, &told, &[], &[watched]);
    let address = server.address();
    told.expect("READY=1");
    told.remove();
    server.expect_stderr("a warning", |text| text.contains("systemd cannot be told"));
    let mut client = busy_with(&address);
    // The messages are tried again each second.
    holds("it is warned of once", Duration::from_millis(1500), || {
        warnings(&server) == 1
    });
    client.ask("pid");
    drop(client);
    ends_well(&server);
    assert_eq!(warnings(&server), 1);
}

/// No message is lost by that: READY comes when there is room.
fn a_full_socket_is_told_later(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    told.fill();
    let server = spawn(world, &told, &[]);
    let address = server.address();
    server.expect_stderr("a warning", |text| text.contains("systemd cannot be told"));
    drop(busy_with(&address));
    told.expect("READY=1");
    ends_well(&server);
}

fn a_name_that_is_wrong_is_warned_of(world: &mut World) {
    let launch = world.program("notified");
    let server = launch.env("NOTIFY_SOCKET", "run/notify").spawn();
    drop(busy_with(&server.address()));
    ends_well(&server);
    assert_eq!(warnings(&server), 1);
}

fn nothing_is_told_without_the_observer(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let watched = ("WATCHDOG_USEC", "100000");
    let server = spawn_with(world, &told, &["--unobserved"], &[watched]);
    drop(busy_with(&server.address()));
    ends_well(&server);
    told.read();
    assert!(told.lines().is_empty());
}

fn nothing_is_told_without_the_variable(world: &mut World) {
    let launch = world.program("notified");
    let server = launch.env("WATCHDOG_USEC", "100000").spawn();
    drop(busy_with(&server.address()));
    ends_well(&server);
    assert_eq!(server.stderr(), "");
}

/// How often the watchdog was fed.
fn fed(told: &mut Notifications) -> usize {
    told.read();
    let lines = told.lines().into_iter();
    lines.filter(|line| line == "WATCHDOG=1").count()
}

#[track_caller]
fn expect_fed(told: &mut Notifications, times: usize) {
    let before = fed(told);
    until("the watchdog to be fed", SOON, || {
        (fed(told) >= before + times).then_some(())
    });
}

#[track_caller]
fn is_not_fed(told: &mut Notifications) {
    let before = fed(told);
    holds("the watchdog is not fed", Duration::from_secs(1), || {
        fed(told) == before
    });
}

/// An idle server is woken for it: it would turn once a second by itself.
///
/// Fails without `wake_at` among the deadlines of `patience`.
fn the_watchdog_is_fed_until_a_hook_is_stuck(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let mut gate = world.gate("stuck");
    let own = "200000";
    let server = spawn_with(world, &told, &[], &[("WATCHDOG_USEC", own)]);
    let address = server.address();
    expect_fed(&mut told, 20);
    let client = connect(&address);
    let parent = gate.reached(SOON);
    assert_eq!(parent, server.pid());
    is_not_fed(&mut told);
    gate.open();
    expect_fed(&mut told, 2);
    drop(client);
    ends_well(&server);
}

/// The loop turns all the while.
///
/// Fails without the look at `last_ack` in `is_alive`.
fn the_watchdog_is_fed_until_no_child_acks(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let args = ["--timeout", "600"];
    let server = spawn_with(world, &told, &args, &[("WATCHDOG_USEC", "200000")]);
    server.address();
    expect_fed(&mut told, 5);
    let child = server.expect_children(1)[0];
    let pid = nix::unistd::Pid::from_raw(child.cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGSTOP).unwrap();
    until("the last ACK to be old", SOON, || {
        let before = fed(&mut told);
        pause(Duration::from_millis(500));
        (fed(&mut told) == before).then_some(())
    });
    is_not_fed(&mut told);
    nix::sys::signal::kill(pid, Signal::SIGCONT).unwrap();
    expect_fed(&mut told, 2);
    ends_well(&server);
}

fn the_watchdog_of_another_process_is_not_fed(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let env = [("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")];
    let server = spawn_with(world, &told, &[], &env);
    told.expect("READY=1");
    is_not_fed(&mut told);
    ends_well(&server);
}

/// Neither the child nor a program that it runs.
fn children_do_not_find_the_variables(world: &mut World) {
    let mut told = Notifications::bind(&world.tempdir());
    let env = [("WATCHDOG_USEC", "10000000")];
    let server = spawn_with(world, &told, &[], &env);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("variables"), "- - -");
    assert_eq!(client.ask("shell"), "- - -");
    drop(client);
    told.expect("WATCHDOG=1");
    ends_well(&server);
}

/// The process that was started ends at once, and what it has forked is the server.
fn a_daemon_tells_its_pid(world: &mut World) {
    world.expect_orphans();
    let mut told = Notifications::bind(&world.tempdir());
    let server = spawn(world, &told, &["--daemon"]);
    assert!(server.wait(SOON).success());
    let line = told.expect_line("MAINPID=", |line| line.starts_with("MAINPID="));
    let daemon: u32 = line["MAINPID=".len()..].parse().unwrap();
    assert_ne!(daemon, server.pid());
    assert!(processes::is_alive(daemon));
    let pid = nix::unistd::Pid::from_raw(daemon.cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    until("the daemon to end", SOON, || {
        world.reap_orphans();
        (!processes::is_alive(daemon)).then_some(())
    });
    told.expect("STOPPING=1");
}

/// The real one listens, and becomes the server at the first connection.
fn a_socket_of_systemd_socket_activate_is_served(world: &mut World) {
    const PROGRAM: &str = "/usr/bin/systemd-socket-activate";
    if !std::path::Path::new(PROGRAM).exists() {
        return eprintln!("skipped: there is no {PROGRAM}");
    }
    let mut told = Notifications::bind(&world.tempdir());
    let path = world.tempdir().join("listening");
    let own = std::env::current_exe().unwrap();
    let notify = format!("NOTIFY_SOCKET={}", told.name().to_string_lossy());
    let launch = world.command(PROGRAM).arg("-l").arg(&path);
    let launch = launch
        .args(&["-E", "PREFORK_SCENARIO", "-E", &notify])
        .arg(own);
    let server = launch
        .args(&["--program", "notified", "--activated"])
        .spawn();
    let address = Address::from(path.as_path());
    // The file is there before anybody listens.
    let mut client = until("the socket", SOON, || try_connect(&address).ok());
    let pid: u32 = client.ask("pid").parse().unwrap();
    assert_ne!(pid, server.pid());
    assert_eq!(client.ask("variables"), "- - -");
    drop(client);
    told.expect("READY=1");
    ends_well(&server);
    told.expect("STOPPING=1");
}
