//! What a scenario works with: orphans, gates, clients, addresses, descriptors, outputs.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use crate::support;
use crate::support::patience::{MOST, crowding_of};
use crate::support::{
    Address, SOON, Scenarios, Signal, World, connect, holds, port_is_free, processes, scenarios,
    try_connect, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    a_crowd_makes_time_longer,
    address_in_time_wait_is_free,
    client_sees_lines_silence_and_the_end,
    descriptors_settle_and_compare,
    example_that_is_not_built_is_explained,
    gate_stops_and_lets_go,
    orphans_come_to_the_scenario,
    outputs_can_be_the_scenarios_own,
    zombies_are_not_children,
];

fn a_crowd_makes_time_longer(_: &mut World) {
    let crowding = |load: &str| crowding_of(load, 2);
    assert_eq!(crowding("0.50 0.40 0.30 1/200 4711"), 1.0);
    assert_eq!(crowding("9.00 0.40 0.30 8/200 4711"), 1.0);
    assert_eq!(crowding("9.00 0.40 0.30 24/200 4711"), 3.0);
    assert_eq!(crowding("900 0.40 0.30 9000/10000 4711"), MOST);
    assert_eq!(crowding("no such thing"), 1.0);
}

fn orphans_come_to_the_scenario(world: &mut World) {
    let server = world.spawn("parent", &["--count", "3", "--stay"]);
    let children = server.expect_children(3);
    assert!(world.orphans().is_empty());
    server.kill9();
    let orphans = until("the orphans", SOON, || {
        Some(world.orphans()).filter(|all| all.len() == 3)
    });
    assert_eq!(orphans, children);
    for pid in orphans {
        assert!(processes::is_alive(pid));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    }
    until("their end", SOON, || {
        world.orphans().is_empty().then_some(())
    });
}

fn zombies_are_not_children(world: &mut World) {
    let _closed = world.gate("exit");
    let server = world.spawn("parent", &["--brief", "--stay"]);
    let zombies = until("a zombie", SOON, || {
        Some(server.zombies()).filter(|all| all.len() == 1)
    });
    assert_eq!(server.children(), []);
    assert_eq!(processes::state(zombies[0]), Some('Z'));
    assert!(!processes::is_alive(zombies[0]));
    server.kill9();
}

fn gate_stops_and_lets_go(world: &mut World) {
    let mut point = world.gate("point");
    let servers = [(); 3].map(|()| world.spawn("gated", &[]));
    let mut reached: Vec<u32> = servers.iter().map(|_| point.reached(SOON)).collect();
    reached.sort_unstable();
    let mut pids = servers.each_ref().map(support::Server::pid);
    pids.sort_unstable();
    assert_eq!(reached, pids);
    holds("nobody passes", Duration::from_millis(50), || {
        servers.iter().all(|server| server.stdout().is_empty())
    });
    point.release(servers[1].pid());
    servers[1].expect_stdout("the passage", |text| text == "passed\n");
    assert_eq!(point.waiting().len(), 2);
    assert_eq!(servers[0].stdout(), "");
    point.open();
    let late = world.spawn("gated", &[]);
    for server in servers.iter().chain([&late]) {
        assert!(server.wait(SOON).success());
    }
}

fn client_sees_lines_silence_and_the_end(world: &mut World) {
    let path = world.tempdir().join("socket");
    for arguments in [vec![], vec!["--unix", path.to_str().unwrap()]] {
        let server = world.spawn("echo", &arguments);
        let address = server.address();
        assert!(!port_is_free(&address));
        let mut client = connect(&address);
        assert_eq!(client.ask("hello"), "hello");
        assert!(client.is_silent(Duration::from_millis(20)));
        client.send_line("a\nb");
        assert_eq!(client.read_line(), "a");
        assert!(!client.is_silent(Duration::from_millis(20)));
        assert_eq!(client.read_line(), "b");
        client.close_write();
        client.eof();
        connect(&address).send_line("quit");
        assert!(server.wait(SOON).success());
        assert!(port_is_free(&address));
        assert!(try_connect(&address).is_err());
    }
}

fn address_in_time_wait_is_free(world: &mut World) {
    let server = world.spawn("echo", &[]);
    let address = server.address();
    let mut client = connect(&address);
    client.send_line("quit");
    // The server's end closes first, so that its port is the one in TIME_WAIT.
    client.eof();
    server.wait(SOON);
    drop(client);
    assert!(port_is_free(&address));
    // A port that only a client has is not listened on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = connect(&Address::from(listener.local_addr().unwrap()));
    let (peer, client_address) = listener.accept().unwrap();
    assert!(port_is_free(&Address::from(client_address)));
    drop((client, peer));
}

fn descriptors_settle_and_compare(world: &mut World) {
    let server = world.spawn("echo", &[]);
    let address = server.address();
    let before = server.descriptors_settled();
    assert_eq!(before[0], (0, "/dev/null".to_owned()));
    assert_eq!(server.threads(), 1);
    let mut client = connect(&address);
    client.ask("hello");
    assert_eq!(server.descriptors_settled().len(), before.len() + 1);
    drop(client);
    until("the connection to be closed", SOON, || {
        (server.descriptors_settled() == before).then_some(())
    });
    connect(&address).send_line("quit");
    server.wait(SOON);
}

fn outputs_can_be_the_scenarios_own(world: &mut World) {
    let launch = world.program("announcer").args(&["--address", "here"]);
    let server = launch
        .stdout(Stdio::piped())
        .env("RUST_BACKTRACE", "0")
        .spawn();
    let mut line = String::new();
    BufReader::new(server.take_stdout().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "listening on here\n");
    assert_eq!(server.stderr(), "");
    assert!(server.wait(SOON).success());
    assert_eq!(server.try_wait().and_then(|status| status.code()), Some(0));
}

fn example_that_is_not_built_is_explained(world: &mut World) {
    let attempt = std::panic::AssertUnwindSafe(|| world.run_example("no-such-example", &[]));
    let panic = std::panic::catch_unwind(attempt).expect_err("a panic");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("cargo build"), "{text}");
    assert!(text.contains("--example no-such-example"), "{text}");
}
