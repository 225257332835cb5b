//! All clients of the control socket: which are read, which command begins next, which client is
//! answered and which is closed. Gets the time as an argument; touches no socket.

use super::{
    Answer, BegunCommand, ErrorCode, STOPPING, begin,
    client::Client,
    line_buffer::{LONGEST, LineResult},
};
use crate::core::{event::Event, monitor::Monitor, state::ClientState, time::Time};
use log::Level;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many clients there may be at once.
pub(crate) const CLIENTS: usize = 16;
/// How long it takes until the server tries again to accept, after it could not.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The clients, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct ClientTable {
    clients: BTreeMap<u64, Client>,
    /// Whether clients may wait to be accepted, and from when on they are.
    accepts_at: Option<Time>,
}

/// Clients come and go.
impl ClientTable {
    /// Something has happened to the socket, or to a client.
    pub(crate) fn woke(&mut self, client: Option<u64>) {
        let Some(number) = client else {
            self.accepts_at = Some(Time::START);
            return;
        };
        if let Some(client) = self.clients.get_mut(&number) {
            client.has_unread = true;
            client.is_writable = true;
        }
    }

    /// Whether clients may wait to be accepted.
    pub(crate) fn accepts(&self, now: Time) -> bool {
        self.accepts_at.is_some_and(|at| at <= now)
    }

    /// No client waits to be accepted.
    pub(crate) fn accepted_all(&mut self) {
        self.accepts_at = None;
    }

    /// No client can be accepted now.
    pub(crate) fn accept_failed(&mut self, now: Time) {
        self.accepts_at = Some(now + ACCEPT_AGAIN);
    }

    pub(crate) fn add(&mut self, client: u64, now: Time) {
        self.clients.insert(client, Client::new(now));
    }

    /// Makes room for one more client, if there is none.
    ///
    /// Returns the client that is to be closed for it: one that has gone, or else the one that has been
    /// idle for the longest. It is an error if there is neither.
    pub(crate) fn make_room(&mut self) -> Result<Option<u64>, Answer> {
        if self.clients.len() < CLIENTS {
            return Ok(None);
        }
        let spared = |client: &Client| client.is_over() || client.is_idle();
        let spared = self.clients.iter().filter(|(_, client)| spared(client));
        let longest = spared.min_by_key(|(_, client)| (!client.is_over(), client.since()));
        let Some(number) = longest.map(|(number, _)| *number) else {
            let text = format!("{CLIENTS} clients wait for commands already");
            return Err(Answer::error(ErrorCode::Busy, &text));
        };
        self.clients.remove(&number);
        Ok(Some(number))
    }

    /// Removes the clients that are to be closed: nothing is left to be done for them, or their time
    /// is over.
    #[must_use]
    pub(crate) fn take_over(&mut self, now: Time) -> Vec<u64> {
        let late = |client: &Client| client.deadline().is_some_and(|at| at <= now);
        let over = |client: &Client| client.is_over() || late(client);
        let found = self.clients.iter().filter(|(_, client)| over(client));
        let found: Vec<_> = found.map(|(number, _)| *number).collect();
        self.clients.retain(|number, _| !found.contains(number));
        found
    }

    /// When the loop must turn again if nothing happens before; the start for at once.
    pub(crate) fn next(&self) -> Option<Time> {
        let has_work = |client: &Client| client.is_due() || client.room() > 0 || client.is_over();
        let client = |client: &Client| match has_work(client) {
            true => Some(Time::START),
            false => client.deadline(),
        };
        let clients = self.clients.values().filter_map(client);
        clients.chain(self.accepts_at).min()
    }
}

/// An upgrade.
impl ClientTable {
    /// The clients that are there, for the program that takes the place of this one. `fd` says which
    /// descriptor a connection has.
    pub(crate) fn save(&self, fd: impl Fn(u64) -> Option<u32>) -> Vec<ClientState> {
        let clients = self.clients.iter().filter(|(_, client)| !client.is_gone());
        let saved = clients.map(|(number, client)| Some(client.save(fd(*number)?)));
        saved.flatten().collect()
    }

    /// Takes over a client of the program before. If there is no control socket any more, it is told the
    /// outcome that it waits for and nothing else.
    pub(crate) fn adopt(&mut self, number: u64, state: &ClientState, listens: bool, now: Time) {
        let mut client = Client::restored(state, now);
        if !listens {
            client.silence();
        }
        self.clients.insert(number, client);
    }
}

/// What clients send and read.
impl ClientTable {
    /// The clients that are to be read, and how many bytes at most.
    pub(crate) fn to_read(&self) -> Vec<(u64, usize)> {
        let clients = self.clients.iter();
        let room = clients.map(|(number, client)| (*number, client.room()));
        room.filter(|(_, room)| *room > 0).collect()
    }

