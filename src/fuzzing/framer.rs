//! The framer: its output does not depend on where reads split the stream, equals that of a simple
//! parser of the whole stream, and its memory stays within the limit of a line.

use super::FuzzInput;
use crate::core::cut::{cut, cut_by};
use crate::core::wire::{CommWords, Framer, Line, Output, Word};

#[derive(Clone, Debug, Eq, PartialEq)]
enum Framed {
    Word(Word),
    Line {
        bytes: Vec<u8>,
        piece: bool,
        last: bool,
    },
}

impl From<Output<'_>> for Framed {
    fn from(output: Output<'_>) -> Self {
        match output {
            Output::Word(word) => Self::Word(word),
            Output::Line(line) => Self::Line {
                bytes: line.bytes().to_vec(),
                piece: line.is_piece(),
                last: line.is_last(),
            },
        }
    }
}

/// Input: a byte for the words (and whether lines are blown up to the limit), the lengths of the
/// pieces, the stream.
pub fn framer(data: &[u8]) {
    let mut input = FuzzInput(data);
    let choice = input.byte();
    let words = match choice & 3 {
        0 => None,
        1 => Some(CommWords::CONTROL),
        2 => Some(CommWords::POE),
        _ => CommWords::new(input.byte(), input.byte(), input.byte()),
    };
    let lengths = input.bytes();
    let blown_up = choice & 4 != 0;
    let stream = stream(input.rest(), blown_up);
    // The limit of a line is not a multiple of this unit.
    let unit = if blown_up { 251 } else { 1 };
    let expected = expected(&stream, words);
    assert_eq!(
        found(&cut_by(&stream, lengths, unit), words),
        expected,
        "in pieces"
    );
    assert_eq!(found(&[&stream], words), expected, "in one piece");
    if stream.len() < 1024 {
        assert_eq!(found(&cut(&stream, &[1]), words), expected, "byte by byte");
    }
}

/// The bytes themselves or, blown up, with a line of about the longest length for each of some of
/// them, and of about twice that for some others.
fn stream(bytes: &[u8], blown_up: bool) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut room = 3;
    for &byte in bytes {
        let times = match byte {
            0xe0..=0xef => 1,
            0xf0..=0xff => 2,
            _ => 0,
        };
        if blown_up && times > 0 && room > 0 {
            room -= 1;
            let length = times * Line::MAX - 8 + usize::from(byte & 15);
            stream.extend(std::iter::repeat_n(b'x', length));
        } else {
            stream.push(byte);
        }
    }
    stream
}

fn found(pieces: &[&[u8]], words: Option<CommWords>) -> Vec<Framed> {
    let mut framer = Framer::new(words);
    let mut outputs = Vec::new();
    for piece in pieces {
        framer.feed(piece, |output| outputs.push(output.into()));
        let (length, room) = framer.held();
        assert!(length <= Line::MAX, "{length} bytes held");
        // A buffer grows to twice what it needs at most.
        assert!(room <= 2 * Line::MAX, "room for {room} bytes");
    }
    framer.finish(|output| outputs.push(output.into()));
    outputs
}

/// The expected output, from the whole stream: lines and words, without the empty line before a
/// word, and with long lines cut.
fn expected(stream: &[u8], words: Option<CommWords>) -> Vec<Framed> {
    let mut outputs = Vec::new();
    let mut lines: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    let tail = lines.pop().unwrap_or(&[]);
    // Whether the last line is empty, and is dropped if a word follows.
    let mut droppable = false;
    for line in lines {
        let word = match (line, words) {
            ([byte], Some(words)) => words.word(*byte),
            _ => None,
        };
        if let Some(word) = word {
            if droppable {
                outputs.pop();
            }
            outputs.push(Framed::Word(word));
        } else {
            push_line(&mut outputs, line);
        }
        droppable = word.is_none() && line.is_empty() && words.is_some();
    }
    if !tail.is_empty() {
        push_line(&mut outputs, tail);
    }
    outputs
}

fn push_line(outputs: &mut Vec<Framed>, line: &[u8]) {
    let count = line.len().div_ceil(Line::MAX).max(1);
    for index in 0..count {
        let from = index * Line::MAX;
        let to = line.len().min(from + Line::MAX);
        outputs.push(Framed::Line {
            bytes: line[from..to].to_vec(),
            piece: count > 1,
            last: index + 1 == count,
        });
    }
}
