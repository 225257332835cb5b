//! Headers that are wrong, late, missing, or sent by somebody who may not: a closed connection, one
//! counted reason, a line of debug, and the next client is served.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::headers::{INET, LINE, NONE_REFUSED, block, note, refusals, send, trusting};
use crate::support::{
    Address, Client, SOON, Scenarios, Server, Signal, World, connect, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    d16_a_malformed_header_closes_the_connection,
    d16_a_header_from_elsewhere_is_not_believed,
    d16_a_header_that_never_comes_is_waited_for_once,
    d16_a_header_in_drops_has_one_deadline,
    a_connection_that_ends_first_is_counted,
    a_unix_peer_is_not_trusted_unless_asked_for,
    a_refused_connection_is_no_request,
];

/// Connects and sends `bytes` to a server that may have closed the connection by then.
fn offer(address: &Address, bytes: &[u8]) -> Client {
    let mut client = connect(address);
    let _ = client.write_all(bytes);
    client
}

/// The next client is served.
fn serves(server: &Server) {
    let mut client = send(&server.address(), LINE);
    assert_eq!(client.ask("hello"), "hello");
}

fn logged(server: &Server, what: &str) {
    server.expect_stderr("a line in the log", |text| {
        text.contains("a connection is refused: ") && text.contains(what)
    });
}

/// What is no valid header closes the connection, is counted, and reaches no handler.
///
/// Garbage, what other protocols begin with, too long, almost right.
fn d16_a_malformed_header_closes_the_connection(world: &mut World) {
    let server = trusting(world, &[]);
    let address = server.address();
    let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(100));
    let huge = block(0x21, 0x11, &[0; 40_000]);
    let with = |notes: &[u8]| block(0x21, 0x11, &[INET, notes].concat());
    let wrong: Vec<Vec<u8>> = vec![
        b"hello\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 0, 0xfe],
        vec![0; 20],
        too_long.into_bytes(),
        b"PROXY TCP4 192.0.2.1 198.51.100.2 258 65536\r\n".to_vec(),
        b"PROXY TCP4 ::1 ::2 258 443\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 198.51.100.2 258 443\n".to_vec(),
        huge[..1000].to_vec(),
        block(0x22, 0x11, INET),
        block(0x21, 0x77, INET),
        block(0x21, 0x21, INET),
        with(&note(0x03, &[1, 2, 3, 4])),
        with(&[0x05, 0, 9]),
    ];
    for bytes in &wrong {
        offer(&address, bytes).gone();
        serves(&server);
    }
    logged(&server, "malformed");
    let expected = format!(
        "refused: 0 Untrusted, {} Malformed, 0 Late, 0 Ended",
        wrong.len()
    );
    assert_eq!(refusals(&server), expected);
}

/// A connection from an address that is not listed is closed unread, with a header and without one.
fn d16_a_header_from_elsewhere_is_not_believed(world: &mut World) {
    let server = world.spawn("behind", &["--trust", "127.0.0.2/31,203.0.113.0/24"]);
    let address = server.address();
    for bytes in [LINE, &block(0x21, 0x11, INET), b"hello\n", b""] {
        offer(&address, bytes).gone();
    }
    logged(&server, "not trusted");
    assert_eq!(
        refusals(&server),
        "refused: 4 Untrusted, 0 Malformed, 0 Late, 0 Ended"
    );
}

/// A proxy that sends no header, or a part of one, is waited for until `timeout`.
fn d16_a_header_that_never_comes_is_waited_for_once(world: &mut World) {
    let server = trusting(world, &["--header-timeout", "1000"]);
    let address = server.address();
    for part in [&[][..], &LINE[..20], b"\r\n\r\n\0"] {
        let mut client = send(&address, part);
        client.gone();
        serves(&server);
    }
    logged(&server, "did not come in time");
    assert_eq!(
        refusals(&server),
        "refused: 0 Untrusted, 0 Malformed, 3 Late, 0 Ended"
    );
}

/// The time limit is for the whole header, so a proxy that sends drop after drop gains nothing.
fn d16_a_header_in_drops_has_one_deadline(world: &mut World) {
    let server = trusting(world, &["--header-timeout", "1000"]);
    let address = server.address();
    let begin = Instant::now();
    let mut client = connect(&address);
    client.timeout(Duration::from_millis(50)).unwrap();
    let slow = [&b"PROXY UNKNOWN "[..], &[b'x'; 90]].concat();
    let mut drops = slow.iter();
    until("the connection to be closed", SOON, || {
        // Each drop comes long before any timeout of a single read.
        let drop = drops.next().expect("it is closed before the line ends");
        let written = client.write_all(&[*drop]);
        let ended = client.try_read_line().is_ok_and(|line| line.is_none());
        (ended || written.is_err()).then_some(())
    });
    assert!(begin.elapsed() >= Duration::from_secs(1));
    serves(&server);
    assert_eq!(
        refusals(&server),
        "refused: 0 Untrusted, 0 Malformed, 1 Late, 0 Ended"
    );
}

/// As a balancer does that looks whether the port is open.
fn a_connection_that_ends_first_is_counted(world: &mut World) {
    let server = trusting(world, &[]);
    let address = server.address();
    drop(connect(&address));
    let mut client = send(&address, &LINE[..20]);
    client.close_write();
    client.eof();
    send(&address, &LINE[..20]).reset();
    serves(&server);
    logged(&server, "it ended before");
    assert_eq!(
        refusals(&server),
        "refused: 0 Untrusted, 0 Malformed, 0 Late, 3 Ended"
    );
}

fn a_unix_peer_is_not_trusted_unless_asked_for(world: &mut World) {
    let path = world.tempdir().join("socket");
    let server = trusting(world, &["--path", path.to_str().unwrap()]);
    offer(&server.address(), LINE).gone();
    assert_eq!(
        refusals(&server),
        "refused: 1 Untrusted, 0 Malformed, 0 Late, 0 Ended"
    );
}

/// A stranger who connects again and again would have every child replaced.
fn a_refused_connection_is_no_request(world: &mut World) {
    let arguments = [
        "--max-requests",
        "2",
        "--trust",
        "203.0.113.9",
        "--direct",
        "127.0.0.2",
    ];
    let server = world.spawn("behind", &arguments);
    let address = server.address();
    let child = server.expect_children(1)[0];
    for _ in 0..5 {
        connect(&address).gone();
    }
    assert_eq!(server.children(), [child]);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    let server = trusting(world, &["--max-requests", "2"]);
    let address = server.address();
    let child = server.expect_children(1)[0];
    for _ in 0..5 {
        offer(&address, b"hello\n").gone();
    }
    let mut client = send(&address, LINE);
    assert_eq!(client.ask("pid"), child.to_string());
    assert_eq!(client.ask("number"), "1");
    drop(client);
    let said = refusals(&server);
    assert!(
        said != NONE_REFUSED && said.contains("5 Malformed"),
        "{said}"
    );
}
