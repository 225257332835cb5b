//! Requests and answers without a connection.

use super::*;

/// A client that has sent everything, and the answer that it gets.
struct Client<'a>(&'a [u8], Vec<u8>);

impl Read for Client<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The codes that a client gets; a request itself is answered with 200 and its path.
fn codes(sent: &[u8]) -> String {
    let mut client = Client(sent, Vec::new());
    let mut requests = Requests::new(&mut client);
    while let Some(request) = requests.next_request().unwrap() {
        let answer = Answer::new(OK, format!("{}\n", request.path));
        requests.answer(&request, &answer, true).unwrap();
        if !request.keep_alive {
            break;
        }
    }
    let told = String::from_utf8(client.1).unwrap();
    let status = told
        .lines()
        .filter_map(|line| line.strip_prefix("HTTP/1.1 "));
    let codes: Vec<_> = status.map(|status| &status[..3]).collect();
    codes.join(" ")
}

/// What may follow a head in the same packet, and must not be answered where that was refused.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn every_head_gets_the_answers_it_is_due() {
    // Each with another request behind it.
    for (head, expected) in [
        ("GET / HTTP/1.1\nHost: x\n\n", "200 200"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "200 200"),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "200 200"),
        ("GET / HTTP/1.0\r\n\r\n", "200"),
        (
            "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
            "200 200",
        ),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
            "200",
        ),
        // Hosts.
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\nHost: x\r\nhost: y\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x, y\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: me@x\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", "400"),
        // Targets.
        ("GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", "200 200"),
        ("GET http://x HTTP/1.1\r\n\r\n", "400"),
        ("GET x HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET http:///y HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("GET http://me@x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "200 200"),
        // Others.
        (
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400",
        ),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", "400"),
        ("GET /\r\n\r\n", "400"),
    ] {
        let sent = format!("{head}{NEXT}");
        assert_eq!(codes(sent.as_bytes()), expected, "{head:?}");
    }
}

#[test]
fn every_field_gets_the_answers_it_is_due() {
    // The fields, what follows the head, and the codes with another request behind that.
    for (fields, body, expected) in [
        ("Content-Length: 0", "", "200 200"),
        ("Content-Length: 007", "1234567", "200 200"),
        ("Content-Length: 5\r\nContent-Length: 5", "12345", "400"),
        ("Content-Length: 0\r\ncontent-length: 5", "12345", "400"),
        ("Content-Length: 5, 5", "12345", "400"),
        ("Content-Length: 5 5", "12345", "400"),
        ("Content-Length: +5", "12345", "400"),
        ("Content-Length: -5", "", "400"),
        ("Content-Length: 0x5", "12345", "400"),
        ("Content-Length: \u{665}", "12345", "400"),
        ("Content-Length:", "", "400"),
        ("Content-Length: 18446744073709551616", "", "400"),
        // More than is read for the sake of the next request.
        ("Content-Length: 9999999", "", "200"),
        ("Transfer-Encoding: Chunked", "0\r\n\r\n", "200"),
        (
            "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
            "400",
        ),
        ("Transfer-Encoding: , chunked", "0\r\n\r\n", "400"),
        ("Transfer-Encoding:", "", "400"),
        ("Transfer-Encoding: identity", "", "400"),
        ("Transfer-Encoding: xchunked", "0\r\n\r\n", "400"),
        ("Transfer-Encoding: chunked, chunked", "0\r\n\r\n", "400"),
        ("Transfer-Encoding: chunked, gzip", "", "400"),
        ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n", "501"),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
            "400",
        ),
        ("Content-Length: 0\r\nTransfer-Encoding:", "", "400"),
        ("Connection: close, x", "", "200"),
        ("Connection: x ,\tCLOSE", "", "200"),
        ("Connection: keep-alive\r\nConnection: close", "", "200"),
        ("Connection: closed", "", "200 200"),
        // There is nothing to wait for.
        ("Expect: 100-continue", "", "200 200"),
        (
            "Expect: 100-continue\r\nContent-Length: 5",
            "12345",
            "200 200",
        ),
        ("Expect: tea", "", "417"),
        ("X: 1\r\n 2", "", "400"),
        ("X", "", "400"),
        ("X: \u{e9}", "", "200 200"),
    ] {
        let sent = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n{body}{NEXT}");
        assert_eq!(codes(sent.as_bytes()), expected, "{fields:?}");
    }
}

#[test]
fn field_that_is_no_text_is_refused() {
    for name in ["X", "Connection", "Content-Length", "Transfer-Encoding"] {
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{name}: ");
        let sent = [head.as_bytes(), b"\xff\r\n\r\n", NEXT.as_bytes()].concat();
        assert_eq!(codes(&sent), "400", "{name}");
    }
}

#[test]
fn client_that_waits_with_its_body_is_told_to_go_on() {
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: ";
    // Its body has not come yet.
    assert_eq!(codes(format!("{head}5\r\n\r\n").as_bytes()), "100 200");
    // A body that nobody reads is not asked for.
    assert_eq!(codes(format!("{head}9999999\r\n\r\n").as_bytes()), "200");
    // In HTTP/1.0 an interim answer would be taken for the answer.
    let old = head.replace("1.1", "1.0");
    assert_eq!(codes(format!("{old}5\r\n\r\n").as_bytes()), "200");
}

#[test]
fn path_is_found_in_every_form_of_a_target() {
    for (target, expected) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a?b=/c", "/a"),
        ("/?b", "/"),
        ("http://x", "/"),
        ("http://x?b", "/"),
        ("HTTP://x:80/a?b", "/a"),
        ("https://[::1]/a", "/a"),
        ("//x/a", "//x/a"),
    ] {
        assert_eq!(path("GET", target), Ok(expected), "{target}");
    }
    assert_eq!(path("CONNECT", "x:80"), Ok("x:80"));
}

#[test]
fn head_is_limited_and_complete() {
    let fields = "X: y\r\n".repeat(MOST_FIELDS);
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    assert_eq!(codes(many.as_bytes()), "431");
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(2 * LONGEST_HEAD));
    assert_eq!(codes(long.as_bytes()), "431");
    assert_eq!(codes(b"GET / HT"), "400");
    assert_eq!(codes(b""), "");
}
