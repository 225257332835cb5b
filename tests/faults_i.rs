//! Sections I and K of the fault catalogue, as far as they apply: signals to stop in the start and
//! in the end, children that do not leave, process 1, and systems that lack something.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod listening;
mod subject;
mod support;
mod tracing;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use listening::{ask, spawn_unix, stop, unix};
use subject::{
    Contained, Held, SOON, deaths, ends_well, expect_entry, expect_exit, expect_up, pids, send,
    serve,
};
use support::{Signal, World, connect, holds, processes, programs, scenarios, until};
use tracing::{Stop, Traced, UNLINKS};

fn main() -> ExitCode {
    support::main(
        programs![serve, unix],
        scenarios![
            i01_a_stop_at_any_point_of_the_start_leaves_nothing,
            i02_a_second_sigterm_at_the_very_end_leaves_no_socket_file,
            i05_a_child_that_is_stuck_is_killed_after_shutdown_timeout,
            i12_each_death_of_a_shutdown_is_counted_as_that,
            k01_processes_that_process_1_adopts_are_not_taken_for_children,
            k02_process_1_heeds_sigint_and_sigterm,
            k03_process_1_waits_for_its_children,
            k04_a_server_needs_no_proc,
            k05_calls_that_are_forbidden_are_done_without,
            k07_a_user_needs_no_name,
        ],
    )
}

// The start and the end.

/// The handlers are there before the first socket is opened. Until then a signal ends the process,
/// which has nothing; from then on it is heeded as soon as the loop turns.
///
/// The server is held at every third stop at a system call from before its start to its first wait, and told to
/// stop there.
/// Without the handlers (`Shell::new` told to handle none) the signal ends the process with the file
/// there.
fn i01_a_stop_at_any_point_of_the_start_leaves_nothing(world: &mut World) {
    let path = world.tempdir().join("socket");
    let (mut point, mut died, mut ended) = (0, 0, 0);
    loop {
        let mut gate = world.gate("before-start");
        let server = spawn_unix(world, &path);
        gate.reached(SOON);
        let held = Traced::seize(server.pid());
        gate.open();
        let Some(held) = held else {
            server.address();
            return stop(&server);
        };
        let waits = (0..point).any(|_| is_a_wait(held.step()));
        server.signal(Signal::SIGTERM);
        held.release();
        let status = server.wait(SOON);
        match (status.code(), status.signal()) {
            (Some(0), None) => ended += 1,
            (None, Some(signal)) if signal == Signal::SIGTERM as i32 => died += 1,
            _ => panic!("at point {point}: {status}\n{}", server.stderr()),
        }
        let left = path.symlink_metadata().is_ok() || !world.orphans().is_empty();
        assert!(!left, "at point {point}: {status}");
        world.reap_orphans();
        if waits {
            break;
        }
        point += 3;
    }
    eprintln!("{point} points: {died} times ended by the signal, {ended} times in order");
    assert!(died > 0 && ended > 0, "{died} and {ended}");
}

fn is_a_wait(stop: Stop) -> bool {
    match stop {
        Stop::Call(number) => tracing::EPOLL_WAITS.contains(&number),
        Stop::Ended => panic!("the server to run"),
    }
}

/// Signals are the last thing that a server lets go of: its socket file is gone by then.
///
/// The server is held where it is about to remove the file, and told to stop once more.
/// Without it (`Shell::close` before `handler_stop`) the signal ends the process, and the file stays.
fn i02_a_second_sigterm_at_the_very_end_leaves_no_socket_file(world: &mut World) {
    let path = world.tempdir().join("socket");
    let server = spawn_unix(world, &path);
    ask(&server.address());
    let Some(held) = Traced::seize(server.pid()) else {
        return stop(&server);
    };
    server.signal(Signal::SIGTERM);
    held.advance_to(UNLINKS);
    server.signal(Signal::SIGTERM);
    server.signal(Signal::SIGINT);
    held.release();
    assert_eq!(server.wait(SOON).code(), Some(0));
    assert!(path.symlink_metadata().is_err());
}

