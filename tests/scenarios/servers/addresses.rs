//! Addresses of the stock servers, and how many connections each child takes.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;

use super::{ask, refused, stop, text};
use crate::support::{Scenarios, World, connect, scenarios};

pub const SCENARIOS: Scenarios = scenarios![
    j01_address_in_use_is_an_error_that_names_it,
    d17_addresses_of_one_server_are_served_in_turn,
    host_name_and_domain_choose_the_address,
    d11_max_requests_one_under_load,
    max_requests_zero_is_no_limit,
    state_is_made_in_each_child,
    tcp_over_ipv6,
    tcp_port_is_chosen_by_the_system,
];

/// Whether this machine has ::1.
fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped: this machine has no ::1");
    }
    has
}

// TCP.

fn tcp_port_is_chosen_by_the_system(world: &mut World) {
    let server = world.spawn("tcp", &[]);
    let address = server.address();
    assert_ne!(address.port(), 0);
    assert_eq!(ask(&address, "local"), format!("1 {address}"));
    stop(&server);
}

fn tcp_over_ipv6(world: &mut World) {
    if !has_ipv6() {
        return;
    }
    let server = world.spawn("tcp", &["--address", "::1"]);
    let address = server.address();
    assert!(address.to_string().starts_with("[::1]:"));
    assert_eq!(ask(&address, "local"), format!("1 {address}"));
    stop(&server);
}

fn host_name_and_domain_choose_the_address(world: &mut World) {
    let server = world.spawn("tcp", &["--address", "localhost", "--domain", "inet"]);
    let address = server.address();
    assert!(address.to_string().starts_with("127."), "{address}");
    ask(&address, "pid");
    stop(&server);
    let server = world.spawn("tcp", &["--address", "127.0.0.1", "--domain", "inet6"]);
    let error = "lookup 127.0.0.1:0: no address of that domain";
    assert_eq!(refused(&server), error);
    let server = world.spawn("tcp", &["--address", "no.such.host.invalid", "--port", "7"]);
    let error = refused(&server);
    assert!(
        error.starts_with("lookup no.such.host.invalid:7: "),
        "{error}"
    );
}

/// The listener after the last served one is tried first: with a queue at each of two addresses,
/// neither waits until the other is empty.
fn d17_addresses_of_one_server_are_served_in_turn(world: &mut World) {
    let arguments = [
        "--also",
        "127.0.0.1:0",
        "--children",
        "1",
        "--max-clients",
        "1",
    ];
    let server = world.spawn("tcp", &arguments);
    let addresses = server.addresses(2);
    assert_ne!(addresses[0], addresses[1]);
    let mut first = connect(&addresses[0]);
    first.ask("pid");
    let mut waiting = Vec::new();
    for address in &addresses {
        for _ in 0..5 {
            let mut client = connect(address);
            client.send_line("local");
            client.close_write();
            waiting.push(client);
        }
    }
    drop(first);
    let mut served: Vec<(u64, String)> = waiting
        .iter_mut()
        .map(|client| {
            let answer = client.read_line();
            let (number, address) = answer.split_once(' ').unwrap();
            (number.parse().unwrap(), address.to_owned())
        })
        .collect();
    served.sort();
    for (index, (number, address)) in served.iter().enumerate() {
        assert_eq!(*number, index as u64 + 2);
        // The first connection of all was on the first address.
        assert_eq!(*address, addresses[(index + 1) % 2].to_string());
    }
    stop(&server);
}

/// An address in use is an error that names it, and sockets that were opened before are closed.
fn j01_address_in_use_is_an_error_that_names_it(world: &mut World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = world.spawn("tcp", &["--port", &address.port().to_string()]);
    let error = refused(&server);
    let expected = format!("bind {address}: address already in use");
    assert!(error.starts_with(&expected), "{error}");
    // The first of two addresses is given back when the second cannot be had.
    let server = world.spawn("tcp", &["--also", &address.to_string()]);
    assert!(refused(&server).starts_with(&expected));
}

/// Children that reach `max_requests`, even all at once, are replaced as they leave, and new
/// connections wait in the backlog: none is lost.
fn d11_max_requests_one_under_load(world: &mut World) {
    const CLIENTS: usize = 6;
    const EACH: usize = 50;
    let server = world.spawn("tcp", &["--max-requests", "1", "--children", "5"]);
    let address = server.address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || {
                let answers = (0..EACH).map(|_| {
                    let mut client = connect(&address);
                    assert_eq!(client.ask("number"), "1");
                    client.ask("pid")
                });
                answers.collect::<Vec<_>>()
            })
        })
        .collect();
    let pids = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap());
    let pids: BTreeSet<String> = pids.collect();
    assert_eq!(pids.len(), CLIENTS * EACH, "a child for each connection");
    stop(&server);
}

fn max_requests_zero_is_no_limit(world: &mut World) {
    let arguments = [
        "--max-requests",
        "0",
        "--children",
        "1",
        "--max-clients",
        "1",
    ];
    let server = world.spawn("tcp", &arguments);
    let address = server.address();
    for number in 1..=200 {
        assert_eq!(ask(&address, "number"), number.to_string());
    }
    stop(&server);
}

fn state_is_made_in_each_child(world: &mut World) {
    let path = world.tempdir().join("socket");
    let tcp = world.spawn("tcp", &["--max-requests", "2"]);
    let unix = world.spawn("unix", &["--max-requests", "2", "--path", text(&path)]);
    for server in [tcp, unix] {
        let address = server.address();
        let mut pids = BTreeSet::new();
        for _ in 0..8 {
            let answer = ask(&address, "state");
            let (made_in, pid) = answer.split_once(' ').unwrap();
            assert_eq!(made_in, pid);
            pids.insert(pid.to_owned());
        }
        assert!(pids.len() >= 4, "children leave after two connections");
        stop(&server);
    }
}
