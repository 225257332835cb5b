//! A stop waits for no idle client, and lets a request that has begun be answered.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    o34_a_stop_waits_for_no_idle_client,
    o34_a_client_may_be_idle_for_so_long,
    o34_a_request_that_has_arrived_is_served_in_a_stop,
    o34_a_client_that_goes_on_asking_holds_no_stop,
];

/// How long the server takes to stop.
pub(super) fn time_to_stop(server: &Server) -> Duration {
    let start = Instant::now();
    stop(server);
    start.elapsed()
}

/// Quick: not for as long as a stop may take, which is 10 s at the least. What is measured on a quiet
/// machine is below 100 ms.
#[track_caller]
pub(super) fn quick(took: Duration) {
    assert!(took < patient(Duration::from_secs(4)), "{took:?}");
}

/// A handler marks where its client may be idle (`wait_for_request`); there a stop does not wait,
/// and the handler can send a last line.
///
/// One client has had an answer, one has never sent anything.
fn o34_a_stop_waits_for_no_idle_client(world: &mut World) {
    let server = world.spawn("clients_plain", &["--children", "2"]);
    let mut one = connect(&server.address());
    one.send_line("keep");
    assert_eq!(one.ask("hello"), "hello");
    let mut other = connect(&server.address());
    other.send_line("keep");
    server.expect_children(2);
    quick(time_to_stop(&server));
    assert_eq!(one.read_rest(), "bye\n");
    other.gone();
    silent(&server);
}

/// `wait_for_request` ends after the idle time of its argument.
fn o34_a_client_may_be_idle_for_so_long(world: &mut World) {
    let server = world.spawn("clients_plain", &[]);
    let mut client = connect(&server.address());
    assert_eq!(client.ask("idle"), "arrived: false, stop: false");
    stop(&server);
    silent(&server);
}

/// Once the child is told to stop, requests that have arrived are served, and then the connection
/// ends.
fn o34_a_request_that_has_arrived_is_served_in_a_stop(world: &mut World) {
    let mut gate = world.gate("keep");
    let server = world.spawn("clients_plain", &[]);
    let mut client = connect(&server.address());
    client.send_line("keep slowly");
    let child = gate.reached(SOON);
    tell(child);
    client.send_line("under way");
    gate.release(child);
    assert_eq!(client.read_rest(), "under way\nbye\n");
    stop(&server);
    silent(&server);
}

/// Tells a child to stop as its parent does.
fn tell(child: u32) {
    let child = nix::unistd::Pid::from_raw(i32::try_from(child).unwrap());
    nix::sys::signal::kill(child, Signal::SIGINT).expect("a child");
}

/// A client that keeps sending requests is served at most once more when the child is told to stop.
///
/// Each byte is a request here, and six are there by then.
fn o34_a_client_that_goes_on_asking_holds_no_stop(world: &mut World) {
    let mut gate = world.gate("keep");
    let server = world.spawn("clients_plain", &[]);
    let mut client = connect(&server.address());
    client.send_line("keep each byte");
    let child = gate.reached(SOON);
    tell(child);
    client.write_all(b"abcdef").unwrap();
    gate.release(child);
    assert_eq!(client.read_rest(), "abye\n");
    drop(client);
    stop(&server);
    silent(&server);
}