/// A child that does not leave gets SIGKILL when `shutdown_timeout` has passed.
fn i05_a_child_that_is_stuck_is_killed_after_shutdown_timeout(world: &mut World) {
    let server = world.spawn("serve", &["--shutdown-timeout", "500"]);
    let mut stuck = Held::new(&server.address());
    stuck.client.send_line("spin");
    server.signal(Signal::SIGTERM);
    let shutdown = expect_entry(&server, "shutdown", 0);
    stuck.client.gone();
    assert_eq!(server.wait(SOON).code(), Some(0));
    let end = expect_exit(&server, stuck.pid, "Shutdown signal: 9 (SIGKILL)");
    assert!(end.at - shutdown.at >= Duration::from_millis(500));
}

/// A shutdown is a success, whatever it took: `run` returns the report, in which each death has its
/// cause, and the program chooses its exit code.
fn i12_each_death_of_a_shutdown_is_counted_as_that(world: &mut World) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = world.spawn("serve", &["--start", "3"]);
        let address = server.address();
        expect_up(&server, 3);
        let victim = Held::new(&address).pid;
        send(victim, Signal::SIGKILL);
        expect_entry(&server, "exited", victim);
        let held = Held::new(&address);
        let children = server.children().len() as u64;
        server.signal(signal);
        server.expect_children(1);
        // One that a signal ends in a shutdown is one of the shutdown.
        send(held.pid, Signal::SIGKILL);
        assert_eq!(server.wait(SOON).code(), Some(0));
        let count = (deaths(&server, "Killed"), deaths(&server, "Shutdown"));
        assert_eq!(count, (1, children));
    }
}

// Process 1.

/// As process 1 it adopts orphans. It reaps and counts its own children only: what it adopts stays a
/// zombie (a container that makes orphans needs an init), and hides nobody's death.
fn k01_processes_that_process_1_adopts_are_not_taken_for_children(world: &mut World) {
    let flags = ["--max-clients", "1", "--max-requests", "1"];
    let Some(server) = Contained::spawn(world, "serve", &flags) else {
        return;
    };
    let address = server.outer.address();
    for _ in 0..3 {
        let mut held = Held::new(&address);
        held.client.ask("grandchild");
        let pid = held.pid;
        drop(held);
        expect_exit(&server.outer, pid, "Finished exit status: 0");
    }
    let sleeps = until("three orphans to adopt", SOON, || {
        let mut adopted = processes::children(server.pid);
        adopted.retain(|child| child.name == "sleep");
        (adopted.len() == 3).then_some(adopted)
    });
    for sleep in sleeps {
        send(sleep.pid, Signal::SIGKILL);
    }
    Held::new(&address).is_served();
    until("the fifth child", SOON, || {
        (pids(&server.outer, "up").len() == 5).then_some(())
    });
    server.ends_well();
    assert_eq!(deaths(&server.outer, "Finished"), 4);
    assert_eq!(deaths(&server.outer, "Shutdown"), 1);
}

/// To process 1 a signal without a handler does nothing. SIGINT and SIGTERM have one; SIGHUP and
/// others that end a server elsewhere do nothing to it here.
fn k02_process_1_heeds_sigint_and_sigterm(world: &mut World) {
    for stop in [Signal::SIGINT, Signal::SIGTERM] {
        let Some(server) = Contained::spawn(world, "serve", &[]) else {
            return;
        };
        let address = server.outer.address();
        Held::new(&address).is_served();
        let children = server.expect_children(2);
        send_from_inside(&server, "HUP");
        send_from_inside(&server, "USR1");
        Held::new(&address).is_served();
        assert_eq!(server.children(), children);
        send(server.pid, stop);
        assert_eq!(server.outer.wait(SOON).code(), Some(0));
    }
}

/// A signal from outside of the namespace would not be kept from process 1.
fn send_from_inside(server: &Contained, signal: &str) {
    let target = server.pid.to_string();
    let join = ["-t", &target, "-U", "-p", "--preserve-credentials", "--"];
    let mut nsenter = Command::new("nsenter");
    let kill = nsenter
        .args(join)
        .args(["sh", "-c", &format!("kill -s {signal} 1")]);
    assert!(kill.status().unwrap().success());
}

