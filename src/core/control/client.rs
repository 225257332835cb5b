//! One client of the control socket: what it has sent, the command that it waits for, what it has not
//! read. Begins no command.

use super::{
    Pending, WaitsFor,
    answer::{Answer, ErrorCode},
    commands::upgrade::UpgradeCommand,
    line_buffer::{LineBuffer, LineResult},
};
use crate::core::{state::ClientState, time::Time};
use std::time::Duration;

/// How long a client may leave an answer unread.
pub(super) const UNREAD: Duration = Duration::from_secs(10);
/// How long a client may be connected and send no command.
pub(super) const IDLE: Duration = Duration::from_secs(300);

/// A client. Commands begin one at a time, and none while an answer waits to be read, so a client
/// costs at most a line that it has sent and an answer.
#[derive(Debug)]
pub(super) struct Client {
    lines: LineBuffer,
    /// It sends no more.
    ended: bool,
    /// It has closed the connection.
    gone: bool,
    /// It may have sent something that was not read.
    pub(super) has_unread: bool,
    /// Whether the kernel may take more for it.
    pub(super) is_writable: bool,
    outgoing: Vec<u8>,
    /// How much of `outgoing` was written.
    written: usize,
    pub(super) pending: Option<Box<dyn Pending>>,
    /// When it sent something, read something, or got an answer.
    since: Time,
}

impl Client {
    pub(super) fn new(now: Time) -> Self {
        Self {
            lines: LineBuffer::default(),
            ended: false,
            gone: false,
            has_unread: true,
            is_writable: true,
            outgoing: Vec::new(),
            written: 0,
            pending: None,
            since: now,
        }
    }

    /// A client that has connected to the program which was here before.
    pub(super) fn restored(state: &ClientState, now: Time) -> Self {
        let mut client = Self {
            lines: LineBuffer::restored(state.sent.clone(), state.skips),
            outgoing: state.unread.clone(),
            ..Self::new(now)
        };
        if state.ended {
            client.end();
        }
        match WaitsFor::of(state.waits_for) {
            WaitsFor::Nothing => {}
            WaitsFor::Upgrade => client.pending = Some(Box::new(UpgradeCommand)),
            WaitsFor::Another => {
                let text = "an upgrade has taken the place of the program that has begun it";
                client.answer(Answer::error(ErrorCode::Superseded, text), now);
            }
        }
        client
    }

    /// What [`restored`](Self::restored) takes, for a connection with this descriptor.
    pub(super) fn save(&self, fd: u32) -> ClientState {
        let (sent, skips) = self.lines.left();
        let pending = self.pending.as_ref();
        ClientState {
            fd,
            sent,
            skips,
            ended: self.ended,
            unread: self.outgoing().to_vec(),
            waits_for: pending.map_or(WaitsFor::Nothing, |pending| pending.waits_for()) as u8,
        }
    }

    /// How many bytes may be read from it now.
    pub(super) fn room(&self) -> usize {
        match self.has_unread && !self.gone {
            true => self.lines.room(),
            false => 0,
        }
    }

    pub(super) fn received(&mut self, bytes: &[u8], now: Time) {
        if !self.ended {
            self.lines.push(bytes);
        }
        self.since = now;
    }

    /// It sends no more.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.has_unread = false;
    }

    /// Nothing more is taken from it: it gets the answers that it waits for.
    pub(super) fn silence(&mut self) {
        self.lines = LineBuffer::default();
        self.end();
    }

    /// It is gone, and answers have no reader.
    pub(super) fn leave(&mut self) {
        self.end();
        self.gone = true;
        self.outgoing.clear();
        self.written = 0;
    }

    /// Whether its next command may begin.
    pub(super) fn is_due(&self) -> bool {
        self.pending.is_none() && self.outgoing.is_empty() && self.lines.is_ready(self.ended)
    }

    pub(super) fn next_line(&mut self) -> Option<LineResult> {
        self.lines.next(self.ended)
    }

    /// Queues the answer to its command.
    pub(super) fn answer(&mut self, answer: Answer, now: Time) {
        self.pending = None;
        self.since = now;
        if !self.gone {
            self.outgoing = answer.into_line();
            self.written = 0;
        }
    }

    /// What is to be written to it.
    pub(super) fn outgoing(&self) -> &[u8] {
        self.outgoing.get(self.written..).unwrap_or_default()
    }

    pub(super) fn took(&mut self, bytes: usize, now: Time) {
        self.written += bytes;
        self.since = now;
        if self.outgoing().is_empty() {
            // A long answer must not cost memory for as long as the client stays.
            self.outgoing = Vec::new();
            self.written = 0;
        }
    }

    /// Whether it has closed the connection.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether nothing is left to be done for it.
    pub(super) fn is_over(&self) -> bool {
        let has_lines = self.lines.is_ready(true);
        match self.gone {
            // Its command goes on without it; the commands after that do not begin.
            true => self.pending.is_some() || !has_lines,
            false => self.ended && self.is_waiting() && !has_lines,
        }
    }

    /// Whether it is the client's turn: it has no command under way and has read all answers.
    fn is_waiting(&self) -> bool {
        self.pending.is_none() && self.outgoing.is_empty()
    }

    /// Whether the connection may be closed for another client.
    pub(super) fn is_idle(&self) -> bool {
        self.is_waiting() && !self.lines.is_ready(self.ended) && !self.has_unread
    }

    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// When its time is over, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Time> {
        match (self.outgoing.is_empty(), &self.pending) {
            (false, _) => Some(self.since + UNREAD),
            (true, Some(_)) => None,
            (true, None) => Some(self.since + IDLE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a long answer nothing is kept once it was read.
    #[test]
    fn an_answer_that_was_read_costs_no_memory() {
        let mut client = Client::new(Time::START);
        let long = Answer::ok(|json| json.field("x", "y".repeat(9999)));
        client.answer(long, Time::START);
        let length = client.outgoing().len();
        assert!(length > 9999);
        client.took(length - 1, Time::START);
        assert_eq!(client.outgoing(), b"\n");
        client.took(1, Time::START);
        assert_eq!((client.outgoing.capacity(), client.is_idle()), (0, false));
        client.has_unread = false;
        assert!(client.is_idle());
    }
}
