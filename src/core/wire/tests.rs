//! The framer against an oracle that has the whole stream. The escaping of lines is in `escaping`.

mod escaping;

use super::*;
use proptest::prelude::*;

/// The framer's output, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Framed {
    Word(Word),
    Line(Line),
}

fn note(found: &mut Vec<Framed>) -> impl FnMut(Output<'_>) + '_ {
    |output| {
        found.push(match output {
            Output::Word(word) => Framed::Word(word),
            Output::Line(line) => Framed::Line(line.clone()),
        });
    }
}

/// Frames a stream that arrives in these segments.
fn frame<'a>(
    words: Option<CommWords>,
    segments: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Framed> {
    let mut framer = Framer::new(words);
    let mut found = Vec::new();
    for segment in segments {
        framer.feed(segment, note(&mut found));
    }
    framer.finish(note(&mut found));
    found
}

fn whole(words: CommWords, stream: &[u8]) -> Vec<Framed> {
    frame(Some(words), [stream])
}

fn control(stream: &[u8]) -> Vec<Framed> {
    whole(CommWords::CONTROL, stream)
}

fn line(bytes: impl Into<Vec<u8>>) -> Framed {
    Framed::Line(Line::whole(bytes))
}

fn piece(bytes: impl Into<Vec<u8>>, last: bool) -> Framed {
    Framed::Line(Line {
        bytes: bytes.into(),
        piece: true,
        last,
    })
}

const ACK: Framed = Framed::Word(Word::Ack);
const BUSY: Framed = Framed::Word(Word::Busy);
const NOT_BUSY: Framed = Framed::Word(Word::NotBusy);

/// The wire as the design describes it, with the whole stream in hand.
fn oracle(words: Option<CommWords>, stream: &[u8]) -> Vec<Framed> {
    let mut lines: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
    let tail = lines.pop().unwrap();
    let as_word = |line: &[u8]| match line {
        [byte] => words.and_then(|words| words.word(*byte)),
        _ => None,
    };
    let cut = |line: &[u8]| -> Vec<Framed> {
        let pieces: Vec<_> = line.chunks(Line::MAX).collect();
        match pieces[..] {
            [] | [_] => vec![Framed::Line(Line::whole(line))],
            _ => pieces
                .iter()
                .enumerate()
                .map(|(n, &bytes)| piece(bytes, n + 1 == pieces.len()))
                .collect(),
        }
    };
    let mut found = Vec::new();
    for (n, &line) in lines.iter().enumerate() {
        let word_follows = lines
            .get(n + 1)
            .is_some_and(|&next| as_word(next).is_some());
        match as_word(line) {
            Some(word) => found.push(Framed::Word(word)),
            None if line.is_empty() && word_follows => {}
            None => found.extend(cut(line)),
        }
    }
    if !tail.is_empty() {
        found.extend(cut(tail));
    }
    found
}

#[test]
fn a_word_is_a_line_of_its_own() {
    assert_eq!(control(b"\x06\n\x13\n\x11\n"), [ACK, BUSY, NOT_BUSY]);
    assert_eq!(control(b"x\x06\n"), [line("x\x06")]);
    assert_eq!(control(b"\x06x\n"), [line("\x06x")]);
    assert_eq!(control(b" \x06\n"), [line(" \x06")]);
    assert_eq!(control(b"\x06\x06\n"), [line("\x06\x06")]);
}

#[test]
fn what_comm_writes_after_unfinished_output_loses_neither() {
    assert_eq!(control(b"abc\n\x06\n"), [line("abc"), ACK]);
    assert_eq!(control(b"abc\n\n\x06\n"), [line("abc"), ACK]);
    assert_eq!(control(b"\n\x06\n\x11\n"), [ACK, NOT_BUSY]);
}

#[test]
fn exactly_one_empty_line_before_a_word_is_dropped() {
    assert_eq!(control(b"\n\x06\n"), [ACK]);
    assert_eq!(control(b"\n\n\x06\n"), [line(""), ACK]);
    assert_eq!(control(b"\n\x06\n\n\x06\n"), [ACK, ACK]);
    assert_eq!(
        control(b"\n\x06\n\x06\n\n\n"),
        [ACK, ACK, line(""), line("")]
    );
    assert_eq!(control(b"\na\n\x06\n"), [line(""), line("a"), ACK]);
    assert_eq!(control(b"\n"), [line("")]);
    assert_eq!(control(b"\n\x06"), [line(""), line("\x06")]);
}

#[test]
fn a_word_followed_by_cr_is_output() {
    assert_eq!(control(b"\x06\r\n\r\n"), [line("\x06\r"), line("\r")]);
    assert_eq!(control(b"\r\x13\n"), [line("\r\x13")]);
}

#[test]
fn a_tail_at_the_end_is_output_and_never_a_word() {
    assert_eq!(control(b"\x06"), [line("\x06")]);
    assert_eq!(control(b"\n\n\x13"), [line(""), line(""), line("\x13")]);
    assert_eq!(control(b"ab"), [line("ab")]);
    assert_eq!(control(b""), []);
}

#[test]
fn each_set_of_words_is_deaf_to_the_other() {
    assert_eq!(whole(CommWords::POE, b"1\n2\n3\n"), [ACK, BUSY, NOT_BUSY]);
    assert_eq!(
        whole(CommWords::POE, b"\x06\n12\n"),
        [line("\x06"), line("12")]
    );
    assert_eq!(control(b"1\n"), [line("1")]);
    let own = CommWords::new(b'a', b'b', b'\r').unwrap();
    assert_eq!(whole(own, b"a\nb\n\r\n"), [ACK, BUSY, NOT_BUSY]);
}

#[test]
fn where_no_words_are_spoken_everything_is_a_line_at_once() {
    assert_eq!(
        frame(None, [b"\n\x06\n1\n".as_slice()]),
        [line(""), line("\x06"), line("1")]
    );
    let mut framer = Framer::new(None);
    let mut found = Vec::new();
    framer.feed(b"\n", note(&mut found));
    assert_eq!(found, [line("")], "no empty line is held back");
}

#[test]
fn words_must_differ_and_be_no_newline() {
    assert_eq!(CommWords::new(1, 1, 2), None);
    assert_eq!(CommWords::new(1, 2, 1), None);
    assert_eq!(CommWords::new(2, 1, 1), None);
    for place in 0..3 {
        let mut bytes = [1, 2, 3];
        bytes[place] = b'\n';
        assert_eq!(CommWords::new(bytes[0], bytes[1], bytes[2]), None);
    }
    assert_eq!(CommWords::new(0x06, 0x13, 0x11), Some(CommWords::CONTROL));
    assert_eq!(CommWords::default(), CommWords::CONTROL);
}

#[test]
fn a_word_prints_as_its_byte() {
    assert_eq!(
        format!("{COMM_ACK}{COMM_BUSY}{COMM_NOT_BUSY}").as_bytes(),
        [0x06, 0x13, 0x11]
    );
    for words in [CommWords::CONTROL, CommWords::POE] {
        for word in [Word::Ack, Word::Busy, Word::NotBusy] {
            assert_eq!(words.word(words.byte(word)), Some(word));
        }
    }
}

/// A line of more than 64 KiB is delivered in pieces, which are marked, as is the last one.
#[test]
fn c03_long_lines_come_in_pieces_that_are_marked() {
    const MAX: usize = Line::MAX;
    let a = |n: usize| vec![b'a'; n];
    let framed = |n: usize| control(&[a(n), b"\n".to_vec()].concat());
    assert_eq!(framed(MAX), [line(a(MAX))]);
    assert_eq!(framed(MAX + 1), [piece(a(MAX), false), piece(a(1), true)]);
    assert_eq!(framed(2 * MAX), [piece(a(MAX), false), piece(a(MAX), true)]);
    let million = framed(1 << 20);
    assert_eq!(million.len(), 16);
    for (n, found) in million.iter().enumerate() {
        assert_eq!(*found, piece(a(MAX), n == 15), "piece {n}");
    }
    // Without a newline, to the end of the stream.
    assert_eq!(control(&a(MAX + 1)), framed(MAX + 1));
    // The next line is no piece.
    let next = control(&[a(MAX + 1), b"\nb\n".to_vec()].concat());
    assert_eq!(next.last(), Some(&line("b")));
}

/// A line has all bytes from newline to newline, including NUL.
#[test]
fn c04_a_nul_byte_is_a_byte() {
    assert_eq!(
        control(b"\0\na\0b\n\0\x06\n\x06\0\n\x06\n\0"),
        [
            line("\0"),
            line("a\0b"),
            line("\0\x06"),
            line("\x06\0"),
            ACK,
            line("\0")
        ]
    );
}

/// The parent does not decode what it reads: words are compared as bytes, and a line is passed on
/// byte by byte, whether it is UTF-8 or not.
#[test]
fn c05_every_byte_and_every_broken_sequence_comes_as_it_is() {
    for byte in 0..=u8::MAX {
        if byte == b'\n' || CommWords::CONTROL.word(byte).is_some() {
            continue;
        }
        assert_eq!(control(&[byte, b'\n']), [line([byte])]);
        assert_eq!(control(&[b'\xe4', byte, b'\n']), [line([b'\xe4', byte])]);
    }
    // A sequence that is cut where a long line is cut, and one that a newline cuts.
    let long = [vec![b'a'; Line::MAX - 1], "\u{20ac}\n".into()].concat();
    let first = [&long[..Line::MAX - 1], b"\xe2"].concat();
    assert_eq!(
        control(&long),
        [piece(first, false), piece(b"\x82\xac", true)]
    );
    assert_eq!(
        control(b"\xf0\x9f\n\x98"),
        [line(b"\xf0\x9f"), line(b"\x98")]
    );
}

/// The same lines and words come out wherever a newline is: also at the edge of a read or of the
/// longest line.
#[test]
fn c12_a_newline_at_any_edge_ends_the_line_there() {
    const MAX: usize = Line::MAX;
    let edges = [0, 4096, MAX, MAX + 4096, 2 * MAX];
    let around = edges.map(|edge| edge.saturating_sub(4)..edge + 5);
    for offset in around.into_iter().flatten() {
        let mut stream = vec![b'a'; offset];
        stream.extend(b"\n\x06\n\n\x13\nrest");
        let expected = oracle(Some(CommWords::CONTROL), &stream);
        assert_eq!(expected.last(), Some(&line("rest")));
        for size in [1, 4095, 4096, MAX] {
            let framed = frame(Some(CommWords::CONTROL), stream.chunks(size));
            assert_eq!(framed, expected, "at {offset}, read by {size}");
        }
    }
}

/// A word is a line of its own: the end of a long line that was cut is not a word, even if it is
/// the same byte.
#[test]
fn c12_a_cut_never_makes_a_word() {
    for n in [Line::MAX, 2 * Line::MAX] {
        let a = vec![b'a'; n];
        let found = control(&[&a[..], b"\x06\n"].concat());
        assert_eq!(found.last(), Some(&piece("\x06", true)));
        // The same with the cut where one read ends and the next begins.
        let split = frame(Some(CommWords::CONTROL), [&a[..], b"\x06", b"\n"]);
        assert_eq!(split, found);
        // A word on the line after it is a word.
        let after = control(&[&a[..], b"\x06\n\n\x13\n"].concat());
        assert_eq!(after[after.len() - 2..], [piece("\x06", true), BUSY]);
    }
}

/// However long a line is, the framer holds at most twice the size of a piece, and frees it when
/// the line ends.
#[test]
fn c03_the_longest_line_costs_bounded_memory_and_gives_it_back() {
    let mut framer = Framer::new(Some(CommWords::CONTROL));
    let (mut bytes, mut highest) = (0, 0);
    for _ in 0..256 {
        framer.feed(&[b'x'; 4096], |output| {
            if let Output::Line(line) = output {
                bytes += line.bytes().len();
            }
        });
        highest = highest.max(framer.line.bytes.capacity());
    }
    assert!(bytes >= (1 << 20) - Line::MAX);
    assert!(highest <= 2 * Line::MAX, "{highest} bytes for one line");
    framer.feed(b"\n", |_| ());
    assert!(framer.line.bytes.capacity() <= Framer::KEEP);
    // One read that brings the whole line does not grow the buffer either.
    framer.feed(&vec![b'x'; 1 << 20], |_| ());
    assert!(framer.line.bytes.capacity() <= 2 * Line::MAX);
}

/// Bytes with many of those that matter to the framer.
fn wire_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        6 => Just(b'\n'),
        2 => Just(0x06),
        2 => Just(0x13),
        2 => Just(0x11),
        1 => Just(b'\r'),
        1 => Just(b'1'),
        2 => any::<u8>(),
    ]
}

