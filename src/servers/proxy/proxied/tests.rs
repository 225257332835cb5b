//! Headers as proxies send them, written out byte by byte, and headers that are almost right.

use super::*;

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

fn read(header: &[u8]) -> Result<Proxied, Malformed> {
    Proxied::read(header, address("127.0.0.1:7"))
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, rest].concat()
}

/// 192.0.2.1:258 to 198.51.100.2:443.
const INET: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 1, 187];

fn note(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, 0, value.len() as u8], value].concat()
}

#[test]
fn a_line_names_both_ends() {
    let proxied = read(b"PROXY TCP4 192.0.2.1 198.51.100.2 258 443\r\n").unwrap();
    assert_eq!(proxied.source(), address("192.0.2.1:258"));
    assert_eq!(proxied.destination(), address("198.51.100.2:443"));
    assert_eq!(proxied.proxy_addr(), address("127.0.0.1:7"));
    assert_eq!(proxied.version(), 1);
    assert!(!proxied.is_local());
    let proxied = read(b"PROXY TCP6 2001:db8::1 ::ffff:10.0.0.1 1 2\r\n").unwrap();
    assert_eq!(proxied.source(), address("[2001:db8::1]:1"));
    // An IPv4 address as it is everywhere else.
    assert_eq!(proxied.destination(), address("10.0.0.1:2"));
    let proxied = read(b"PROXY UNKNOWN\r\n").unwrap();
    assert_eq!((proxied.source(), proxied.destination()), (None, None));
}

#[test]
fn a_line_that_is_almost_right_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 258 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 258 +443\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 258 443\r\n",
        "PROXY TCP4 ::1 ::2 258 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 258 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 258 443\r\nmore",
        "PROXY UNKNOWNS\r\n",
    ] {
        assert_eq!(read(line.as_bytes()), Err(Malformed), "{line:?}");
    }
}

#[test]
fn a_block_names_both_ends() {
    let proxied = read(&v2(0x21, 0x11, INET)).unwrap();
    assert_eq!(proxied.source(), address("192.0.2.1:258"));
    assert_eq!(proxied.destination(), address("198.51.100.2:443"));
    assert_eq!(proxied.version(), 2);
    let mut inet6 = [0; 36];
    inet6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    inet6[15] = 1;
    inet6[31] = 2;
    inet6[33] = 9;
    let proxied = read(&v2(0x21, 0x21, &inet6)).unwrap();
    assert_eq!(proxied.source(), address("[2001:db8::1]:9"));
    assert_eq!(proxied.destination(), address("[::2]:0"));
}

/// Its addresses are paths, which nothing here needs.
#[test]
fn a_client_of_a_unix_socket_has_no_address() {
    let proxied = read(&v2(0x21, 0x31, &[b'/'; 216])).unwrap();
    assert_eq!((proxied.source(), proxied.is_local()), (None, false));
    assert_eq!(read(&v2(0x21, 0x31, &[b'/'; 215])), Err(Malformed));
}

#[test]
fn what_a_proxy_says_for_itself_is_no_clients() {
    for rest in [&[][..], INET, b"garbage"] {
        for family in [0x00, 0x11, 0x31, 0x77] {
            let proxied = read(&v2(0x20, family, rest)).unwrap();
            assert!(proxied.is_local());
            assert_eq!(proxied.source(), None);
        }
    }
}

#[test]
fn notes_are_found() {
    let tls = [
        &[0x07, 0, 0, 0, 0][..],
        &note(0x21, b"TLSv1.3"),
        &note(0x22, b"alice"),
        &note(0x23, b"AES"),
    ];
    let notes = [
        note(0x01, b"h2"),
        note(0x02, b"example.org"),
        note(0x04, &[0; 9]),
        note(0x05, b"id-1"),
        note(0x20, &tls.concat()),
        note(0x30, b"blue"),
        note(0xEA, b"vpce-1"),
    ];
    let proxied = read(&v2(0x21, 0x11, &[INET, &notes.concat()].concat())).unwrap();
    assert_eq!(proxied.alpn(), Some(&b"h2"[..]));
    assert_eq!(proxied.authority(), Some("example.org"));
    assert_eq!(proxied.unique_id(), Some(&b"id-1"[..]));
    assert_eq!(proxied.netns(), Some("blue"));
    assert_eq!(proxied.tlv(0xEA), Some(&b"vpce-1"[..]));
    assert_eq!(proxied.tlv(0xEB), None);
    let tls = proxied.tls().unwrap();
    assert_eq!(tls.version.as_deref(), Some("TLSv1.3"));
    assert_eq!(tls.cipher.as_deref(), Some("AES"));
    assert_eq!(tls.common_name.as_deref(), Some("alice"));
    assert!(tls.has_certificate && tls.is_verified);
}

/// A verified client must have shown something to verify; without TLS there is nothing to tell.
#[test]
fn a_client_is_verified_only_by_a_certificate() {
    let tls = |flags, verify| {
        let note = note(0x20, &[flags, 0, 0, 0, verify]);
        read(&v2(0x21, 0x11, &[INET, &note].concat()))
            .unwrap()
            .tls()
    };
    let verified = |flags, verify| tls(flags, verify).map(|tls| tls.is_verified);
    assert_eq!(verified(0x01, 0), Some(false));
    assert_eq!(verified(0x05, 0), Some(true));
    assert_eq!(verified(0x03, 0), Some(true));
    assert_eq!(verified(0x05, 1), Some(false));
    assert_eq!(verified(0x06, 0), None);
}

#[test]
fn a_block_that_is_almost_right_is_refused() {
    let with = |notes: &[u8]| v2(0x21, 0x11, &[INET, notes].concat());
    let bad_tls = note(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9]);
    for header in [
        v2(0x21, 0x11, &INET[1..]),
        v2(0x21, 0x21, INET),
        v2(0x21, 0x13, INET),
        v2(0x21, 0x41, INET),
        with(&[0x05, 0]),
        with(&[0x05, 0, 2, 1]),
        with(&note(0x02, &[0xff])),
        with(&note(0x03, &[1, 2, 3])),
        // A checksum that is not right.
        with(&note(0x03, &[1, 2, 3, 4])),
        with(&note(0x20, &[1, 0, 0, 0])),
        with(&bad_tls),
    ] {
        assert_eq!(read(&header), Err(Malformed), "{header:x?}");
    }
}
