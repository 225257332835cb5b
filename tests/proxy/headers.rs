//! Headers that are right, written by hand: whatever they say and however they come, the handler
//! finds the client and every byte after the header.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::{
    Address, Client, SOON, Scenarios, Server, Signal, World, connect, holds, processes, scenarios,
    until,
};

pub const SCENARIOS: Scenarios = scenarios![
    d16_the_client_of_a_header_is_the_peer,
    d16_a_header_may_come_in_single_bytes,
    d16_not_a_byte_after_the_header_is_lost,
    a_client_without_an_address_has_that_of_the_proxy,
    notes_of_the_proxy_reach_the_handler,
    an_object_finds_the_client_too,
    a_unix_socket_has_proxies_too,
    direct_clients_need_no_header,
    without_the_attribute_a_header_is_input,
    the_child_acks_while_it_waits_for_a_header,
    a_child_that_waits_for_a_header_leaves_in_time,
];

/// From 192.0.2.1:258 to 198.51.100.2:443.
pub const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 258 443\r\n";
const LINE_ENDS: &str = "192.0.2.1:258 198.51.100.2:443";
const LINE_6: &[u8] = b"PROXY TCP6 2001:db8::1 2001:db8::2 258 443\r\n";
const ENDS_6: &str = "[2001:db8::1]:258 [2001:db8::2]:443";

/// The addresses of `LINE`, as version 2 has them.
pub const INET: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 1, 187];

/// A header of version 2: the command 0x20 is LOCAL, 0x21 is PROXY.
pub fn block(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [
        &b"\r\n\r\n\0\r\nQUIT\n"[..],
        &[command, family],
        &length[..],
        rest,
    ]
    .concat()
}

pub fn note(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, 0, value.len() as u8], value].concat()
}

fn with_notes() -> Vec<u8> {
    let tls = [&[0x01, 0, 0, 0, 0][..], &note(0x21, b"TLSv1.3")].concat();
    let notes = [
        note(0x01, b"h2"),
        note(0x02, b"example.org"),
        note(0x05, b"id-1"),
        note(0x20, &tls),
        note(0xEA, b"vpce-1"),
    ];
    block(0x21, 0x11, &[INET, &notes.concat()].concat())
}

