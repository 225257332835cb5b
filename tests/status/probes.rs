//! The probes and the line of the agent-check: from before the first child to the end of a stop.

use std::fs;
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::support::{
    SOON, Scenarios, Signal, World, holds, port_is_free, scenarios, try_connect, until,
};
use crate::web::{document, exchange, get, hold, status_of, told, until_code};

pub const SCENARIOS: Scenarios = scenarios![
    i11_a_server_is_ready_when_its_first_child_is,
    it_is_not_ready_from_the_first_moment_of_a_stop,
    n04_a_parent_that_is_stuck_is_not_healthy,
    haproxy_is_told_the_share_of_free_children,
    haproxy_follows_the_share_of_free_children,
];

/// `/ready` says no until the first child can take connections.
fn i11_a_server_is_ready_when_its_first_child_is(world: &mut World) {
    let mut gate = world.gate("start");
    let (server, status) = told(world, &["--children", "2"]);
    let (first, second) = (gate.reached(SOON), gate.reached(SOON));
    assert_eq!(until_code(&status, "/ready", 503, SOON), "starting\n");
    assert_eq!(get(&status, "/health").code, 200);
    gate.release(first);
    assert_eq!(until_code(&status, "/ready", 200, SOON), "ready\n");
    gate.release(second);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// It answers while the stop is announced and while it waits for a child, and is gone after it.
fn it_is_not_ready_from_the_first_moment_of_a_stop(world: &mut World) {
    let path = world.tempdir().join("s");
    let arguments = [
        "--status",
        path.to_str().unwrap(),
        "--pre-stop-delay",
        "300",
    ];
    let server = world.spawn("told", &arguments);
    server.address();
    let status = status_of(&server, "status at ");
    until_code(&status, "/ready", 200, SOON);
    let (client, _) = hold(&server);
    server.signal(Signal::SIGTERM);
    until_code(&status, "/ready", 503, SOON);
    let stage = |stage: &str| {
        let found = document(&status);
        (found["server"]["stage"].text() == stage).then_some(())
    };
    until("the stop", SOON, || stage("stopping"));
    holds("it is not ready", Duration::from_millis(300), || {
        get(&status, "/ready").code == 503
    });
    assert_eq!(get(&status, "/health").code, 200);
    drop(client);
    assert!(server.wait(SOON).success());
    assert!(!path.exists(), "the file is left");
    assert!(try_connect(&status).is_err());
}

/// The process that answers is there before, so nothing is forked to answer: it tells that the parent
/// is stuck.
fn n04_a_parent_that_is_stuck_is_not_healthy(world: &mut World) {
    let (server, status) = told(world, &[]);
    until_code(&status, "/health", 200, SOON);
    server.signal(Signal::SIGSTOP);
    let text = until_code(&status, "/health", 503, Duration::from_secs(20));
    assert!(text.contains("stuck for 1"), "{text}");
    // It is the children that serve.
    assert_eq!(get(&status, "/ready").code, 200);
    server.signal(Signal::SIGCONT);
    until_code(&status, "/health", 200, SOON);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn haproxy_is_told_the_share_of_free_children(world: &mut World) {
    let arguments = ["--agent", "0", "--children", "2", "--max", "4"];
    let arguments = [&arguments[..], &["--pre-stop-delay", "200"]].concat();
    let server = world.spawn("told", &arguments);
    server.address();
    let agent = status_of(&server, "agent at ");
    let line = |wanted: &str| {
        until(&format!("the agent to say {wanted:?}"), SOON, || {
            (exchange(&agent, b"") == wanted).then_some(())
        });
    };
    line("up ready 100%\n");
    let clients = [hold(&server), hold(&server), hold(&server)];
    // It is an average over seconds: on its way to a quarter.
    until("the agent to say less", SOON, || {
        // HAProxy may send something first.
        let line = exchange(&agent, b"hello\n");
        let weight = line.strip_prefix("up ready ")?.strip_suffix("%\n")?;
        let weight: u64 = weight.parse().ok()?;
        assert!(weight >= 25, "{line}");
        (weight < 60).then_some(())
    });
    server.signal(Signal::SIGTERM);
    line("drain\n");
    drop(clients);
    assert!(server.wait(SOON).success());
    assert!(port_is_free(&agent) && try_connect(&agent).is_err());
}

const HAPROXY: &str = "/usr/sbin/haproxy";

/// The weight and the state of the server `one`, as HAProxy shows them.
fn in_haproxy(socket: &Path) -> Option<(String, String)> {
    let mut stats = UnixStream::connect(socket).ok()?;
    stats.write_all(b"show stat\n").ok()?;
    let mut text = String::new();
    stats.read_to_string(&mut text).ok()?;
    let row = text.lines().find(|line| line.starts_with("back,one,"))?;
    let fields: Vec<_> = row.split(',').collect();
    Some((fields[18].to_owned(), fields[17].to_owned()))
}

/// A real one, if it is installed.
fn haproxy_follows_the_share_of_free_children(world: &mut World) {
    if !Path::new(HAPROXY).exists() {
        return println!("skipped: no {HAPROXY}");
    }
    let arguments = [
        "--agent",
        "0",
        "--children",
        "4",
        "--pre-stop-delay",
        "1000",
    ];
    let server = world.spawn("told", &arguments);
    let address = server.address();
    let agent = status_of(&server, "agent at ").port();
    let (socket, front) = (world.tempdir().join("stats"), world.tempdir().join("front"));
    let config = format!(
        "global\n stats socket {}\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n \
         timeout server 30s\nfrontend front\n bind unix@{}\n default_backend back\nbackend back\n \
         server one {address} weight 100 agent-check agent-port {agent} agent-inter 50ms\n",
        socket.display(),
        front.display(),
    );
    let path = world.tempdir().join("haproxy.cfg");
    fs::write(&path, config).unwrap();
    let haproxy = world
        .command(HAPROXY)
        .args(&["-db", "-f"])
        .arg(path)
        .spawn();
    let until_it_shows = |weights: RangeInclusive<u64>, state: &str| {
        let what = format!("a weight of {weights:?} and {state} in HAProxy");
        until(&what, SOON, || {
            let (shown, found) = in_haproxy(&socket)?;
            let shown = shown.parse().ok()?;
            (weights.contains(&shown) && found.starts_with(state)).then_some(())
        });
    };
    until_it_shows(100..=100, "no check");
    // The weight is an average over seconds.
    let clients = [hold(&server), hold(&server), hold(&server)];
    until_it_shows(25..=60, "no check");
    drop(clients);
    until_it_shows(80..=100, "no check");
    server.signal(Signal::SIGTERM);
    until_it_shows(80..=100, "DRAIN (agent)");
    assert!(server.wait(SOON).success());
    haproxy.kill9();
}
