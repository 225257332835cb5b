//! Requests and answers without a connection: whole, in pieces, and wrong.

use super::*;
use proptest::prelude::*;

/// All that is found in a stream that comes at once.
fn verdicts(stream: &[u8]) -> Vec<Parsed> {
    let mut requests = HttpRequests::default();
    requests.feed(stream);
    all(&mut requests)
}

fn all(requests: &mut HttpRequests) -> Vec<Parsed> {
    let mut found = Vec::new();
    loop {
        let verdict = requests.next();
        match verdict {
            Parsed::More => return found,
            Parsed::Request(_) => found.push(verdict),
            Parsed::Refuse(_) => {
                found.push(verdict);
                return found;
            }
        }
    }
}

fn request(stream: &str) -> HttpRequest {
    match &verdicts(stream.as_bytes())[..] {
        [Parsed::Request(request)] => request.clone(),
        other => panic!("{other:?} in {stream:?}"),
    }
}

fn refusal(stream: &str) -> StatusCode {
    match verdicts(stream.as_bytes()).pop() {
        Some(Parsed::Refuse(status)) => status,
        other => panic!("{other:?} in {stream:?}"),
    }
}

#[test]
fn a_request_is_taken_apart() {
    let found = request("GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\n\r\n");
    assert_eq!((&*found.path, &*found.accept), ("/metrics", "text/plain"));
    assert!(found.keeps && !found.is_head);
    assert!(!request("GET / HTTP/1.0\r\n\r\n").keeps);
    assert!(request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keeps);
    assert!(!request("HEAD / HTTP/1.1\r\nHost: a\r\nconnection: x, Close\r\n\r\n").keeps);
    assert!(
        request("HEAD / HTTP/1.1\nHost: a\n\n").is_head,
        "as curl's users type it"
    );
    for (target, path) in [
        ("http://a/ready", "/ready"),
        ("http://a", "/"),
        ("/x://y", "/x://y"),
        ("*", "*"),
    ] {
        assert_eq!(
            request(&format!("GET {target} HTTP/1.0\r\n\r\n")).path,
            path
        );
    }
}

#[test]
fn what_is_wrong_is_refused_with_the_right_status() {
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n",
        "x".repeat(LONGEST_HEAD)
    );
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(65));
    for (stream, status) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
            StatusCode::MethodNotAllowed,
        ),
        ("GET / HTTP/1.1\r\n\r\n", StatusCode::BadRequest),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            StatusCode::BadRequest,
        ),
        ("GET / HTTP/2.0\r\n\r\n", StatusCode::VersionNotSupported),
        ("GET /\r\n\r\n", StatusCode::BadRequest),
        ("\u{16}\u{3}\u{1} TLS", StatusCode::BadRequest),
        ("GET / HTTP/1.0\r\nA b: c\r\n\r\n", StatusCode::BadRequest),
        (
            "GET / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
            StatusCode::ContentTooLarge,
        ),
        (
            "GET / HTTP/1.0\r\nContent-Length: -5\r\n\r\n",
            StatusCode::BadRequest,
        ),
        (
            "GET / HTTP/1.0\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
            StatusCode::BadRequest,
        ),
        (
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            StatusCode::ContentTooLarge,
        ),
        (&long, StatusCode::FieldsTooLarge),
        (&many, StatusCode::FieldsTooLarge),
        (&"\r\n".repeat(LONGEST_HEAD), StatusCode::FieldsTooLarge),
    ] {
        assert_eq!(refusal(stream), status, "{stream:?}");
    }
}

#[test]
fn a_head_has_the_length_of_the_body() {
    let answer = Response::text(StatusCode::Ok, "ready");
    let head = String::from_utf8(answer.head(true)).unwrap();
    assert_eq!(&*answer.body, "ready\n");
    assert!(head.contains("Content-Length: 6\r\n") && head.ends_with("\r\n\r\n"));
    let refused = Response::of(StatusCode::MethodNotAllowed);
    let head = String::from_utf8(refused.head(false)).unwrap();
    assert!(head.ends_with("\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n"));
    assert_eq!(&*refused.body, "Method Not Allowed\n");
}

#[test]
fn only_a_name_that_nobody_else_can_give_is_taken_on_the_own_machine() {
    let own = Hosts::Own("status.example".into());
    for (host, taken) in [
        ("localhost", true),
        ("LOCALHOST:9100", true),
        ("Status.Example:9100", true),
        ("127.0.0.1", true),
        ("192.0.2.1:80", true),
        ("[::1]:9100", true),
        ("", false),
        ("evil.example", false),
        ("localhost.evil.example", false),
        ("127.0.0.1.evil.example:9100", false),
        ("[evil.example]", false),
    ] {
        assert_eq!(own.take(host), taken, "{host:?}");
        assert!(Hosts::Any.take(host));
        let mut requests = HttpRequests::of(own.clone());
        requests.feed(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        let refused = Parsed::Refuse(StatusCode::MisdirectedRequest);
        assert_eq!(requests.next() != refused, taken, "{host:?}");
    }
    // No browser asks so.
    let mut requests = HttpRequests::of(own);
    requests.feed(b"GET / HTTP/1.0\r\n\r\n");
    assert!(matches!(requests.next(), Parsed::Request(_)));
}

proptest! {
    /// However a stream is cut, the same requests are found in it.
    #[test]
    fn pieces_make_no_difference(
        requests in prop::collection::vec(0..4_usize, 0..6),
        cuts in prop::collection::vec(1..40_usize, 0..40),
    ) {
        const ONES: [&str; 4] = [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD /ready HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "\r\nGET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ];
        let stream: String = requests.iter().map(|at| ONES[*at]).collect();
        let whole = verdicts(stream.as_bytes());
        let (mut reader, mut found, mut rest) = (HttpRequests::default(), Vec::new(), stream.as_bytes());
        for cut in cuts.into_iter().chain([stream.len()]) {
            let (piece, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            if !matches!(found.last(), Some(Parsed::Refuse(_))) {
                reader.feed(piece);
                found.extend(all(&mut reader));
            }
        }
        prop_assert_eq!(found, whole);
    }

    /// Any bytes: no panic, and no more kept than the bound and what was fed last.
    #[test]
    fn any_bytes_are_bounded(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 0..12)) {
        let mut requests = HttpRequests::default();
        for piece in pieces {
            requests.feed(&piece);
            if let Some(Parsed::Refuse(_)) = all(&mut requests).last() {
                break;
            }
            prop_assert!(requests.bytes.len() < LONGEST_HEAD + 3_000);
        }
    }
}
