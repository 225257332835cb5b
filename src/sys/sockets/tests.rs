//! Listeners on the loopback interface: blocking and not, with backlogs of any size.

use super::*;
use nix::sys::socket::UnixAddr;
use std::{
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
};

fn listen_tcp() -> TcpListener {
    let socket = bind_tcp(([127, 0, 0, 1], 0).into(), false).unwrap();
    listen(&socket, 8).unwrap();
    TcpListener::from(socket)
}

/// A process that shares a listener may set it to blocking mode. It is set back before an
/// attempt to accept that probably finds nothing, so that no child hangs in accept.
#[test]
fn d06_a_listener_that_was_made_to_block_does_not() {
    let listener = listen_tcp();
    assert!(!keep_nonblocking(&listener).unwrap());
    let shared = listener.try_clone().unwrap();
    shared.set_nonblocking(false).unwrap();
    // Without the call above the next line would wait forever.
    assert!(keep_nonblocking(&listener).unwrap());
    assert!(matches!(
        accept(&listener, Blocking::Never),
        Accepted::Nothing
    ));
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let accepted = accept(&shared, Blocking::Never);
    assert!(matches!(accepted, Accepted::Connection(_)), "{accepted:?}");
    drop(client);
}

/// Listens with that backlog at a UNIX socket without a name in the file system. Returns how
/// many of `clients` find room there.
#[cfg(target_os = "linux")]
fn room(backlog: i32, clients: usize) -> usize {
    let listener = stream_socket(AddressFamily::Unix).unwrap();
    let name = format!("prefork-backlog-{}-{backlog}", std::process::id());
    let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
    socket::bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, backlog).unwrap();
    let clients: Vec<_> = (0..clients)
        .map(|_| stream_socket(AddressFamily::Unix).unwrap())
        .collect();
    let connect = |client: &&OwnedFd| socket::connect(client.as_raw_fd(), &address).is_ok();
    clients.iter().filter(connect).count()
}

/// The kernel queues one connection more than asked for. It cuts a backlog that is too large,
/// and takes a negative number for one.
#[cfg(target_os = "linux")]
#[test]
fn a_backlog_is_what_was_asked_for_and_never_negative() {
    assert_eq!(room(3, 20), 4);
    assert_eq!(room(0, 20), 1);
    assert_eq!(room(-1, 20), 1);
    assert_eq!(room(i32::MIN, 20), 1);
    assert_eq!(room(i32::MAX, 20), 20);
}

/// Where connections inherit a timeout from the listener, accept(2) obeys it too.
#[test]
#[cfg(target_os = "linux")]
fn d06_an_attempt_that_blocks_ends_with_the_timeout_that_connections_inherit() {
    let listener = listen_tcp();
    block_briefly(&listener, Duration::from_millis(20)).unwrap();
    listener.set_nonblocking(false).unwrap();
    // Without the timeout the next line would wait forever.
    let accepted = accept(&listener, Blocking::Allowed);
    assert!(matches!(accepted, Accepted::Nothing), "{accepted:?}");
}
