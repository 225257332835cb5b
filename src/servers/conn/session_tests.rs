//! The rules of a session one by one, without a connection: order, flush, shutdown, errors, limits,
//! and every default.

use super::{
    BlockFilter, ConnClass, Filter, Input, Limit, LineFilter, Peer, PeerCredentials, Record,
    Session, defaults, pump::Step,
};
use crate::core::{error::Operation, time::Time};
use std::{cell::RefCell, io, rc::Rc, time::Duration};

type Act = Box<dyn FnMut(&mut Session)>;

/// Records each call, does what the test wants at that call, and then what the default does.
#[derive(Default)]
struct Noting {
    calls: Vec<String>,
    acts: Vec<(&'static str, Act)>,
    /// The handler whose default is not called.
    without_super: &'static str,
}

impl Noting {
    /// Records the call; true if the default is to be called.
    fn note(&mut self, session: &mut Session, call: impl Into<String>) -> bool {
        let call = call.into();
        for (at, act) in &mut self.acts {
            if call.starts_with(*at) {
                act(session);
            }
        }
        let with_super = self.without_super.is_empty() || !call.starts_with(self.without_super);
        self.calls.push(call);
        with_super
    }
}

impl ConnClass for Noting {
    fn handler_start(&mut self, session: &mut Session) {
        self.note(session, "start");
        defaults::handler_start(self, session);
    }
    fn handler_input(&mut self, session: &mut Session, input: &[u8]) {
        self.note(session, format!("input {}", input.escape_ascii()));
    }
    fn handler_put(&mut self, session: &mut Session, output: &[u8]) {
        if self.note(session, format!("put {}", output.escape_ascii())) {
            defaults::handler_put(self, session, output);
        }
    }
    fn handler_error(&mut self, session: &mut Session, operation: Operation, error: &io::Error) {
        let number = error
            .raw_os_error()
            .map_or("-".to_owned(), |n| n.to_string());
        if self.note(session, format!("error {operation} {number}")) {
            defaults::handler_error(self, session, operation, error);
        }
    }
    fn handler_flush(&mut self, session: &mut Session) {
        if self.note(session, "flush") {
            defaults::handler_flush(self, session);
        }
    }
    fn handler_shutdown(&mut self, session: &mut Session) {
        if self.note(session, "shutdown") {
            defaults::handler_shutdown(self, session);
        }
    }
    fn handler_stopping(&mut self, session: &mut Session) {
        if self.note(session, "stopping") {
            defaults::handler_stopping(self, session);
        }
    }
    fn handler_stop(&mut self, session: &mut Session) {
        self.note(session, "stop");
        defaults::handler_stop(self, session);
    }
    fn handler_state(&mut self, session: &mut Session, state: &str) {
        self.note(session, format!("state {state}"));
        defaults::handler_state(self, session, state);
    }
}

/// The driver without its system calls.
struct Rig {
    session: Session,
    class: Noting,
    wire: Vec<u8>,
    now: Duration,
    stopped: bool,
    /// Whether the child is told to stop.
    stopping: bool,
    /// The client takes all early output as soon as there is this much.
    takes: Option<usize>,
}

impl Rig {
    fn new() -> Self {
        Self {
            session: Session::new(7, Peer::default()),
            class: Noting::default(),
            wire: Vec::new(),
            now: Duration::ZERO,
            stopped: false,
            stopping: false,
            takes: None,
        }
    }

    /// Does `act` whenever a call begins with `at`.
    fn on(mut self, at: &'static str, act: impl FnMut(&mut Session) + 'static) -> Self {
        self.class.acts.push((at, Box::new(act)));
        self
    }

    fn without_super(mut self, handler: &'static str) -> Self {
        self.class.without_super = handler;
        self
    }

    /// Calls handlers until none is due; writes nothing.
    fn turn(&mut self) -> &mut Self {
        self.session.turn(Time::at(self.now), self.stopping);
        let mut buffer = Vec::new();
        while let Some(step) = self.session.next_step(&mut buffer) {
            let (class, session) = (&mut self.class, &mut self.session);
            match step {
                Step::Start => class.handler_start(session),
                Step::Input => class.handler_input(session, &buffer),
                Step::Put => class.handler_put(session, &buffer),
                Step::Error(operation, error) => class.handler_error(session, operation, &error),
                Step::Flush => class.handler_flush(session),
                Step::Shutdown => class.handler_shutdown(session),
                Step::State(state) => class.handler_state(session, &state),
                Step::Stopping => class.handler_stopping(session),
            }
            if self.takes.is_some_and(|chunk| session.writes_early(chunk)) {
                let count = session.output().len();
                self.wire.extend_from_slice(session.output());
                session.wrote(count);
            }
        }
        if self.session.is_over() && !std::mem::replace(&mut self.stopped, true) {
            self.class.handler_stop(&mut self.session);
        }
        self
    }

    fn receive(&mut self, bytes: &[u8]) -> &mut Self {
        self.session.received(bytes);
        self.turn()
    }

    fn end_input(&mut self) -> &mut Self {
        self.session.input_ended();
        self.turn()
    }

    /// The client takes up to `count` bytes.
    fn write(&mut self, count: usize) -> &mut Self {
        let count = count.min(self.session.output().len());
        self.wire.extend_from_slice(&self.session.output()[..count]);
        if count > 0 {
            self.session.wrote(count);
        }
        self.turn()
    }

    /// The calls since the last time this was called.
    #[track_caller]
    fn expect(&mut self, calls: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.class.calls), calls);
        self
    }

    fn wire(&self) -> String {
        self.wire.escape_ascii().to_string()
    }
}

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

