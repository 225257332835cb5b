//! The wire between child and parent: the three words, and the framer that finds words and lines
//! in a stream of bytes. Bytes in, events out; reads and writes nothing itself.

mod entry;

pub(crate) use self::entry::Entry;

use std::fmt::{self, Write as _};

/// "I am alive": prints as ACK (0x06).
pub const COMM_ACK: Word = Word::Ack;
/// "I have a connection in hand": prints as XOFF (0x13).
pub const COMM_BUSY: Word = Word::Busy;
/// "I can take one": prints as XON (0x11).
pub const COMM_NOT_BUSY: Word = Word::NotBusy;

/// What a child can say. `println!("{COMM_ACK}")` in a child is an ACK.
///
/// There are three words, and a fourth would be another protocol: match them all.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Word {
    /// The child is alive.
    Ack,
    /// The child serves a connection.
    Busy,
    /// The child waits for one.
    NotBusy,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char(char::from(CommWords::CONTROL.byte(*self)))
    }
}

/// Which byte stands for which word, on a line of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CommWords {
    ack: u8,
    busy: u8,
    not_busy: u8,
}

impl CommWords {
    /// Control characters that say what they mean and that no program prints by accident: ACK,
    /// XOFF, XON. The default.
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

    /// Words of one's own; `None` unless the three bytes differ and none is a newline.
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

/// A line that a child printed, without its newline, or a piece of one that was too long.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Line {
    bytes: Vec<u8>,
    piece: bool,
    last: bool,
}

impl Line {
    /// The longest line that is delivered whole, in bytes.
    pub const MAX: usize = 64 * 1024;

    /// A whole line, for a hook's test.
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

    /// Whether the line ends here: true but for the pieces before the last.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// The bytes with control characters escaped, fit for a terminal or a log: nothing in it can
    /// pass for a second line or move a cursor. Everything else is as written.
    pub fn escaped(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len());
        let mut rest = self.bytes.as_slice();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                // In UTF-8 the C1 controls are C2 80 to C2 9F; a terminal obeys them as well.
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

/// What the framer found, and what `handler_server_ack` is called with.
///
/// Whatever a child prints is one of the two: match them both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output<'a> {
    /// One of the three words.
    Word(Word),
    /// Anything else.
    Line(&'a Line),
}

/// Cuts a stream of bytes into words and lines. Where the stream was split by the reads makes no
/// difference to what comes out.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    words: Option<CommWords>,
    line: Line,
    /// An empty line has come that is dropped if a word follows: a child begins each message with
    /// a newline, so that output left unfinished before it is not lost with the word.
    empty_held: bool,
}

impl Framer {
    /// Room that is kept between lines; more is given back, so that one long line does not cost
    /// memory for the rest of a child's life.
    const KEEP: usize = 4096;

    /// A framer for a stream in which lines that equal one of `words` are words; `None` where no
    /// words are spoken.
    pub(crate) fn new(words: Option<CommWords>) -> Self {
        Self {
            words,
            ..Self::default()
        }
    }

    /// How many bytes it keeps, and how many it has room for.
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

    /// Whether a line has begun in which a word would be the end of it.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.words.is_some() && !self.line.bytes.is_empty()
    }

    /// The stream has ended: what is left of it is output, and never a word.
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

    /// The word that the line is. A piece never is one, whatever the cut left of it.
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
