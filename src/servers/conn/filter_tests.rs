//! The filters, without a connection: the records do not depend on where reads split the input, and
//! nothing is lost when one filter replaces another.

use super::{
    BlockFilter, Filter, Input, LineEnd, LineFilter, Record, Session, StreamFilter,
    pump::ConnStep,
    segmentation::{records_of, session, set},
};
use proptest::{collection::vec, prelude::*};
use std::io;

fn records(filter: impl Filter + 'static, bytes: &[u8]) -> Vec<String> {
    records_of(session(filter), &[bytes], |_, _| {})
}

const END: &str = "read: Success (os error 0)";

#[test]
fn lines_end_in_what_was_said_and_in_nothing_else() {
    let bytes = b"a\nb\r\n\r\nc\rd";
    assert_eq!(
        records(LineFilter::lf(), bytes),
        ["a", "b\\r", "\\r", END, "left: c\\rd"]
    );
    assert_eq!(
        records(LineFilter::crlf(), bytes),
        ["a\\nb", "", END, "left: c\\rd"]
    );
    assert_eq!(
        records(LineFilter::new(LineEnd::Cr), bytes),
        ["a\\nb", "\\n", "\\nc", END, "left: d"]
    );
}

#[test]
fn the_first_line_decides_where_lines_end() {
    for (bytes, lines, end) in [
        (&b"a\nb\r\n"[..], ["a", "b\\r"], Some(LineEnd::Lf)),
        (b"a\r\nb\nc\r\n", ["a", "b\\nc"], Some(LineEnd::CrLf)),
        (b"a\rb\nc\r", ["a", "b\\nc"], Some(LineEnd::Cr)),
        (b"\r\nb\r\n", ["", "b"], Some(LineEnd::CrLf)),
    ] {
        let found = records(LineFilter::autodetect(), bytes);
        assert_eq!(found, [lines[0], lines[1], END, "left: "], "{bytes:?}");
        let mut filter = LineFilter::autodetect();
        let first = filter.next(&Input::new(bytes)).unwrap();
        assert!(first.is_some());
        assert_eq!(filter.line_end(), end);
        let mut out = Vec::new();
        filter.put(b"x", &mut out).unwrap();
        assert_eq!(&out[1..], end.unwrap().bytes());
    }
}

#[test]
fn a_carriage_return_at_the_end_decides_nothing_yet() {
    let mut filter = LineFilter::autodetect();
    assert_eq!(filter.next(&Input::new(b"a\r")).unwrap(), None);
    let mut out = Vec::new();
    filter.put(b"x", &mut out).unwrap();
    assert_eq!(out, b"x\r\n", "before it is known");
    let again = Input::part(b"a\r\n", 2, usize::MAX);
    assert_eq!(filter.next(&again).unwrap(), Some(Record::new(0..1, 3)));
}

#[test]
fn blocks_and_streams_are_what_they_say() {
    assert_eq!(
        records(BlockFilter::new(3), b"abcdefgh"),
        ["abc", "def", END, "left: gh"]
    );
    assert_eq!(BlockFilter::new(0).size(), 1);
    assert_eq!(
        records(StreamFilter, b"a\nb\r\n"),
        ["a\\nb\\r\\n", END, "left: "]
    );
    let mut small = session(StreamFilter);
    small.set_input_limit(4);
    assert_eq!(
        records_of(small, &[b"abcdefghij"], |_, _| {}),
        ["abcd", "efgh", "ij", END, "left: "],
        "a stream has no record that could be too long"
    );
    for mut filter in [
        Box::new(BlockFilter::new(3)) as Box<dyn Filter>,
        Box::new(StreamFilter),
    ] {
        let mut out = b"before ".to_vec();
        filter.put(b"as it is", &mut out).unwrap();
        assert_eq!(out, b"before as it is");
    }
}

/// Returns the records that the test has set.
struct Liar(Record);

impl Filter for Liar {
    fn next(&mut self, _: &Input<'_>) -> io::Result<Option<Record>> {
        Ok(Some(self.0.clone()))
    }
    fn put(&mut self, _: &[u8], _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_record_that_is_not_in_the_input_is_an_error_and_no_panic() {
    #[expect(clippy::reversed_empty_ranges, reason = "that is the fault")]
    for record in [
        Record::new(0..0, 0),
        Record::new(0..9, 9),
        Record::new(0..3, 2),
        Record::new(2..1, 3),
    ] {
        let found = records(Liar(record), b"abc");
        assert_eq!(
            found[0],
            "read: the filter found a record that is not in the input",
        );
    }
}

fn filters() -> impl Strategy<Value = u8> {
    0..6u8
}

/// Cuts `bytes` at the given places.
fn cut<'a>(bytes: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = at.iter().map(|at| at % (bytes.len() + 1)).collect();
    at.sort_unstable();
    at.push(bytes.len());
    let mut from = 0;
    let mut piece = |to| {
        let piece = &bytes[from..to];
        from = to;
        piece
    };
    at.into_iter().map(&mut piece).collect()
}

/// Random bytes with many line ends.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\n'), Just(b'\r'), b'a'..b'e', any::<u8>()];
    vec(byte, 0..60)
}