fn inet6() -> Vec<u8> {
    let mut rest = [0; 36];
    rest[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    rest[15] = 1;
    rest[16..20].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    rest[31] = 2;
    rest[32..].copy_from_slice(&[1, 2, 1, 187]);
    block(0x21, 0x21, &rest)
}

/// A server whose every client is a trusted proxy.
pub fn trusting(world: &mut World, arguments: &[&str]) -> Server {
    let trust = ["--trust", "127.0.0.0/8,::1"];
    world.spawn("behind", &[&trust, arguments].concat())
}

/// Connects and sends `bytes` as one write.
pub fn send(address: &Address, bytes: &[u8]) -> Client {
    let mut client = connect(address);
    client.write_all(bytes).unwrap();
    client
}

/// Stops the server, and returns what it says about refusals.
pub fn refusals(server: &Server) -> String {
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    let stdout = server.stdout();
    let line = stdout.lines().find(|line| line.starts_with("refused: "));
    line.unwrap_or_else(|| panic!("{stdout}")).to_owned()
}

pub const NONE_REFUSED: &str = "refused: 0 Untrusted, 0 Malformed, 0 Late, 0 Ended";

/// With `proxy_protocol`, the client's address is the one that a trusted proxy tells, for every kind of
/// header and of listener.
fn d16_the_client_of_a_header_is_the_peer(world: &mut World) {
    let headers = [
        (LINE.to_vec(), LINE_ENDS),
        (LINE_6.to_vec(), ENDS_6),
        (block(0x21, 0x11, INET), LINE_ENDS),
        (inet6(), ENDS_6),
        (with_notes(), LINE_ENDS),
    ];
    for address in ["127.0.0.1", "::1", "::"] {
        let server = trusting(world, &["--address", address]);
        let port = server.address().port();
        let host = if address == "127.0.0.1" {
            address
        } else {
            "[::1]"
        };
        let to = Address::parse(&format!("{host}:{port}"));
        for (header, ends) in &headers {
            // The question is in the queue together with the header.
            let mut client = send(&to, &[header, &b"ends\n"[..]].concat());
            assert_eq!(client.read_line(), *ends);
            let proxy = client.local_address();
            let said = client.ask("proxied");
            assert!(said.contains(&format!("proxy={proxy} ")), "{said}");
        }
        assert_eq!(refusals(&server), NONE_REFUSED);
    }
}

/// A header is read to its end however it comes.
///
/// Fails if the reader judges a part of a header as a whole one.
fn d16_a_header_may_come_in_single_bytes(world: &mut World) {
    let server = trusting(world, &["--children", "2"]);
    let address = server.address();
    for (header, ends) in [
        (LINE.to_vec(), LINE_ENDS),
        (inet6(), ENDS_6),
        (with_notes(), LINE_ENDS),
    ] {
        let mut client = connect(&address);
        let child = busy_child(&server);
        for byte in header.iter().chain(b"ends\n") {
            client.write_all(&[*byte]).unwrap();
            // Each byte is a wait of its own for the child.
            until("the child to wait for the next byte", SOON, || {
                processes::system_call(child).filter(|call| *call == nix::libc::SYS_poll)
            });
        }
        assert_eq!(client.read_line(), ends);
    }
    assert_eq!(refusals(&server), NONE_REFUSED);
}

/// The child that waits in poll(2), as it does for a client and never for a connection.
fn busy_child(server: &Server) -> u32 {
    until("a child to wait for its client", SOON, || {
        let children = server.children().into_iter();
        let mut waiting =
            children.filter(|child| processes::system_call(*child) == Some(nix::libc::SYS_poll));
        waiting.next()
    })
}

/// Nothing beyond the header's last byte is taken: the handler finds all that the client has sent.
///
/// It comes right behind the header, in the same packet and in more than a buffer has room for.
/// Fails if `receive_more` reads away all that it has seen.
fn d16_not_a_byte_after_the_header_is_lost(world: &mut World) {
    let server = trusting(world, &[]);
    let address = server.address();
    let mut body: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    body.retain(|byte| *byte != b'\n');
    body.push(b'\n');
    // It looks like another header, and is the client's.
    for start in [LINE, b"PROXY TCP4 203.0.113.1 203.0.113.2 1 2\r\n"] {
        for header in [LINE.to_vec(), with_notes(), block(0x20, 0, &[])] {
            let sent = [start, &body[..]].concat();
            let mut client = connect(&address);
            let mut answer = vec![0; sent.len()];
            client.write_all(&[&header[..], &sent].concat()).unwrap();
            client.read_exact(&mut answer).unwrap();
            assert!(answer == sent, "the answer differs");
        }
    }
    assert_eq!(refusals(&server), NONE_REFUSED);
}

fn a_client_without_an_address_has_that_of_the_proxy(world: &mut World) {
    let server = trusting(world, &[]);
    let address = server.address();
    for (header, is_local) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), false),
        (b"PROXY UNKNOWN ffff:f...f:ffff 65535\r\n".to_vec(), false),
        (block(0x21, 0x00, &[]), false),
        (block(0x20, 0x00, &[]), true),
        (block(0x20, 0x11, INET), true),
    ] {
        let mut client = send(&address, &header);
        let own = client.local_address();
        assert_eq!(client.ask("ends"), format!("{own} {address}"));
        let said = client.ask("proxied");
        let expected = format!("local={is_local} proxy={own} from=- to=-");
        assert!(said.contains(&expected), "{said}");
    }
    assert_eq!(refusals(&server), NONE_REFUSED);
}

fn notes_of_the_proxy_reach_the_handler(world: &mut World) {
    let server = trusting(world, &[]);
    let mut client = send(&server.address(), &with_notes());
    let proxy = client.local_address();
    let expected = format!(
        "v2 local=false proxy={proxy} from=192.0.2.1:258 to=198.51.100.2:443 \
         authority=example.org alpn=h2 id=id-1 tls=TLSv1.3 verified=false 0xEA=vpce-1"
    );
    assert_eq!(client.ask("proxied"), expected);
    drop(client);
    assert_eq!(refusals(&server), NONE_REFUSED);
}

