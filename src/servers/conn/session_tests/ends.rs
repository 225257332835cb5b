//! The order of calls, from the start to the stop, and what a shutdown waits for.

use super::rig::{Act, Rig};
use crate::{
    core::error::Operation,
    servers::conn::{ConnClass, Session, defaults},
};
use std::{io, time::Duration};

const END: &str = "error read 0";

#[test]
fn start_is_first_and_stop_is_last_and_once() {
    let mut rig = Rig::new();
    rig.receive(b"a\nb\n")
        .expect(&["start", "input a", "input b"]);
    rig.end_input().expect(&[END, "shutdown", "stop"]);
    rig.turn().receive(b"c\n").expect(&[]);
}

#[test]
fn nothing_is_called_after_a_disconnect_but_stop() {
    let mut rig = Rig::new().on("input a", |session| {
        session.put("lost");
        session.post("lost");
        session.disconnect();
        session.post_put("lost");
        session.shutdown();
    });
    rig.receive(b"a\nb\n").expect(&["start", "input a", "stop"]);
    assert!(!rig.session.is_connected());
    rig.session.put("nowhere");
    assert_eq!(rig.session.pending_output(), 5, "only what was put before");
}

#[test]
fn shutdown_with_nothing_to_write_disconnects_at_once() {
    let mut rig = Rig::new().on("input", Session::shutdown);
    rig.receive(b"a\nb\n")
        .expect(&["start", "input a", "shutdown", "stop"]);
}

#[test]
fn shutdown_with_output_waits_for_the_flush() {
    let mut rig = Rig::new().on("input", |session| {
        session.put("bye");
        session.shutdown();
        assert!(!session.is_shutdown(), "it is posted");
    });
    rig.receive(b"a\nb\n")
        .expect(&["start", "input a", "shutdown"]);
    assert!(rig.session.is_shutdown() && rig.session.is_connected());
    rig.receive(b"c\n").expect(&[]);
    rig.write(2).expect(&[]);
    rig.end_input().expect(&[]);
    rig.write(9).expect(&["flush", "stop"]);
    assert_eq!(rig.wire(), "bye\\n");
}

#[test]
fn shutdown_after_an_error_drops_the_output() {
    let mut rig = Rig::new().on("input", |session| session.put("lost"));
    rig.receive(b"a\n").expect(&["start", "input a"]);
    rig.session.read_failed(io::Error::from_raw_os_error(104));
    rig.turn().expect(&["error read 104", "shutdown", "stop"]);
    assert!(rig.session.got_error());
}

#[test]
fn what_was_put_before_the_end_of_input_is_flushed() {
    let mut rig = Rig::new().on("input", |session| session.put("answer"));
    rig.session.received(b"a\nb");
    rig.session.input_ended();
    rig.turn().expect(&["start", "input a", END, "shutdown"]);
    assert!(!rig.session.got_error(), "the end of input is no error");
    assert_eq!(rig.session.pending_input(), b"b", "half a line can be seen");
    rig.write(99).expect(&["flush", "stop"]);
    assert_eq!(rig.wire(), "answer\\n");
}

#[test]
fn records_come_before_the_error_that_came_after_them() {
    let mut rig = Rig::new();
    rig.session.received(b"a\nb\n");
    rig.session.read_failed(io::Error::from_raw_os_error(104));
    rig.turn().expect(&[
        "start",
        "input a",
        "input b",
        "error read 104",
        "shutdown",
        "stop",
    ]);
}

#[test]
fn an_aborted_accept_does_not_shut_down() {
    let mut rig = Rig::new();
    let aborted = io::Error::from(io::ErrorKind::ConnectionAborted);
    defaults::handler_error(
        &mut rig.class,
        &mut rig.session,
        Operation::Accept,
        &aborted,
    );
    rig.turn().expect(&["start"]);
    assert!(!rig.session.got_error());
    let other = io::Error::from_raw_os_error(24);
    defaults::handler_error(&mut rig.class, &mut rig.session, Operation::Accept, &other);
    rig.turn().expect(&["shutdown", "stop"]);
}

