//! The wire between child and parent: the three words, and the framer that finds words and lines
//! in a stream of bytes. Bytes in, events out; reads and writes nothing itself.

mod entry;

pub(crate) use self::entry::BoardEntry;

use std::fmt::{self, Write as _};

/// "I am alive": prints as ACK (0x06).
pub const COMM_ACK: Word = Word::Ack;
/// "I have a connection in hand": prints as XOFF (0x13).
pub const COMM_BUSY: Word = Word::Busy;
/// "I can take a connection": prints as XON (0x11).
pub const COMM_NOT_BUSY: Word = Word::NotBusy;

/// A word that a child can say. `println!("{COMM_ACK}")` in a child sends an ACK.
///
/// The enum is exhaustive: a fourth word would be another protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Word {
    /// The child is alive.
    Ack,
    /// The child serves a connection.
    Busy,
    /// The child waits for a connection.
    NotBusy,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char(char::from(CommWords::CONTROL.byte(*self)))
    }
}

/// The bytes that stand for the words, each on a line of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CommWords {
    ack: u8,
    busy: u8,
    not_busy: u8,
}

impl CommWords {
    /// The control characters ACK, XOFF and XON, which no program prints by accident.
    ///
    /// The default.
    pub const CONTROL: Self = Self {
        ack: 0x06,
        busy: 0x13,
        not_busy: 0x11,
    };

    /// `1`, `2` and `3`, as children written for the original print them.
    pub const POE: Self = Self {
        ack: b'1',
        busy: b'2',
        not_busy: b'3',
    };

    /// Other bytes as words.
    ///
    /// `None` unless the three bytes differ and none is a newline.
    pub const fn new(ack: u8, busy: u8, not_busy: u8) -> Option<Self> {
        let distinct = ack != busy && ack != not_busy && busy != not_busy;
        if distinct && ack != b'\n' && busy != b'\n' && not_busy != b'\n' {
            Some(Self {
                ack,
                busy,
                not_busy,
            })
        } else {
            None
        }
    }

    /// The byte that stands for `word`.
    pub const fn byte(self, word: Word) -> u8 {
        match word {
            Word::Ack => self.ack,
            Word::Busy => self.busy,
            Word::NotBusy => self.not_busy,
        }
    }

    /// The word that `byte` stands for.
    pub const fn word(self, byte: u8) -> Option<Word> {
        if byte == self.ack {
            Some(Word::Ack)
        } else if byte == self.busy {
            Some(Word::Busy)
        } else if byte == self.not_busy {
            Some(Word::NotBusy)
        } else {
            None
        }
    }
}

impl Default for CommWords {
    fn default() -> Self {
        Self::CONTROL
    }
}

/// A line that a child printed, without its newline, or a piece of a long line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Line {
    bytes: Vec<u8>,
    piece: bool,
    last: bool,
}

impl Line {
    /// The longest line that is delivered whole, in bytes.
    pub const MAX: usize = 64 * 1024;

    /// A whole line, for tests of hooks.
    pub fn whole(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            piece: false,
            last: true,
        }
    }

    /// The bytes as the child wrote them, without the newline.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether this is a part of a line that was longer than [`Line::MAX`].
    pub fn is_piece(&self) -> bool {
        self.piece
    }

    /// Whether the line ends here: false only for the pieces before the last.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// The bytes with control characters escaped, safe for a terminal or a log.
    ///
    /// The result cannot contain a second line or move a cursor. All other bytes are unchanged.
    pub fn escaped(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len());
        let mut rest = self.bytes.as_slice();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                // In UTF-8 the C1 controls are C2 80 to C2 9F; terminals act on them, too.
                0xc2 if matches!(tail.first(), Some(0x80..=0x9f)) => {
                    out.extend_from_slice(format!("\\u{{{:x}}}", tail[0]).as_bytes());
                    rest = &tail[1..];
                }
                0x00..=0x1f | 0x7f => out.extend(std::ascii::escape_default(byte)),
                _ => out.push(byte),
            }
        }
        out
    }
}

/// A word or a line, as `handler_server_ack` gets it.
///
/// The enum is exhaustive: everything that a child prints is one of the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output<'a> {
    /// One of the three words.
    Word(Word),
    /// Anything else.
    Line(&'a Line),
}