fn an_object_finds_the_client_too(world: &mut World) {
    let server = trusting(world, &["--class"]);
    let mut client = send(&server.address(), &[&with_notes()[..], b"ends\n"].concat());
    assert_eq!(client.read_line(), LINE_ENDS);
    assert!(client.ask("proxied").contains("id=id-1"));
    drop(client);
    assert_eq!(refusals(&server), NONE_REFUSED);
}

fn a_unix_socket_has_proxies_too(world: &mut World) {
    let path = world.tempdir().join("socket");
    let path = path.to_str().unwrap();
    for more in [&["--class"][..], &[]] {
        let arguments = [&["--path", path, "--trust-unix-peers"][..], more].concat();
        let server = world.spawn("behind", &arguments);
        let address = server.address();
        for header in [LINE.to_vec(), with_notes()] {
            let mut client = send(&address, &[&header[..], b"proxied\n"].concat());
            let said = client.read_line();
            let expected = "proxy=- from=192.0.2.1:258 to=198.51.100.2:443";
            assert!(said.contains(expected), "{said}");
            if !more.is_empty() {
                assert_eq!(client.ask("ends"), LINE_ENDS);
            }
        }
        assert_eq!(refusals(&server), NONE_REFUSED);
    }
}

/// What they send is the handler's, even a header.
fn direct_clients_need_no_header(world: &mut World) {
    let arguments = ["--trust", "203.0.113.0/24", "--direct", "127.0.0.1"];
    let server = world.spawn("behind", &arguments);
    let address = server.address();
    let mut client = connect(&address);
    let own = client.local_address();
    assert_eq!(client.ask("ends"), format!("{own} {address}"));
    assert_eq!(client.ask("proxied"), "direct");
    drop(client);
    let mut client = send(&address, LINE);
    assert_eq!(
        client.read_line().as_bytes(),
        LINE.strip_suffix(b"\n").unwrap()
    );
    drop(client);
    assert_eq!(refusals(&server), NONE_REFUSED);
}

fn without_the_attribute_a_header_is_input(world: &mut World) {
    let server = world.spawn("behind", &["--off"]);
    let mut client = send(&server.address(), LINE);
    assert_eq!(
        client.read_line().as_bytes(),
        LINE.strip_suffix(b"\n").unwrap()
    );
    drop(client);
    assert_eq!(refusals(&server), NONE_REFUSED);
}

/// For several times as long as a silent child may live.
fn the_child_acks_while_it_waits_for_a_header(world: &mut World) {
    for path in [None, Some(world.tempdir().join("socket"))] {
        let path = path.as_ref().map(|path| path.to_str().unwrap());
        let mut arguments = vec!["--timeout", "1000", "--trust-unix-peers"];
        arguments.extend(path.iter().flat_map(|path| ["--path", path]));
        let server = trusting(world, &arguments);
        let address = server.address();
        let child = server.expect_children(1)[0];
        let mut client = send(&address, &LINE[..9]);
        holds("the child lives", Duration::from_secs(4), || {
            server.children() == [child]
        });
        client.write_all(&LINE[9..]).unwrap();
        assert_eq!(client.ask("pid"), child.to_string());
        drop(client);
        assert_eq!(refusals(&server), NONE_REFUSED);
    }
}

/// It was accepted, so it is served like any connection in hand: if the header comes.
fn a_child_that_waits_for_a_header_leaves_in_time(world: &mut World) {
    let server = trusting(world, &["--header-timeout", "4000"]);
    let address = server.address();
    let silent = connect(&address);
    busy_child(&server);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    drop(silent);
    let server = trusting(world, &[]);
    let mut client = connect(&server.address());
    busy_child(&server);
    server.signal(Signal::SIGTERM);
    client.write_all(LINE).unwrap();
    assert_eq!(client.ask("ends"), LINE_ENDS);
    drop(client);
    assert!(server.wait(SOON).success());
}
