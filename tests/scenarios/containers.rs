//! Process 1, and systems without /proc, some system calls or a user database.

use std::process::Command;
use std::time::Duration;

use crate::subject::{Contained, Held, deaths, ends_well, expect_exit, pids, send};
use crate::support::{SOON, Scenarios, Signal, World, connect, holds, processes, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![
    k01_processes_that_process_1_adopts_are_not_taken_for_children,
    k02_process_1_heeds_sigint_and_sigterm,
    k03_process_1_waits_for_its_children,
    k04_a_server_needs_no_proc,
    k05_calls_that_are_forbidden_are_done_without,
    k07_a_user_needs_no_name,
    f05_a_child_of_process_1_is_no_orphan,
];

// Process 1.

/// As process 1 the parent adopts orphans. It reaps and counts only its own children: an adopted
/// process stays a zombie (a container with orphans needs an init), and hides no death of a child.
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

/// A signal without a handler has no effect on process 1. Those of the table have one; SIGIO and
/// others that end a server elsewhere do nothing here.
fn k02_process_1_heeds_sigint_and_sigterm(world: &mut World) {
    for stop in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT] {
        let Some(server) = Contained::spawn(world, "serve", &[]) else {
            return;
        };
        let address = server.outer.address();
        Held::new(&address).is_served();
        let children = server.expect_children(2);
        send_from_inside(&server, "IO");
        send_from_inside(&server, "USR1");
        Held::new(&address).is_served();
        assert_eq!(server.children(), children);
        send_from_inside(&server, "HUP");
        until("other children", SOON, || {
            let now = server.children();
            (!now.iter().any(|child| children.contains(child))).then_some(())
        });
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

/// The kernel kills all processes of the namespace when process 1 ends. The parent ends when the
/// last child has been reaped.
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

/// /proc is used to count threads, and the server works without it. Nothing is written to any file
/// system.
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

/// Without pidfds SIGCHLD reports deaths and kill(2) sends signals, without PDEATHSIG the death
/// watch reports the parent's end, and without close_range(2) descriptors are closed one by one.
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

/// Users and groups are numbers; none is looked up, but those that a `Confinement` names.
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

/// A child compares its parent's pid with that of the process that forked it, never with 1: in a
/// container the server may itself be process 1. (Every other orphan here is adopted by the
/// scenario's process, a subreaper, which is not process 1 either.)
///
/// Without it (`getppid() == 1` in the child's handler) the child takes itself for an orphan, and its
/// client is cut off after `kill_timeout`.
fn f05_a_child_of_process_1_is_no_orphan(world: &mut World) {
    let flags = ["--max-clients", "1", "--kill-timeout", "100"];
    let Some(server) = Contained::spawn(world, "serve", &flags) else {
        return;
    };
    let mut held = Held::new(&server.outer.address());
    let child = server.expect_children(1)[0];
    // An orphan would be ended after `kill_timeout`.
    send(child, Signal::SIGINT);
    holds("the client is served", Duration::from_millis(500), || {
        held.is_served();
        true
    });
    let pid = held.pid;
    drop(held);
    expect_exit(&server.outer, pid, "Finished exit status: 0");
    server.ends_well();
}
