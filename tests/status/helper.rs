//! The helper as a process: killed, orphaned, unprivileged; its socket.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::documents::helper;
use crate::support::{SOON, Scenarios, Signal, World, processes, scenarios, until};
use crate::web::{document, get, hold, status_of, told, until_code, until_told};

pub const SCENARIOS: Scenarios = scenarios![
    a_helper_that_is_killed_comes_back,
    it_ends_with_a_parent_that_is_killed,
    it_holds_nothing_of_the_servers,
    it_is_no_root_where_children_are_none,
    a_signal_to_the_whole_group_does_not_end_it,
    a_stale_socket_is_replaced_and_a_live_one_is_refused,
];

fn kill9(pid: u32) {
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
}

/// The children are left in peace, and no number is lost.
fn a_helper_that_is_killed_comes_back(world: &mut World) {
    let (server, status) = told(world, &["--children", "2"]);
    let (client, child) = hold(&server);
    let before = document(&status);
    for _ in 0..3 {
        let old = helper(&server);
        kill9(old);
        let new = until("another helper", SOON, || {
            let children = processes::children(server.pid());
            let is_there = children.iter().any(|process| process.pid == old);
            (!is_there && children.len() >= 3).then(|| helper(&server))
        });
        assert_ne!(old, new);
        assert_eq!(until_code(&status, "/ready", 200, SOON), "ready\n");
    }
    let after = document(&status);
    assert_eq!(after["counters"]["forks"], before["counters"]["forks"]);
    assert_eq!(after["counters"]["connections"].number(), 1.0);
    assert_eq!(
        after["slots"].with("pid", child).unwrap()["state"].text(),
        "busy"
    );
    drop(client);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    assert!(
        server.stderr().contains("the status helper, process"),
        "{}",
        server.stderr()
    );
}

fn it_ends_with_a_parent_that_is_killed(world: &mut World) {
    world.expect_orphans();
    let (server, status) = told(world, &[]);
    until_code(&status, "/ready", 200, SOON);
    let helper = helper(&server);
    server.kill9();
    until("the helper to end", SOON, || {
        (!processes::is_alive(helper)).then_some(())
    });
    world.reap_orphans();
    until("all to end", SOON, || {
        world.reap_orphans();
        world.orphans().is_empty().then_some(())
    });
}

/// Besides its own sockets it has the standard streams and the pipe by which it learns of the end.
fn it_holds_nothing_of_the_servers(world: &mut World) {
    let (server, status) = told(world, &["--agent", "0"]);
    // A child that has not begun still holds what its parent does.
    until_told(&status, "all to be free", |document| {
        (document["children"]["free"].number() == 2.0).then_some(())
    });
    let held = until("the descriptors to settle", SOON, || {
        let held = processes::descriptors(helper(&server));
        let sockets = held.iter().filter(|(_, to)| to.starts_with("socket:"));
        // Each listener twice: what it was given, and its own.
        (sockets.count() == 4).then_some(held)
    });
    let pipes = held
        .iter()
        .filter(|(fd, to)| *fd > 2 && to.starts_with("pipe:"));
    assert_eq!(pipes.count(), 1, "{held:?}");
    let others = held
        .iter()
        .filter(|(fd, to)| *fd > 2 && !to.starts_with("socket:") && !to.starts_with("pipe:"));
    assert_eq!(others.count(), 0, "{held:?}");
    // No child holds a socket of the helper.
    let of_helper = |to: &String| to.starts_with("socket:");
    let children = server
        .children()
        .into_iter()
        .filter(|pid| *pid != helper(&server));
    for child in children {
        let shared = processes::descriptors(child);
        let mut both = shared
            .iter()
            .filter(|(_, to)| of_helper(to) && held.iter().any(|(_, other)| other == to));
        assert_eq!(both.next(), None, "child {child}");
    }
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// Only root can become somebody else.
fn it_is_no_root_where_children_are_none(world: &mut World) {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: not root");
    }
    let (server, status) = told(world, &["--user", "nobody"]);
    assert_eq!(until_code(&status, "/ready", 200, SOON), "ready\n");
    let text = fs::read_to_string(format!("/proc/{}/status", helper(&server))).unwrap();
    let uid = text.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert!(!uid.split_whitespace().any(|id| id == "0"), "{uid}");
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// As Ctrl-C in a terminal, or systemd's stop.
fn a_signal_to_the_whole_group_does_not_end_it(world: &mut World) {
    let (server, status) = told(world, &["--pre-stop-delay", "300"]);
    until_code(&status, "/ready", 200, SOON);
    let (client, _) = hold(&server);
    let helper = helper(&server);
    kill(Pid::from_raw(helper.cast_signed()), Signal::SIGINT).unwrap();
    kill(Pid::from_raw(helper.cast_signed()), Signal::SIGTERM).unwrap();
    server.signal(Signal::SIGTERM);
    until_code(&status, "/ready", 503, SOON);
    assert_eq!(get(&status, "/health").code, 200);
    assert!(processes::is_alive(helper));
    drop(client);
    assert!(server.wait(SOON).success());
}

fn a_stale_socket_is_replaced_and_a_live_one_is_refused(world: &mut World) {
    let path = world.tempdir().join("s");
    drop(UnixListener::bind(&path).unwrap());
    let arguments = ["--status", path.to_str().unwrap()];
    let server = world.spawn("told", &arguments);
    server.address();
    let status = status_of(&server, "status at ");
    until_code(&status, "/ready", 200, SOON);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = world.spawn("told", &arguments);
    assert!(!second.wait(SOON).success());
    let stderr = second.stderr();
    assert!(
        stderr.contains("another server is listening there"),
        "{stderr}"
    );
    assert_eq!(get(&status, "/ready").code, 200);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    assert!(!path.exists());
}
