//! The limits of input and output: what exceeds them is an error, and nothing grows.

use super::rig::Rig;
use crate::servers::conn::{BlockFilter, Limit, Session};
use std::io;

#[test]
fn a_record_longer_than_the_input_limit_is_an_error_that_names_it() {
    for pieces in [&[&b"12345678\n"[..]][..], &[b"1234", b"56789"]] {
        let mut rig = Rig::new().on("start", |session| session.set_input_limit(8));
        for piece in pieces {
            rig.receive(piece);
        }
        rig.expect(&["start", "error read -", "shutdown", "stop"]);
        assert!(rig.session.got_error());
    }
    let mut fits = Rig::new().on("start", |session| session.set_input_limit(8));
    fits.receive(b"1234567")
        .receive(b"\n")
        .expect(&["start", "input 1234567"]);
    let error = io::Error::from(Limit::Input(8));
    assert_eq!(
        error.to_string(),
        "a record exceeds the input limit of 8 bytes"
    );
}

#[test]
fn after_an_input_error_the_handler_may_go_on_with_another_filter() {
    let mut rig = Rig::new().without_super("error").on("start", |session| {
        session.set_input_limit(4);
    });
    rig.class.acts.push((
        "error",
        Box::new(|session: &mut Session| {
            assert_eq!(session.pending_input(), b"12345");
            session.set_filter(BlockFilter::new(2));
        }),
    ));
    rig.receive(b"12345")
        .expect(&["start", "error read -", "input 12", "input 34"]);

    let mut skips = Rig::new().without_super("error").on("start", |session| {
        session.set_input_limit(4);
    });
    skips.class.acts.push((
        "error",
        Box::new(|session: &mut Session| assert_eq!(session.take_input(), b"12345")),
    ));
    skips
        .receive(b"12345")
        .receive(b"a\n")
        .expect(&["start", "error read -", "input a"]);
}

#[test]
fn an_input_error_that_nobody_heeds_is_told_once_and_ends_the_connection() {
    let mut rig = Rig::new().without_super("error").on("start", |session| {
        session.set_input_limit(4);
        session.put("hello");
    });
    rig.receive(b"12345").expect(&["start", "error read -"]);
    assert!(!rig.session.wants_read(), "nothing grows");
    rig.write(99).expect(&["flush", "stop"]);
}

#[test]
fn output_beyond_the_limit_is_an_error_and_the_end() {
    for handler in ["", "error"] {
        let mut rig = Rig::new().without_super(handler).on("input", |session| {
            session.set_output_limit(10);
            for _ in 0..100 {
                session.put("12345678");
            }
        });
        rig.receive(b"a\nb\n");
        let expected: &[&str] = if handler.is_empty() {
            &["start", "input a", "error write -", "shutdown", "stop"]
        } else {
            &["start", "input a", "error write -", "stop"]
        };
        rig.expect(expected);
        assert_eq!(rig.session.pending_output(), 9, "nothing grows");
    }
    let error = io::Error::from(Limit::Output(10));
    assert_eq!(
        error.to_string(),
        "what waits for the client exceeds the output limit of 10 bytes"
    );
    let limit = error.get_ref().and_then(|inner| inner.downcast_ref());
    assert_eq!(limit, Some(&Limit::Output(10)));
}

#[test]
fn posted_output_is_limited_as_well() {
    let mut rig = Rig::new().on("start", |session| {
        session.set_output_limit(10);
        for _ in 0..100 {
            session.post_put("12345678");
        }
        assert_eq!(session.pending_output(), 8);
    });
    rig.turn();
    assert_eq!(
        rig.class.calls[1..],
        ["put 12345678", "error write -", "shutdown", "stop"]
    );
}

#[test]
fn output_that_was_written_counts_no_more() {
    let mut rig = Rig::new().on("start", |session| session.set_output_limit(10));
    rig.turn().expect(&["start"]);
    for _ in 0..50 {
        rig.session.put("123456789");
        rig.write(7);
        rig.write(99);
    }
    assert!(rig.session.is_connected());
    assert_eq!(rig.wire.len(), 500);
}

/// Input that arrives during a shutdown is discarded up to a bound; the rest of the output is still
/// written.
#[test]
fn a_flood_in_a_shutdown_is_bounded() {
    let mut rig = Rig::new().on("input", |session| {
        session.put("answer");
        session.shutdown();
    });
    rig.receive(b"a\n")
        .expect(&["start", "input a", "shutdown"]);
    let (chunk, mut read) = ([b'x'; 65536], 0);
    while rig.session.wants_read() {
        rig.receive(&chunk);
        read += chunk.len() as u64;
        assert!(read <= Session::DROPPED, "{read} bytes");
    }
    assert_eq!(read, Session::DROPPED);
    assert!(rig.session.pending_input().is_empty());
    rig.write(99).expect(&["flush", "stop"]);
    assert_eq!(rig.wire(), "answer\\n");
}