#[test]
fn what_was_posted_comes_in_order_and_before_more_input() {
    let mut rig = Rig::new().on("input a", |session| {
        session.post("one");
        session.post_put("two");
        session.post("three");
    });
    rig.receive(b"a\nb\n").expect(&[
        "start",
        "input a",
        "state one",
        "put two",
        "state three",
        "input b",
    ]);
    rig.write(99);
    assert_eq!(rig.wire(), "two\\n");
}

#[test]
fn a_state_that_posts_itself_starves_nobody() {
    let mut rig =
        Rig::new()
            .on("start", |session| session.post("again"))
            .on("state again", |session| {
                session.post("again");
                session.delay_set("at once", Duration::ZERO);
            });
    rig.turn().expect(&["start", "state again"]);
    assert!(rig.session.has_more());
    rig.receive(b"a\n")
        .expect(&["state again", "state at once", "input a"]);
}

#[test]
fn alarms_go_off_in_time_and_can_be_removed() {
    let removed = Rc::new(RefCell::new(None));
    let shared = Rc::clone(&removed);
    let mut rig = Rig::new().on("start", move |session| {
        session.delay_set("idle", Duration::from_secs(5));
        *shared.borrow_mut() = Some(session.delay_set("never", Duration::from_secs(1)));
    });
    rig.turn().expect(&["start"]);
    let id = removed.take().expect("set");
    assert!(rig.session.alarm_remove(id) && !rig.session.alarm_remove(id));
    assert_eq!(
        rig.session.next_alarm(),
        Some(Time::at(Duration::from_secs(5)))
    );
    rig.now = Duration::from_secs(5);
    rig.turn().expect(&["state idle"]);
    rig.session.delay_set("never", Duration::ZERO);
    rig.session.alarm_remove_all();
    rig.turn().expect(&[]);
}

#[test]
fn a_posted_put_goes_through_its_handler() {
    let mut rig = Rig::new()
        .without_super("put")
        .on("put", |session| session.put("changed"));
    rig.session.post_put("original");
    assert_eq!(rig.session.pending_output(), 8, "it counts as output");
    rig.turn().expect(&["start", "put original"]);
    rig.write(99).expect(&["flush"]);
    assert_eq!(rig.wire(), "changed\\n");
}

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

#[test]
fn an_ack_is_said_at_once() {
    let said = Rc::new(RefCell::new(0));
    let mut rig = Rig::new().on("input", |session| session.ack().expect("said"));
    let counter = Rc::clone(&said);
    rig.session.say_ack = Box::new(move || {
        *counter.borrow_mut() += 1;
        Ok(())
    });
    rig.receive(b"a\nb\n");
    assert_eq!(*said.borrow(), 2);
}

#[test]
fn more_time_is_asked_for_at_once() {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let mut rig = Rig::new().on("input", |session| session.extend(Duration::from_secs(7)));
    let times = Rc::clone(&asked);
    rig.session.extend = Box::new(move |time| times.borrow_mut().push(time));
    rig.receive(b"a\n");
    assert_eq!(*asked.borrow(), [Duration::from_secs(7)]);
}

#[test]
fn the_attributes_have_their_defaults_and_the_ends_their_names() {
    let session = Session::new(7, Peer::default());
    assert_eq!(session.id(), 7);
    assert!(session.shutdown_on_error() && session.is_connected());
    assert!(!session.got_error() && !session.is_shutdown() && !session.shutdown_requested());
    assert_eq!(session.input_limit(), 65536);
    assert_eq!(session.output_limit(), 1024 * 1024);
    assert_eq!((session.remote_address(), session.path()), (None, None));
    let (remote, local) = ("192.0.2.1:70".parse().ok(), "192.0.2.2:80".parse().ok());
    let tcp = Session::new(1, Peer::tcp(remote, local));
    assert_eq!(tcp.remote_address(), remote);
    assert_eq!(tcp.remote_ip(), "192.0.2.1".parse().ok());
    assert_eq!((tcp.remote_port(), tcp.local_address()), (Some(70), local));
    let credentials = PeerCredentials::new(Some(1), 2, 3);
    let unix = Session::new(1, Peer::unix(Some("/run/x".into()), Some(credentials)));
    assert_eq!(unix.path(), Some("/run/x".as_ref()));
    assert_eq!(unix.peer_credentials(), Some(credentials));
}

#[test]
fn every_handler_is_forwarded_by_references_and_boxes() {
    fn call_all(class: &mut impl ConnClass) {
        let session = &mut Session::new(1, Peer::default());
        class.handler_start(session);
        class.handler_input(session, b"x");
        class.handler_put(session, b"y");
        class.handler_error(session, Operation::Write, &io::Error::from_raw_os_error(5));
        class.handler_flush(session);
        class.handler_shutdown(session);
        class.handler_state(session, "z");
        class.handler_stopping(session);
        class.handler_stop(session);
    }
    let all = [
        "start",
        "input x",
        "put y",
        "error write 5",
        "flush",
        "shutdown",
        "state z",
        "stopping",
        "stop",
    ];
    let mut class = Noting::default();
    call_all(&mut &mut class);
    assert_eq!(std::mem::take(&mut class.calls), all);
    let mut boxed = Box::new(class);
    call_all(&mut boxed);
    assert_eq!(std::mem::take(&mut boxed.calls), all);
    call_all(&mut (&mut *boxed as &mut dyn ConnClass));
    assert_eq!(boxed.calls, all);
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

/// The goodbye of an object is written before the connection ends.
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
