//! One client of the status helper: what it has asked, and what it has still to be sent. Blocks at
//! nothing, and has a deadline for everything.

use super::http::{Hosts, HttpRequest, HttpRequests, Parsed, Response, StatusCode};
use crate::core::time::Time;
use nix::{
    poll::PollFlags,
    sys::socket::{Shutdown, shutdown},
};
use std::{
    fs::File,
    io::{self, IoSlice, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

/// How long a request may take to come, from its first byte or from the connection on.
const TO_ASK: Duration = Duration::from_secs(5);
/// How long a client may be idle between two requests.
const TO_ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long an answer may take to be read.
const TO_READ: Duration = Duration::from_secs(10);
/// How long a client whose connection is over may take to close it. Closing while it still sends
/// would take the answer from it.
const TO_CLOSE: Duration = Duration::from_secs(1);
/// How much a client may send in that time.
const TO_DISCARD: usize = 256 * 1024;
/// How many requests of one client are answered before others have their turn, if no answer is large.
const IN_A_ROW: usize = 8;

/// What a connection waits for.
#[derive(Debug)]
enum ConnectionPhase {
    Asking,
    Answering(Sending),
    Closing {
        discarded: usize,
    },
    /// Nothing any more.
    Over,
}

/// An answer that is being sent.
#[derive(Debug)]
struct Sending {
    head: Vec<u8>,
    body: Rc<str>,
    sent: usize,
    keeps: bool,
}

impl Sending {
    /// What is still to be sent.
    fn rest(&self) -> [IoSlice<'_>; 2] {
        let in_head = self.sent.min(self.head.len());
        let (head, body) = (
            &self.head[in_head..],
            &self.body.as_bytes()[self.sent - in_head..],
        );
        [IoSlice::new(head), IoSlice::new(body)]
    }

    fn is_sent(&self) -> bool {
        self.sent == self.head.len() + self.body.len()
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The socket; reading and writing is the same as for any file.
    socket: File,
    requests: HttpRequests,
    phase: ConnectionPhase,
    /// Whether it has been answered.
    was_answered: bool,
    deadline: Time,
}

/// How a step of a connection went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Advance {
    /// The next can be taken.
    GoesOn,
    /// An answer has begun.
    Answers {
        is_large: bool,
    },
    Waits,
    Ends,
}

/// How a read or a write went that may block.
enum Transfer {
    Done(usize),
    Blocks,
    Fails,
}

impl From<io::Result<usize>> for Transfer {
    fn from(result: io::Result<usize>) -> Self {
        match result {
            Ok(count) => Self::Done(count),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Self::Blocks,
                _ => Self::Fails,
            },
        }
    }
}

impl Connection {
    /// A client that asks under one of these names. The socket is in non-blocking mode.
    pub(super) fn new(socket: OwnedFd, hosts: Hosts, now: Time) -> Self {
        Self {
            socket: File::from(socket),
            requests: HttpRequests::of(hosts),
            phase: ConnectionPhase::Asking,
            was_answered: false,
            deadline: now + TO_ASK,
        }
    }

    /// A client that is told something without having asked.
    pub(super) fn with_text(socket: OwnedFd, text: String, now: Time) -> Self {
        let mut connection = Self::new(socket, Hosts::Any, now);
        connection.begin(text.into_bytes(), "".into(), false, now);
        connection
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }

    /// Whether it has been answered and has not begun to ask again.
    pub(super) fn is_idle(&self) -> bool {
        let asks = matches!(self.phase, ConnectionPhase::Asking);
        asks && self.was_answered && !self.requests.has_begun()
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, ConnectionPhase::Over)
    }

    /// Closes it, and drops what was to be sent.
    pub(super) fn give_up(&mut self) {
        self.phase = ConnectionPhase::Over;
    }

    /// What it waits for, for poll(2).
    pub(super) fn interest(&self) -> PollFlags {
        match self.phase {
            ConnectionPhase::Asking | ConnectionPhase::Closing { .. } => PollFlags::POLLIN,
            ConnectionPhase::Answering(_) => PollFlags::POLLOUT,
            ConnectionPhase::Over => PollFlags::empty(),
        }
    }

    /// How many bytes are kept for it: of a body that others have too, its share.
    pub(super) fn holds(&self) -> usize {
        match &self.phase {
            ConnectionPhase::Answering(sending) => {
                sending.head.len() + sending.body.len() / Rc::strong_count(&sending.body)
            }
            _ => 0,
        }
    }

    /// Goes on as far as it can without waiting, and without keeping others waiting: when a large answer
    /// begins, or so many others have begun, the next turn sends it.
    pub(super) fn advance(&mut self, now: Time, answer: &mut dyn FnMut(&HttpRequest) -> Response) {
        let mut answers = 0;
        loop {
            match self.step(now, answer) {
                Advance::GoesOn => {}
                Advance::Answers { is_large } => {
                    answers += 1;
                    if is_large || answers == IN_A_ROW {
                        return;
                    }
                }
                Advance::Waits => return,
                Advance::Ends => return self.give_up(),
            }
        }
    }

    fn step(&mut self, now: Time, answer: &mut dyn FnMut(&HttpRequest) -> Response) -> Advance {
        match self.phase {
            ConnectionPhase::Asking => self.ask(now, answer),
            ConnectionPhase::Answering(_) => self.send(now),
            ConnectionPhase::Closing { .. } => self.discard(),
            ConnectionPhase::Over => Advance::Ends,
        }
    }

    /// Its deadline has passed.
    pub(super) fn expire(&mut self, now: Time) {
        if matches!(self.phase, ConnectionPhase::Asking) && self.requests.has_begun() {
            self.refuse(StatusCode::RequestTimeout, now);
            return self.advance(now, &mut |_| Response::of(StatusCode::BadRequest));
        }
        self.give_up();
    }

    /// Reads until there is a whole request.
    fn ask(&mut self, now: Time, answer: &mut dyn FnMut(&HttpRequest) -> Response) -> Advance {
        match self.requests.next() {
            Parsed::More => self.receive(now),
            Parsed::Request(request) => {
                let answer = answer(&request);
                let head = answer.head(request.keeps);
                let body = match request.is_head {
                    true => "".into(),
                    false => answer.body,
                };
                self.begin(head, body, request.keeps, now);
                let is_large = answer.is_large;
                Advance::Answers { is_large }
            }
            Parsed::Refuse(status) => {
                self.refuse(status, now);
                Advance::Answers { is_large: false }
            }
        }
    }

    fn receive(&mut self, now: Time) -> Advance {
        let mut buffer = [0; 4096];
        match Transfer::from(self.socket.read(&mut buffer)) {
            Transfer::Blocks => Advance::Waits,
            Transfer::Fails | Transfer::Done(0) => Advance::Ends,
            Transfer::Done(count) => {
                if !self.requests.has_begun() {
                    self.deadline = now + TO_ASK;
                }
                self.requests.feed(&buffer[..count]);
                Advance::GoesOn
            }
        }
    }

    fn refuse(&mut self, status: StatusCode, now: Time) {
        let answer = Response::of(status);
        self.begin(answer.head(false), answer.body, false, now);
    }

    fn begin(&mut self, head: Vec<u8>, body: Rc<str>, keeps: bool, now: Time) {
        self.deadline = now + TO_READ;
        self.was_answered = true;
        self.phase = ConnectionPhase::Answering(Sending {
            head,
            body,
            sent: 0,
            keeps,
        });
    }

    fn send(&mut self, now: Time) -> Advance {
        let ConnectionPhase::Answering(sending) = &mut self.phase else {
            return Advance::GoesOn;
        };
        match Transfer::from(self.socket.write_vectored(&sending.rest())) {
            Transfer::Blocks => return Advance::Waits,
            Transfer::Fails => return Advance::Ends,
            Transfer::Done(count) => sending.sent += count,
        }
        if sending.is_sent() {
            let keeps = sending.keeps;
            self.end_answer(keeps, now);
        }
        Advance::GoesOn
    }

    fn end_answer(&mut self, keeps: bool, now: Time) {
        if keeps {
            let patience = if self.requests.has_begun() {
                TO_ASK
            } else {
                TO_ASK_AGAIN
            };
            (self.phase, self.deadline) = (ConnectionPhase::Asking, now + patience);
        } else {
            // OK to ignore: the client may have gone.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
            (self.phase, self.deadline) =
                (ConnectionPhase::Closing { discarded: 0 }, now + TO_CLOSE);
        }
    }

    fn discard(&mut self) -> Advance {
        let ConnectionPhase::Closing { discarded } = &mut self.phase else {
            return Advance::GoesOn;
        };
        let mut buffer = [0; 4096];
        match Transfer::from(self.socket.read(&mut buffer)) {
            Transfer::Blocks => Advance::Waits,
            Transfer::Fails | Transfer::Done(0) => Advance::Ends,
            Transfer::Done(count) => {
                *discarded += count;
                match *discarded > TO_DISCARD {
                    true => Advance::Ends,
                    false => Advance::GoesOn,
                }
            }
        }
    }
}