/// Streams of short lines, sometimes with a run about as long as the longest line.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let short = prop::collection::vec(wire_byte(), 0..40);
    let long = (Line::MAX - 2..Line::MAX + 3, wire_byte())
        .prop_map(|(length, last)| [vec![b'a'; length], vec![last]].concat());
    prop::collection::vec(prop_oneof![12 => short, 1 => long], 0..8)
        .prop_map(|parts| parts.concat())
}

fn any_words() -> impl Strategy<Value = Option<CommWords>> {
    prop_oneof![
        Just(Some(CommWords::CONTROL)),
        Just(Some(CommWords::POE)),
        Just(None)
    ]
}

/// Cuts a stream at these places.
fn segments<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.sort_unstable();
    places.push(stream.len());
    let mut from = 0;
    places
        .into_iter()
        .map(|to| &stream[std::mem::replace(&mut from, to)..to])
        .collect()
}

proptest! {
    /// Lines and words are assembled across reads: the same come out however a stream is cut.
    #[test]
    fn c02_any_segmentation_gives_the_same_events(
        stream in stream(),
        words in any_words(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let expected = oracle(words, &stream);
        prop_assert_eq!(&frame(words, [stream.as_slice()]), &expected);
        prop_assert_eq!(&frame(words, segments(&stream, &cuts)), &expected);
    }

    /// The same, when every read brings one byte.
    #[test]
    fn c02_byte_by_byte_gives_the_same_events(
        stream in prop::collection::vec(wire_byte(), 0..200),
        words in any_words(),
    ) {
        prop_assert_eq!(frame(words, stream.chunks(1)), oracle(words, &stream));
    }

    #[test]
    fn nothing_is_lost_but_newlines_and_the_empty_lines_before_words(stream in stream()) {
        let mut bytes = Vec::new();
        for found in frame(Some(CommWords::CONTROL), [stream.as_slice()]) {
            match found {
                Framed::Word(word) => bytes.push(CommWords::CONTROL.byte(word)),
                Framed::Line(line) => bytes.extend(line.bytes()),
            }
        }
        let written: Vec<u8> = stream.into_iter().filter(|&byte| byte != b'\n').collect();
        prop_assert_eq!(bytes, written);
    }
}