/// The kernel kills everybody when process 1 ends. It ends when the last child has been reaped.
fn k03_process_1_waits_for_its_children(world: &mut World) {
    let Some(server) = Contained::spawn(world, "serve", &[]) else {
        return;
    };
    let mut held = Held::new(&server.outer.address());
    server.expect_children(2);
    send(server.pid, Signal::SIGTERM);
    server.expect_children(1);
    holds("the client is served", Duration::from_millis(300), || {
        held.is_served();
        true
    });
    drop(held);
    assert_eq!(server.outer.wait(SOON).code(), Some(0));
    assert_eq!(deaths(&server.outer, "Shutdown"), 2);
}

// What may be missing.

/// /proc is looked at for threads, and done without. Nothing is written to any file system.
fn k04_a_server_needs_no_proc(world: &mut World) {
    let hide = "mount -t tmpfs -o ro none /proc";
    let attempt = Command::new("unshare")
        .args(["-Urm", "sh", "-c", hide])
        .output();
    if !attempt.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: this machine lets nobody mount over /proc");
    }
    let script = format!(r#"{hide} && exec "$0" --program serve"#);
    let launch = world
        .command("unshare")
        .args(&["-Urm", "sh", "-c", &script]);
    let server = launch.arg(std::env::current_exe().unwrap()).spawn();
    let address = server.address();
    let victim = Held::new(&address).pid;
    send(victim, Signal::SIGKILL);
    expect_exit(&server, victim, "Killed signal: 9 (SIGKILL)");
    Held::new(&address).is_served();
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// Without pidfds SIGCHLD tells of deaths and kill(2) tells children, without PDEATHSIG the death watch
/// tells of the parent's end, and without close_range(2) descriptors are closed one by one.
///
/// Without the fallback in `tie_to_parent` no child starts, without that in `pidfd::kill` none is culled.
fn k05_calls_that_are_forbidden_are_done_without(world: &mut World) {
    let probe = [
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "inject=uname:error=EPERM",
        "true",
    ];
    let attempt = Command::new("strace").args(probe).output();
    if !attempt.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: this machine has no strace, or does not let it trace");
    }
    for calls in ["pidfd_open,close_range", "pidfd_send_signal,prctl"] {
        for error in ["ENOSYS", "EPERM"] {
            eprintln!("{calls}: {error}");
            serves_without(world, calls, error);
        }
    }
}

fn serves_without(world: &mut World, calls: &str, error: &str) {
    let inject = format!("inject={calls}:error={error}");
    let launch = world.command("strace").args(&["-f", "-o", "/dev/null"]);
    let launch = launch.args(&["--seccomp-bpf", "-e", &inject]);
    let own = std::env::current_exe().unwrap();
    let flags = [
        "--program",
        "serve",
        "--cull-after",
        "0",
        "--max-spare",
        "2",
    ];
    let strace = launch.arg(own).args(&flags).args(&["--start", "3"]).spawn();
    let address = strace.address();
    let server = strace.expect_children(1)[0];
    // One is culled, which takes a signal from the parent.
    until("a cull", SOON, || pids(&strace, "exited").first().copied());
    let victim = Held::new(&address).pid;
    send(victim, Signal::SIGKILL);
    expect_exit(&strace, victim, "Killed signal: 9 (SIGKILL)");
    Held::new(&address).is_served();
    send(server, Signal::SIGTERM);
    assert_eq!(strace.wait(SOON).code(), Some(0));
    assert_eq!(deaths(&strace, "Culled"), 1);
}

/// Users and groups are numbers; none is looked up.
fn k07_a_user_needs_no_name(world: &mut World) {
    let user = ["-U", "--map-user=54321", "--map-group=54321"];
    let attempt = Command::new("unshare").args(user).arg("true").output();
    if !attempt.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: this machine lets nobody have a user namespace");
    }
    let own = std::env::current_exe().unwrap();
    let launch = world.command("unshare").args(&user).arg(own);
    let server = launch.args(&["--program", "serve"]).spawn();
    let address = server.address();
    let victim = Held::new(&address).pid;
    send(victim, Signal::SIGKILL);
    expect_exit(&server, victim, "Killed signal: 9 (SIGKILL)");
    let mut client = connect(&address);
    client.ask("who");
    drop(client);
    ends_well(&server);
}