    pub(crate) fn received(&mut self, client: u64, bytes: &[u8], now: Time) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.received(bytes, now);
        }
    }

    /// A client has sent nothing more so far.
    pub(crate) fn read_all(&mut self, client: u64) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.has_unread = false;
        }
    }

    /// A client sends no more.
    pub(crate) fn ended(&mut self, client: u64) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.end();
        }
    }

    /// A client has closed the connection.
    pub(crate) fn left(&mut self, client: u64) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.leave();
        }
    }

    /// The clients to which something can be written.
    pub(crate) fn to_write(&self) -> Vec<u64> {
        let writes = |client: &Client| client.is_writable && !client.outgoing().is_empty();
        let clients = self.clients.iter().filter(|(_, client)| writes(client));
        clients.map(|(number, _)| *number).collect()
    }

    /// What is to be written to a client.
    pub(crate) fn outgoing(&self, client: u64) -> &[u8] {
        self.clients.get(&client).map_or(&[], Client::outgoing)
    }

    /// The kernel has taken so many bytes for a client; none if it takes none for now.
    pub(crate) fn wrote(&mut self, client: u64, bytes: usize, now: Time) {
        if let Some(client) = self.clients.get_mut(&client) {
            match bytes {
                0 => client.is_writable = false,
                _ => client.took(bytes, now),
            }
        }
    }
}

/// Commands.
impl ClientTable {
    /// Begins the next command of each client whose turn it is.
    pub(crate) fn begin(&mut self, monitor: &mut Monitor) {
        for (number, client) in &mut self.clients {
            // Lines without a command are left out, of which there are at most as many as a client
            // may send ahead.
            let lines = || client.is_due().then(|| client.next_line()).flatten();
            let mut lines = std::iter::from_fn(lines);
            let begun = lines.find_map(|cut| begun(monitor, *number, cut));
            match begun {
                Some(BegunCommand::Done(answer)) => client.answer(answer, monitor.now()),
                Some(BegunCommand::Pending(pending)) => client.pending = Some(pending),
                None => {}
            }
        }
    }

    /// Answers the commands that an event ends.
    pub(crate) fn event(&mut self, monitor: &Monitor, event: &Event<'_>) {
        let is_the_end = matches!(event, Event::Ended);
        for client in self.clients.values_mut() {
            let pending = client.pending.as_mut();
            let answer = pending.and_then(|pending| pending.event(monitor, event));
            let unanswered = is_the_end && answer.is_none() && client.pending.is_some();
            let last = unanswered.then(|| Answer::error(ErrorCode::Stopping, STOPPING));
            if let Some(answer) = answer.or(last) {
                client.answer(answer, monitor.now());
            }
        }
    }

    /// Answers the commands that are done at the end of a turn.
    pub(crate) fn look(&mut self, monitor: &Monitor) {
        for client in self.clients.values_mut() {
            let pending = client.pending.as_mut();
            if let Some(answer) = pending.and_then(|pending| pending.look(monitor)) {
                client.answer(answer, monitor.now());
            }
        }
    }
}

/// The answer to a line alone: empty for a line without a command, `None` while it is not done.
#[cfg(any(test, fuzzing))]
pub(crate) fn answer_to(monitor: &mut Monitor, line: &[u8]) -> Option<Vec<u8>> {
    let cut = match line.len() > LONGEST {
        true => LineResult::TooLong,
        false => super::line_buffer::text(line.to_vec()),
    };
    match begun(monitor, 0, cut) {
        None => Some(Vec::new()),
        Some(BegunCommand::Done(answer)) => Some(answer.into_line()),
        Some(BegunCommand::Pending(_)) => None,
    }
}

/// What an operator does is told each time; a question, maybe asked each second, is not.
fn level_of(line: &str) -> Level {
    match line.split_whitespace().next() {
        Some("get" | "show" | "stack" | "help") => Level::Debug,
        _ => Level::Info,
    }
}

/// Begins the command that a line is; `None` for a line without one.
fn begun(monitor: &mut Monitor, client: u64, cut: LineResult) -> Option<BegunCommand> {
    let line = match cut {
        LineResult::Line(line) if line.trim().is_empty() => return None,
        LineResult::Line(line) => line,
        LineResult::NoText => {
            return Some(BegunCommand::error(
                ErrorCode::Usage,
                "the line is not UTF-8",
            ));
        }
        LineResult::TooLong => {
            let text = format!("the line is longer than {LONGEST} bytes");
            return Some(BegunCommand::error(ErrorCode::Usage, &text));
        }
    };
    log::log!(level_of(&line), "control client {client}: {line:?}");
    Some(begin(monitor, &line))
}
