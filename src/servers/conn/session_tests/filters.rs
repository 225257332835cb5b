//! Filters that fail, and filters that are exchanged in mid-stream.

use super::rig::Rig;
use crate::servers::conn::{BlockFilter, Filter, Input, LineFilter, Record};
use std::io;

/// Refuses everything.
struct Refusing;

impl Filter for Refusing {
    fn next(&mut self, _: &Input<'_>) -> io::Result<Option<Record>> {
        Err(io::Error::other("I take nothing"))
    }
    fn put(&mut self, record: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        output.extend_from_slice(&record[..1]);
        Err(io::Error::other("I give nothing"))
    }
}

#[test]
fn a_filter_that_fails_is_told_to_the_handler() {
    let mut rig = Rig::new().on("start", |session| session.set_filter(Refusing));
    rig.receive(b"a")
        .expect(&["start", "error read -", "shutdown", "stop"]);

    let mut rig = Rig::new().on("start", |session| {
        session.set_filter(Refusing);
        session.put("abc");
        assert_eq!(session.pending_output(), 0, "nothing of it is sent");
    });
    rig.turn()
        .expect(&["start", "error write -", "shutdown", "stop"]);
}

#[test]
fn a_write_error_stops_writing() {
    let mut rig = Rig::new()
        .on("start", |session| session.set_shutdown_on_error(false))
        .on("input", |session| session.put("answer"));
    rig.receive(b"a\n");
    rig.session.write_failed(io::Error::from_raw_os_error(32));
    rig.receive(b"b\n")
        .expect(&["start", "input a", "error write 32", "input b"]);
    assert_eq!(rig.session.pending_output(), 0);
}

#[test]
fn a_filter_set_in_mid_stream_sees_what_has_arrived_and_changes_nothing_that_was_put() {
    let mut rig = Rig::new()
        .on("input block", |session| {
            session.put("before");
            session.set_filter(BlockFilter::new(3));
            session.put("after");
        })
        .on("input 456", |session| {
            session.set_filter(LineFilter::crlf())
        });
    rig.receive(b"block\n123456x\r\ny\r\n").expect(&[
        "start",
        "input block",
        "input 123",
        "input 456",
        "input x",
        "input y",
    ]);
    rig.write(99);
    assert_eq!(rig.wire(), "before\\nafter");
}
