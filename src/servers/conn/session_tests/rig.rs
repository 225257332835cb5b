//! A session without a connection: what the driver does, in steps, and an object that records its calls.

use crate::{
    core::{error::Operation, time::Time},
    servers::conn::{ConnClass, Peer, Session, defaults, pump::ConnStep},
};
use std::{io, time::Duration};

pub(super) type Act = Box<dyn FnMut(&mut Session)>;

/// Records each call, does what the test wants at that call, and then what the default does.
#[derive(Default)]
pub(super) struct NotingClass {
    pub(super) calls: Vec<String>,
    pub(super) acts: Vec<(&'static str, Act)>,
    /// The handler whose default is not called.
    pub(super) without_super: &'static str,
}

impl NotingClass {
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

impl ConnClass for NotingClass {
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
pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) class: NotingClass,
    pub(super) wire: Vec<u8>,
    pub(super) now: Duration,
    pub(super) stopped: bool,
    /// Whether the child is told to stop.
    pub(super) stopping: bool,
    /// The client takes all early output as soon as there is this much.
    pub(super) takes: Option<usize>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self {
            session: Session::new(7, Peer::default()),
            class: NotingClass::default(),
            wire: Vec::new(),
            now: Duration::ZERO,
            stopped: false,
            stopping: false,
            takes: None,
        }
    }

    /// Does `act` whenever a call begins with `at`.
    pub(super) fn on(mut self, at: &'static str, act: impl FnMut(&mut Session) + 'static) -> Self {
        self.class.acts.push((at, Box::new(act)));
        self
    }

    pub(super) fn without_super(mut self, handler: &'static str) -> Self {
        self.class.without_super = handler;
        self
    }

    /// Calls handlers until none is due; writes nothing.
    pub(super) fn turn(&mut self) -> &mut Self {
        self.session.turn(Time::at(self.now), self.stopping);
        let mut buffer = Vec::new();
        while let Some(step) = self.session.next_step(&mut buffer) {
            let (class, session) = (&mut self.class, &mut self.session);
            match step {
                ConnStep::Start => class.handler_start(session),
                ConnStep::Input => class.handler_input(session, &buffer),
                ConnStep::Put => class.handler_put(session, &buffer),
                ConnStep::Error(operation, error) => {
                    class.handler_error(session, operation, &error)
                }
                ConnStep::Flush => class.handler_flush(session),
                ConnStep::Shutdown => class.handler_shutdown(session),
                ConnStep::State(state) => class.handler_state(session, &state),
                ConnStep::Stopping => class.handler_stopping(session),
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

    pub(super) fn receive(&mut self, bytes: &[u8]) -> &mut Self {
        self.session.received(bytes);
        self.turn()
    }

    pub(super) fn end_input(&mut self) -> &mut Self {
        self.session.input_ended();
        self.turn()
    }

    /// The client takes up to `count` bytes.
    pub(super) fn write(&mut self, count: usize) -> &mut Self {
        let count = count.min(self.session.output().len());
        self.wire.extend_from_slice(&self.session.output()[..count]);
        if count > 0 {
            self.session.wrote(count);
        }
        self.turn()
    }

    /// The calls since the last time this was called.
    #[track_caller]
    pub(super) fn expect(&mut self, calls: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.class.calls), calls);
        self
    }

    pub(super) fn wire(&self) -> String {
        self.wire.escape_ascii().to_string()
    }
}