#[test]
fn without_shutdown_on_error_an_error_changes_nothing() {
    let mut rig = Rig::new().on("start", |session| {
        session.set_shutdown_on_error(false);
        assert!(!session.shutdown_on_error());
    });
    rig.turn();
    let error = io::Error::from_raw_os_error(5);
    rig.class
        .handler_error(&mut rig.session, Operation::Write, &error);
    rig.receive(b"a\n")
        .expect(&["start", "error write 5", "input a"]);
    assert!(!rig.session.got_error() && !rig.session.is_shutdown());
}

#[test]
fn a_connection_to_which_nothing_can_happen_ends() {
    let mut rig = Rig::new()
        .on("start", |session| session.set_shutdown_on_error(false))
        .on("input", |session| session.put("answer"));
    rig.receive(b"a\n")
        .end_input()
        .expect(&["start", "input a", END]);
    rig.write(99).expect(&["flush", "stop"]);

    let mut rig = Rig::new().without_super("flush").on("input", |session| {
        session.put("bye");
        session.shutdown();
    });
    rig.receive(b"a\n")
        .write(99)
        .expect(&["start", "input a", "shutdown", "flush", "stop"]);

    let mut rig = Rig::new().without_super("error").on("start", |session| {
        session.delay_set("late", Duration::from_secs(1));
    });
    rig.turn().end_input().expect(&["start", END]);
    rig.now = Duration::from_secs(1);
    rig.turn().expect(&["state late", "stop"]);
}

#[test]
fn an_override_without_super_keeps_a_shutdown_from_happening() {
    let mut rig = Rig::new()
        .without_super("shutdown")
        .on("input a", Session::shutdown);
    rig.receive(b"a\nb\n")
        .expect(&["start", "input a", "shutdown", "input b"]);
}

#[test]
fn flush_comes_each_time_that_everything_has_been_written() {
    let mut rig = Rig::new().on("input", |session| session.put("ok"));
    rig.receive(b"a\n").write(1).expect(&["start", "input a"]);
    rig.receive(b"b\n").write(3).expect(&["input b"]);
    rig.write(99).expect(&["flush"]);
    rig.receive(b"c\n").write(99).expect(&["input c", "flush"]);
    assert_eq!(rig.wire(), "ok\\nok\\nok\\n");
}

#[test]
fn flush_does_not_end_a_shutdown_when_more_was_put() {
    let mut rig = Rig::new().on("input", |session| {
        session.put("one");
        session.shutdown();
    });
    rig.receive(b"a\n");
    rig.session.post_put("two");
    rig.write(99)
        .expect(&["start", "input a", "shutdown", "put two", "flush"]);
    rig.write(99).expect(&["flush", "stop"]);
    assert_eq!(rig.wire(), "one\\ntwo\\n");
}

/// A shutdown that is posted by a handler with much output finds that output unwritten, and the
/// flush ends the connection, as it does with little output.
#[test]
fn a_shutdown_is_followed_by_the_flush_whatever_the_size() {
    for size in [5, 500_000] {
        let mut rig = Rig::new().on("input", move |session| {
            session.put("x".repeat(size));
            session.shutdown();
        });
        rig.takes = Some(16 * 1024);
        rig.receive(b"a\n").write(size + 1);
        rig.expect(&["start", "input a", "shutdown", "flush", "stop"]);
        assert_eq!(rig.wire.len(), size + 1);
    }
}

/// Also where the shutdown is posted before the put, by a posted put, and by a state.
#[test]
fn a_shutdown_waits_for_the_flush_however_it_is_posted() {
    let big = || "x".repeat(500_000);
    let acts: [(&'static str, Act); 3] = [
        (
            "input",
            Box::new(move |session| {
                session.shutdown();
                session.put(big());
            }),
        ),
        (
            "input",
            Box::new(move |session| {
                session.post_put(big());
                session.shutdown();
            }),
        ),
        (
            "input",
            Box::new(move |session| {
                session.put(big());
                session.post("end");
                session.shutdown();
            }),
        ),
    ];
    for act in acts {
        let mut rig = Rig::new();
        rig.class.acts.push(act);
        rig.takes = Some(16 * 1024);
        rig.receive(b"a\n").write(1_000_000);
        let calls = std::mem::take(&mut rig.class.calls);
        let position = |name: &str| calls.iter().position(|call| call == name);
        assert!(position("flush") > position("shutdown"), "{calls:?}");
        assert!(position("stop") > position("flush"), "{calls:?}");
    }
}
