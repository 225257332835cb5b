//! What the kernel says of sockets, against what the test knows of them.

use super::*;
use std::{
    io::Write,
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn the_queue_of_a_listener_is_counted() {
    let listener = listen();
    assert_eq!(queue_length(&listener), Some(0));
    let address = listener.local_addr().unwrap();
    let _clients = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    assert_eq!(queue_length(&listener), Some(3));
    listener.accept().unwrap();
    assert_eq!(queue_length(&listener), Some(2));
}

#[test]
fn the_limit_of_a_queue_is_that_of_the_call_of_listen() {
    let listener = listen();
    assert_ne!(queue_limit(&listener), Some(7));
    // A second call changes it.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(7).unwrap()).unwrap();
    assert_eq!(queue_limit(&listener), Some(7));
}

#[test]
fn other_sockets_have_no_information() {
    let (one, _other) = UnixStream::pair().unwrap();
    assert_eq!(queue_length(&one), None);
    assert_eq!(time_in_queue(&one), None);
}

/// A tick of the slowest usual kernel is 10 ms.
const TICK: Duration = Duration::from_millis(10);

/// Lets a client be queued for `time` while it does `act`, and compares what the kernel says
/// with what the test's clock says, which bounds it from both sides.
#[track_caller]
fn is_queued_for(time: Duration, act: impl FnOnce(&mut TcpStream)) {
    let listener = listen();
    let before = Instant::now();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let connected = Instant::now();
    act(&mut client);
    thread::sleep(time.saturating_sub(connected.elapsed()));
    let (connection, _) = listener.accept().unwrap();
    let at_least = connected.elapsed();
    let told = time_in_queue(&connection).expect("a time");
    let at_most = before.elapsed();
    println!("{told:?} told, {at_least:?} to {at_most:?} passed");
    assert!(
        at_least.saturating_sub(TICK) <= told && told <= at_most + TICK,
        "{told:?}: {at_least:?} to {at_most:?}"
    );
}

#[test]
fn a_connection_knows_how_long_it_was_queued() {
    for milliseconds in [0, 50, 300, 2000] {
        is_queued_for(Duration::from_millis(milliseconds), |_| {});
    }
}

/// Whatever the client does meanwhile: the time does not begin again.
#[test]
fn a_client_that_sends_or_ends_while_it_is_queued_stays_as_old_as_it_is() {
    let time = Duration::from_millis(120);
    is_queued_for(time, |client| {
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(10));
            client.write_all(b"x").unwrap();
        }
    });
    is_queued_for(time, |client| {
        client.write_all(b"all").unwrap();
        thread::sleep(Duration::from_millis(100));
        client.shutdown(Shutdown::Write).unwrap();
    });
}
