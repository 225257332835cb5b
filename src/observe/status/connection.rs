//! One client of the status helper: what it has asked, and what it has still to be sent. Blocks at
//! nothing, and has a deadline for everything.

use super::http::{Answer, Request, Requests, Status, Verdict};
use crate::core::time::Time;
use nix::{
    poll::PollFlags,
    sys::socket::{Shutdown, shutdown},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
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
/// How many requests of one client are answered before others have their turn.
const IN_A_ROW: usize = 16;

/// What a connection waits for.
#[derive(Debug)]
enum Phase {
    Asking,
    Answering {
        bytes: Vec<u8>,
        sent: usize,
        keeps: bool,
    },
    Closing {
        discarded: usize,
    },
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The socket; reading and writing is the same as for any file.
    socket: File,
    requests: Requests,
    phase: Phase,
    deadline: Time,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    GoesOn,
    Over,
}

/// How a read or a write went that may block.
enum Step {
    Done(usize),
    Blocks,
    Fails,
}

impl From<io::Result<usize>> for Step {
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
    /// A client that asks. The socket is in non-blocking mode.
    pub(super) fn new(socket: OwnedFd, now: Time) -> Self {
        Self {
            socket: File::from(socket),
            requests: Requests::default(),
            phase: Phase::Asking,
            deadline: now + TO_ASK,
        }
    }

    /// A client that is told something without having asked.
    pub(super) fn told(socket: OwnedFd, bytes: Vec<u8>, now: Time) -> Self {
        let mut connection = Self::new(socket, now);
        connection.begin_answer(bytes, false, now);
        connection
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }

    /// What it waits for, for poll(2).
    pub(super) fn interest(&self) -> PollFlags {
        match self.phase {
            Phase::Asking | Phase::Closing { .. } => PollFlags::POLLIN,
            Phase::Answering { .. } => PollFlags::POLLOUT,
        }
    }

    /// How many bytes are kept for it.
    pub(super) fn holds(&self) -> usize {
        match &self.phase {
            Phase::Answering { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn advance(
        &mut self,
        now: Time,
        answer: &mut dyn FnMut(&Request) -> Answer,
    ) -> Next {
        for _ in 0..IN_A_ROW {
            let waits = match self.phase {
                Phase::Asking => self.ask(now, answer),
                Phase::Answering { .. } => self.send(now),
                Phase::Closing { .. } => self.discard(),
            };
            if let Some(next) = waits {
                return next;
            }
        }
        Next::GoesOn
    }

    /// Its deadline has passed.
    pub(super) fn expire(&mut self, now: Time) -> Next {
        if matches!(self.phase, Phase::Asking) && self.requests.has_begun() {
            self.refuse(Status::RequestTimeout, now);
            return self.advance(now, &mut |_| Answer::of(Status::BadRequest));
        }
        Next::Over
    }

    /// Reads until there is a whole request. `None` when there is something else to do.
    fn ask(&mut self, now: Time, answer: &mut dyn FnMut(&Request) -> Answer) -> Option<Next> {
        match self.requests.next() {
            Verdict::More => self.receive(now),
            Verdict::Request(request) => {
                let bytes = answer(&request).bytes(request.is_head, request.keeps);
                self.begin_answer(bytes, request.keeps, now);
                None
            }
            Verdict::Refuse(status) => {
                self.refuse(status, now);
                None
            }
        }
    }

    fn receive(&mut self, now: Time) -> Option<Next> {
        let mut buffer = [0; 4096];
        match Step::from(self.socket.read(&mut buffer)) {
            Step::Blocks => Some(Next::GoesOn),
            Step::Fails | Step::Done(0) => Some(Next::Over),
            Step::Done(count) => {
                if !self.requests.has_begun() {
                    self.deadline = now + TO_ASK;
                }
                self.requests.feed(&buffer[..count]);
                None
            }
        }
    }

    fn refuse(&mut self, status: Status, now: Time) {
        self.begin_answer(Answer::of(status).bytes(false, false), false, now);
    }

    fn begin_answer(&mut self, bytes: Vec<u8>, keeps: bool, now: Time) {
        self.deadline = now + TO_READ;
        self.phase = Phase::Answering {
            bytes,
            sent: 0,
            keeps,
        };
    }

    fn send(&mut self, now: Time) -> Option<Next> {
        let Phase::Answering { bytes, sent, keeps } = &mut self.phase else {
            return None;
        };
        match Step::from(self.socket.write(&bytes[*sent..])) {
            Step::Blocks => return Some(Next::GoesOn),
            Step::Fails => return Some(Next::Over),
            Step::Done(count) => *sent += count,
        }
        if *sent == bytes.len() {
            let keeps = *keeps;
            self.end_answer(keeps, now);
        }
        None
    }

    fn end_answer(&mut self, keeps: bool, now: Time) {
        if keeps {
            let patience = if self.requests.has_begun() {
                TO_ASK
            } else {
                TO_ASK_AGAIN
            };
            (self.phase, self.deadline) = (Phase::Asking, now + patience);
        } else {
            // OK to ignore: the client may have gone.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
            (self.phase, self.deadline) = (Phase::Closing { discarded: 0 }, now + TO_CLOSE);
        }
    }

    fn discard(&mut self) -> Option<Next> {
        let Phase::Closing { discarded } = &mut self.phase else {
            return None;
        };
        let mut buffer = [0; 4096];
        match Step::from(self.socket.read(&mut buffer)) {
            Step::Blocks => Some(Next::GoesOn),
            Step::Fails | Step::Done(0) => Some(Next::Over),
            Step::Done(count) => {
                *discarded += count;
                (*discarded > TO_DISCARD).then_some(Next::Over)
            }
        }
    }
}
