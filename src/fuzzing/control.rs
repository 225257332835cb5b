//! The control socket: whatever a client sends and however it reads, it gets for each of its lines the
//! answer that the line alone would get, in order, and costs bounded memory.

use super::FuzzInput;
use crate::core::{
    control::{ClientTable, LONGEST, answer_to},
    monitor::Monitor,
    time::Time,
};

const CLIENT: u64 = 1;

/// Input: a byte with the size of reads, one with that of writes in units of 16 bytes, since answers
/// are long, and what a client sends. Digits stand for commands, so that most lines are some.
pub fn control(data: &[u8]) {
    let mut input = FuzzInput(data);
    let (reads, writes) = (
        usize::from(input.byte()) + 1,
        (usize::from(input.byte()) + 1) * 16,
    );
    let sent = expand(input.rest());
    let (answers, is_whole) = Conversation::new(reads, writes).hold(&sent);
    let expected = expected(&sent);
    // A command that is never done here ends both.
    assert_eq!(answers, expected.0);
    assert_eq!(is_whole, expected.1);
}

fn expand(bytes: &[u8]) -> Vec<u8> {
    const COMMANDS: [&str; 10] = [
        "show\n",
        "get ",
        "set max_clients ",
        "set timeout ",
        "max_clients\n",
        "help\r\n",
        "retire ",
        "7s\n",
        "get\n",
        "stop now",
    ];
    let expand = |byte: &u8| match byte {
        digit @ b'0'..=b'9' => COMMANDS[usize::from(digit - b'0')].as_bytes().to_vec(),
        b'~' => vec![b'x'; LONGEST / 2],
        other => vec![*other],
    };
    bytes.iter().flat_map(expand).collect()
}

/// A client, and the server that it talks to.
struct Conversation {
    client_table: ClientTable,
    monitor: Monitor,
    reads: usize,
    writes: usize,
    answers: Vec<u8>,
}

impl Conversation {
    fn new(reads: usize, writes: usize) -> Self {
        let mut client_table = ClientTable::default();
        client_table.add(CLIENT, Time::START);
        Self {
            client_table,
            monitor: Monitor::default(),
            reads,
            writes,
            answers: Vec::new(),
        }
    }

    /// The answers, and whether there is one for each command.
    fn hold(mut self, mut sent: &[u8]) -> (Vec<u8>, bool) {
        loop {
            sent = self.read(sent);
            self.client_table.begin(&mut self.monitor);
            // The answer to each command, and no more than one at a time.
            let waiting = self.client_table.outgoing(CLIENT);
            assert!(waiting.iter().filter(|byte| **byte == b'\n').count() <= 1);
            self.write();
            if self.client_table.take_over(Time::START) == [CLIENT] {
                return (self.answers, true);
            }
            let turns = self.client_table.next() == Some(Time::START);
            if !turns && self.client_table.to_write().is_empty() {
                return (self.answers, false);
            }
        }
    }

    fn read<'a>(&mut self, sent: &'a [u8]) -> &'a [u8] {
        let [(CLIENT, room)] = self.client_table.to_read()[..] else {
            return sent;
        };
        assert!(room <= LONGEST + 1);
        if sent.is_empty() {
            self.client_table.ended(CLIENT);
            return sent;
        }
        let (head, rest) = sent.split_at(self.reads.min(room).min(sent.len()));
        self.client_table.received(CLIENT, head, Time::START);
        rest
    }

    fn write(&mut self) {
        let bytes = self.client_table.outgoing(CLIENT);
        let count = bytes.len().min(self.writes);
        self.answers.extend_from_slice(&bytes[..count]);
        if count > 0 {
            self.client_table.wrote(CLIENT, count, Time::START);
        }
    }
}

/// What the lines get one by one, and whether all of them are answered.
fn expected(sent: &[u8]) -> (Vec<u8>, bool) {
    let (mut monitor, mut answers) = (Monitor::default(), Vec::new());
    for line in sent.split(|byte| *byte == b'\n') {
        match answer_to(&mut monitor, line) {
            Some(answer) => answers.extend(answer),
            None => return (answers, false),
        }
    }
    (answers, true)
}