/// A line that has begun and not ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct PartialLine {
    pub(crate) bytes: Vec<u8>,
    /// It is longer than what is delivered at once, and its beginning was.
    pub(crate) is_piece: bool,
    /// An empty line has come before.
    pub(crate) empty_held: bool,
}

/// Cuts a stream of bytes into words and lines. The result does not depend on how reads split the
/// stream.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    words: Option<CommWords>,
    line: Line,
    /// An empty line has come, which is dropped if a word follows: a child begins each message with
    /// a newline, in case that its output before was left unfinished.
    empty_held: bool,
}

impl Framer {
    /// The capacity that is kept between lines. A larger buffer is freed, so that one long line
    /// does not cost memory for as long as the child lives.
    const KEEP: usize = 4096;

    /// A framer for a stream in which lines that equal one of `words` are words; `None` for a
    /// stream without words.
    pub(crate) fn new(words: Option<CommWords>) -> Self {
        Self {
            words,
            ..Self::default()
        }
    }

    /// A framer that goes on where one of another program has stopped.
    pub(crate) fn restored(words: Option<CommWords>, begun: &PartialLine) -> Self {
        let mut framer = Self::new(words);
        let length = begun.bytes.len().min(Line::MAX);
        framer.line.bytes.extend_from_slice(&begun.bytes[..length]);
        framer.line.piece = begun.is_piece;
        framer.empty_held = begun.empty_held && framer.words.is_some();
        framer
    }

    /// The line that has begun and not ended, for another program.
    pub(crate) fn begun(&self) -> PartialLine {
        PartialLine {
            bytes: self.line.bytes.clone(),
            is_piece: self.line.piece,
            empty_held: self.empty_held,
        }
    }

    /// The length and the capacity of its buffer.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.line.bytes.len(), self.line.bytes.capacity())
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Output<'_>)) {
        while let Some(at) = bytes.iter().position(|&byte| byte == b'\n') {
            self.append(&bytes[..at], &mut emit);
            self.end_line(&mut emit);
            bytes = &bytes[at + 1..];
        }
        self.append(bytes, &mut emit);
    }

    /// Whether a line has begun that is not complete.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.words.is_some() && !self.line.bytes.is_empty()
    }

    /// Ends the stream. The rest that is left is a line, never a word.
    pub(crate) fn finish(&mut self, mut emit: impl FnMut(Output<'_>)) {
        self.release_empty(&mut emit);
        if !self.line.bytes.is_empty() {
            self.emit_line(true, &mut emit);
        }
    }

    fn append(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(Output<'_>)) {
        while self.line.bytes.len() + bytes.len() > Line::MAX {
            let (head, tail) = bytes.split_at(Line::MAX - self.line.bytes.len());
            self.line.bytes.extend_from_slice(head);
            self.line.piece = true;
            self.release_empty(emit);
            self.emit_line(false, emit);
            bytes = tail;
        }
        self.line.bytes.extend_from_slice(bytes);
    }

    fn end_line(&mut self, emit: &mut impl FnMut(Output<'_>)) {
        if let Some(word) = self.word() {
            self.line.bytes.clear();
            self.empty_held = false;
            return emit(Output::Word(word));
        }
        self.release_empty(emit);
        if self.words.is_some() && self.line.bytes.is_empty() && !self.line.piece {
            self.empty_held = true;
        } else {
            self.emit_line(true, emit);
        }
    }

    /// The word that the line is, if it is one. A piece of a long line is never a word.
    fn word(&self) -> Option<Word> {
        match *self.line.bytes {
            [byte] if !self.line.piece => self.words?.word(byte),
            _ => None,
        }
    }

    fn release_empty(&mut self, emit: &mut impl FnMut(Output<'_>)) {
        if std::mem::take(&mut self.empty_held) {
            emit(Output::Line(&Line::whole([])));
        }
    }

    fn emit_line(&mut self, last: bool, emit: &mut impl FnMut(Output<'_>)) {
        self.line.last = last;
        emit(Output::Line(&self.line));
        self.line.bytes.clear();
        self.line.bytes.shrink_to(Self::KEEP);
        self.line.piece = !last;
    }
}

#[cfg(test)]
mod tests;
