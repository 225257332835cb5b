//! Process 1, and systems without /proc, some system calls or a user database.

use std::process::Command;
use std::time::Duration;

use crate::subject::{Contained, Crowd, Held, deaths, ends_well, expect_exit, pids, send};
use crate::support::{
    Address, SOON, Scenarios, Signal, World, connect, holds, processes, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    k01_processes_that_process_1_adopts_are_reaped_and_not_taken_for_children,
    k01_helpers_of_handlers_do_not_pile_up_at_process_1,
    k01_a_process_of_the_programs_own_keeps_its_status_at_process_1,
    k01_a_stop_of_process_1_waits_for_no_orphan,
    k01_a_subreaper_reaps_orphans_if_it_is_told_to,
    the_health_check_of_the_container_asks_for_an_answer,
    k02_process_1_heeds_sigint_and_sigterm,
    k03_process_1_waits_for_its_children,
    k04_a_server_needs_no_proc,
    k05_calls_that_are_forbidden_are_done_without,
    k07_a_user_needs_no_name,
    f05_a_child_of_process_1_is_no_orphan,
];

// Process 1.

/// As process 1 the parent adopts orphans and reaps them, and counts none of them as a child. No
/// death of a child is hidden behind one.
///
/// Without `reap_orphan` the orphans stay zombies.
fn k01_processes_that_process_1_adopts_are_reaped_and_not_taken_for_children(world: &mut World) {
    let flags = ["--max-clients", "1", "--max-requests", "1"];
    let Some(server) = Contained::spawn(world, "serve", &flags) else {
        return;
    };
    let address = server.outer.address();
    for _ in 0..3 {
        leave_an_orphan(&server, &address);
    }
    for sleep in adopted(&server, 3) {
        send(sleep, Signal::SIGKILL);
    }
    expect_no_zombie(&server);
    Held::new(&address).is_served();
    until("the fifth child", SOON, || {
        (pids(&server.outer, "up").len() == 5).then_some(())
    });
    server.ends_well();
    assert_eq!(deaths(&server.outer, "Finished"), 4);
    assert_eq!(deaths(&server.outer, "Shutdown"), 1);
}

/// A child starts a process that outlives it.
fn leave_an_orphan(server: &Contained, address: &Address) {
    let mut held = Held::new(address);
    held.client.ask("grandchild");
    let pid = held.pid;
    drop(held);
    expect_exit(&server.outer, pid, "Finished exit status: 0");
}

/// Waits until the server has so many adopted processes that live.
#[track_caller]
fn adopted(server: &Contained, count: usize) -> Vec<u32> {
    until("orphans to be adopted", SOON, || {
        let mut adopted = processes::children(server.pid);
        adopted.retain(|child| child.name == "sleep" && child.is_alive());
        (adopted.len() == count).then(|| adopted.iter().map(|process| process.pid).collect())
    })
}

#[track_caller]
fn expect_no_zombie(server: &Contained) {
    until("all orphans to be reaped", SOON, || {
        let children = processes::children(server.pid);
        children
            .iter()
            .all(processes::Process::is_alive)
            .then_some(())
    });
}

/// Helpers that handlers start and leave behind do not pile up, while clients are served.
fn k01_helpers_of_handlers_do_not_pile_up_at_process_1(world: &mut World) {
    world.deadline(Duration::from_secs(60));
    let flags = ["--start", "4", "--max-clients", "4", "--max-requests", "1"];
    let Some(server) = Contained::spawn(world, "serve", &flags) else {
        return;
    };
    let address = server.outer.address();
    let crowd = Crowd::come(&address, 2);
    for round in 0..10 {
        for _ in 0..4 {
            leave_an_orphan(&server, &address);
        }
        for orphan in adopted(&server, 4) {
            send(orphan, Signal::SIGKILL);
        }
        expect_no_zombie(&server);
        eprintln!("round {round}: {} served", crowd.served());
    }
    crowd.leave();
    server.ends_well();
}

/// The status of a process that the program has started is the program's, and it hides no orphan
/// that has ended after it.
///
/// Without the look at the group in `adopted::reap` its status is gone.
fn k01_a_process_of_the_programs_own_keeps_its_status_at_process_1(world: &mut World) {
    let flags = ["--stranger", "--max-clients", "1", "--max-requests", "1"];
    let Some(server) = Contained::spawn(world, "serve", &flags) else {
        return;
    };
    let address = server.outer.address();
    until("the program's own process to end", SOON, || {
        let children = processes::children(server.pid);
        children.iter().any(|child| !child.is_alive()).then_some(())
    });
    leave_an_orphan(&server, &address);
    send(adopted(&server, 1)[0], Signal::SIGKILL);
    until(
        "the orphan to be reaped, and the other one not",
        SOON,
        || {
            let mut dead = processes::children(server.pid);
            dead.retain(|child| !child.is_alive());
            (dead.len() == 1 && adopted(&server, 0).is_empty()).then_some(())
        },
    );
    server.ends_well();
    let stdout = server.outer.stdout();
    assert!(stdout.contains("stranger: exit status: 0"), "{stdout}");
}

/// A stop does not wait for orphans that live.
fn k01_a_stop_of_process_1_waits_for_no_orphan(world: &mut World) {
    let flags = ["--max-clients", "1", "--max-requests", "1"];
    let Some(server) = Contained::spawn(world, "serve", &flags) else {
        return;
    };
    leave_an_orphan(&server, &server.outer.address());
    adopted(&server, 1);
    server.ends_well();
}

/// A subreaper that says so does the same.
fn k01_a_subreaper_reaps_orphans_if_it_is_told_to(world: &mut World) {
    let flags = ["--max-clients", "1", "--max-requests", "1"];
    let subreaper = ["--subreaper", "--reap-orphans"];
    let server = world.spawn("serve", &[&flags[..], &subreaper].concat());
    let mut held = Held::new(&server.address());
    let orphan: u32 = held.client.ask("grandchild").parse().expect("a pid");
    let pid = held.pid;
    drop(held);
    expect_exit(&server, pid, "Finished exit status: 0");
    until("the orphan to be adopted", SOON, || {
        let adopted = processes::children(server.pid());
        adopted
            .iter()
            .any(|child| child.pid == orphan)
            .then_some(())
    });
    send(orphan, Signal::SIGKILL);
    until("the orphan to be reaped", SOON, || {
        processes::state(orphan).is_none().then_some(())
    });
    ends_well(&server);
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

/// The command of HEALTHCHECK in the Dockerfile, at the port of a server that runs here.
fn the_health_check_of_the_container_asks_for_an_answer(world: &mut World) {
    let dockerfile = include_str!("../../docs/deploy/container/Dockerfile");
    let command = dockerfile.lines().find_map(|line| {
        let words = line.trim().strip_prefix("CMD [\"/bin/bash\", \"-c\", \"")?;
        words.strip_suffix("\"]")
    });
    let command = command.expect("a command").replace("\\\\", "\\");
    let server = world.run_example("hello", &["--port", "0"]);
    let port = server.address().port().to_string();
    let command = command.replace("/8080", &format!("/{port}"));
    let check = || {
        let bash = Command::new("bash").args(["-c", &command]).output();
        bash.expect("a shell").status.success()
    };
    assert!(check(), "{command}");
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
    assert!(!check(), "nobody listens");
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

/// Where PR_SET_PDEATHSIG is refused, the death watch reports the parent's end; where close_range(2)
/// is, descriptors are closed one by one. Deaths are reported by SIGCHLD, and signals sent by kill(2).
///
/// Without the fallback in `tie_to_parent` no child starts.
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