proptest! {
    #[test]
    fn segmentation_makes_no_difference(
        bytes in text(),
        at in vec(0..1000usize, 0..12),
        filters in vec(filters(), 1..5),
        limit in prop_oneof![Just(Session::INPUT_LIMIT), 1..20usize],
    ) {
        // The filter changes after each record, with and without more input.
        let run = |pieces: &[&[u8]]| {
            let mut session = session(StreamFilter);
            session.set_input_limit(limit);
            set(&mut session, filters[0]);
            let filters = filters.clone();
            records_of(session, pieces, move |session, found| {
                set(session, filters[found % filters.len()]);
            })
        };
        prop_assert_eq!(run(&cut(&bytes, &at)), run(&[&bytes]));
    }

    #[test]
    fn nothing_is_lost_and_nothing_invented(bytes in text(), at in vec(0..1000usize, 0..12)) {
        let mut pieces = Vec::new();
        for (filter, end) in [(0, &b"\n"[..]), (1, b"\r\n"), (3, b""), (5, b"\r")] {
            pieces.clear();
            let mut session = session(StreamFilter);
            set(&mut session, filter);
            let mut buffer = Vec::new();
            for piece in cut(&bytes, &at) {
                session.received(piece);
                while let Some(step) = session.next_step(&mut buffer) {
                    if matches!(step, ConnStep::Input) {
                        pieces.extend_from_slice(&buffer);
                        pieces.extend_from_slice(end);
                    }
                }
            }
            pieces.extend_from_slice(session.pending_input());
            prop_assert_eq!(&pieces, &bytes, "filter {}", filter);
        }
    }

    #[test]
    fn what_is_put_is_what_the_other_end_finds(lines in vec("[^\r\n]{0,20}", 1..6), which in 0..3u8) {
        let mut filter = match which {
            0 => LineFilter::lf(),
            1 => LineFilter::crlf(),
            _ => LineFilter::new(LineEnd::Cr),
        };
        let mut wire = Vec::new();
        for line in &lines {
            filter.put(line.as_bytes(), &mut wire).unwrap();
        }
        let mut expected: Vec<_> = lines.iter().map(|line| line.as_bytes().escape_ascii().to_string()).collect();
        expected.extend([END.to_owned(), "left: ".to_owned()]);
        prop_assert_eq!(records(filter, &wire), expected);
    }
}

/// Decodes runs of bytes, a digit and a byte each (`3a2b`): the records are not in the input and
/// may be longer than it, and a space makes no record.
#[derive(Default)]
struct Unpacking {
    /// What is left of a run: records of two bytes at most.
    run: Vec<u8>,
}

impl Filter for Unpacking {
    fn next(&mut self, input: &Input<'_>) -> io::Result<Option<Record>> {
        if !self.run.is_empty() {
            let rest = self.run.split_off(self.run.len().min(2));
            return Ok(Some(Record::made(
                std::mem::replace(&mut self.run, rest),
                0,
            )));
        }
        match *input.bytes() {
            [b' ', ..] => Ok(Some(Record::nothing(1))),
            [b'0', _, ..] => Ok(Some(Record::made("", 2))),
            [b'!', ..] => Ok(Some(Record::made("", 0))),
            [digit @ b'1'..=b'9', byte, ..] => {
                self.run = vec![byte; usize::from(digit - b'0')];
                let head = self.run.split_off(self.run.len().saturating_sub(2));
                Ok(Some(Record::made(head, 2)))
            }
            _ => Ok(None),
        }
    }

    fn put(&mut self, record: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        output.extend_from_slice(record);
        Ok(())
    }
}

/// A filter may return bytes that are not in the input: several records for one piece of input,
/// none for another.
#[test]
fn a_filter_hands_on_what_it_has_made() {
    let right = ["aa", "aa", "a", "b", "", "cc", END, "left: 7"];
    assert_eq!(records(Unpacking::default(), b"5a 1b  0x2c 7"), right);
    for cut in 1..12 {
        let bytes = b"5a 1b  0x2c 7";
        let pieces = [&bytes[..cut], &bytes[cut..]];
        let found = records_of(session(Unpacking::default()), &pieces, |_, _| {});
        assert_eq!(found, right, "cut at {cut}");
    }
}

/// The input limit bounds decoded records too; input that makes no record does not count.
#[test]
fn what_a_filter_has_made_is_limited_as_well() {
    let mut limited = session(Unpacking::default());
    limited.set_input_limit(1);
    let found = records_of(limited, &[b"1a"], |_, _| {});
    assert!(found[0].contains("input limit of 1 bytes"), "{found:?}");
    let mut limited = session(Unpacking::default());
    limited.set_input_limit(2);
    let found = records_of(limited, &[&[b' '; 1000], b"2a"], |_, _| {});
    assert_eq!(found, ["aa", END, "left: "]);
}

/// A filter that makes no progress is an error, not an endless loop.
#[test]
fn a_record_that_takes_nothing_and_is_nothing_is_refused() {
    let found = records(Unpacking::default(), b"!");
    assert!(found[0].contains("not in the input"), "{found:?}");
}
