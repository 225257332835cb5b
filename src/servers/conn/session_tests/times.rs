//! Times: a child that stops, clients that are idle, and the bound for the whole connection.

use super::rig::Rig;
use crate::core::time::Time;
use std::time::Duration;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The object is told once that the child stops, after all input has been delivered.
#[test]
fn a_stop_is_told_once_after_what_has_arrived() {
    let mut rig = Rig::new();
    rig.receive(b"a\n").expect(&["start", "input a"]);
    rig.stopping = true;
    rig.receive(b"b\nc\nhalf")
        .expect(&["input b", "input c", "stopping"]);
    assert!(rig.session.shutdown_requested());
    // The default lets the client continue.
    rig.receive(b"\n").expect(&["input half"]);
    assert!(rig.session.is_connected());
}

/// The last line of an object is written before the connection ends.
#[test]
fn an_object_says_goodbye_to_an_idle_client() {
    let mut rig = Rig::new().on("stopping", |session| {
        session.put("421 closing");
        session.shutdown();
    });
    rig.receive(b"a\n").expect(&["start", "input a"]);
    rig.stopping = true;
    rig.turn().expect(&["stopping", "shutdown"]);
    rig.write(99).expect(&["flush", "stop"]);
    assert_eq!(rig.wire(), "421 closing\\n");
}

/// A client that has sent nothing yet has 50 ms from its start.
#[test]
fn a_first_request_that_is_under_way_is_waited_for() {
    let mut rig = Rig::new();
    rig.stopping = true;
    rig.turn().expect(&["start"]);
    assert_eq!(rig.session.next_alarm(), Some(Time::at(at(50))));
    rig.now = at(49);
    rig.turn().expect(&[]);
    rig.now = at(50);
    rig.turn().expect(&["stopping"]);
    assert_eq!(rig.session.next_alarm(), None);

    let mut rig = Rig::new();
    rig.stopping = true;
    rig.turn().expect(&["start"]);
    rig.receive(b"a\n").expect(&["input a", "stopping"]);
}

/// Idle time counts from the last byte, and not while a handler works. Each idle period is reported
/// once.
#[test]
fn an_idle_client_is_told_of() {
    let mut rig = Rig::new().without_super("error").on("start", |session| {
        session.set_idle_timeout(Some(at(1000)));
        assert_eq!(session.idle_timeout(), Some(at(1000)));
    });
    rig.turn().expect(&["start"]);
    rig.now = at(5);
    rig.turn().expect(&[]);
    assert_eq!(rig.session.next_alarm(), Some(Time::at(at(1005))));
    rig.now = at(900);
    rig.receive(b"a\n").expect(&["input a"]);
    // That took three seconds.
    rig.now = at(3900);
    rig.turn().expect(&[]);
    rig.now = at(4899);
    rig.turn().expect(&[]);
    rig.now = at(4900);
    rig.turn().expect(&["error read -"]);
    rig.now = at(9000);
    rig.turn().expect(&[]);
    rig.receive(b"b\n").expect(&["input b"]);
    rig.turn().expect(&[]);
    rig.now = at(10_000);
    rig.turn().expect(&["error read -"]);
}

/// The default disconnects an idle client.
#[test]
fn an_idle_client_is_disconnected_by_default() {
    let mut rig = Rig::new().on("start", |session| {
        session.set_idle_timeout(Some(at(1000)));
        session.put("never read");
    });
    rig.turn().turn().expect(&["start"]);
    rig.now = at(1000);
    rig.turn().expect(&["error read -", "shutdown", "stop"]);
}

/// The bound for the whole connection holds whatever the client does, and whatever the handler does.
#[test]
fn a_connection_has_no_more_than_its_deadline() {
    let mut rig = Rig::new()
        .on("start", |session| session.set_deadline(Some(at(1000))))
        .on("error", |session| session.put("too late"))
        .without_super("error");
    rig.turn().expect(&["start"]);
    for _ in 0..9 {
        rig.now += at(100);
        rig.receive(b"a\n").expect(&["input a"]);
    }
    assert_eq!(rig.session.next_alarm(), Some(Time::at(at(1000))));
    assert!(!rig.session.is_late());
    rig.now += at(100);
    rig.turn().expect(&["error read -"]);
    assert!(rig.session.is_late(), "to be disconnected after a write");
    assert_eq!(rig.session.output(), b"too late\n");
}
