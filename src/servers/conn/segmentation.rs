//! What must hold for every filter: the records do not depend on where reads split the input, none
//! is longer than the limit, and nothing is lost or invented. For tests and for fuzzing; touches no
//! connection.

use super::{
    BlockFilter, Filter, LineEnd, LineFilter, Session, StreamFilter, peer::Peer, pump::ConnStep,
};
use crate::core::cut::cut;

/// Everything that a session finds in `pieces`, which arrive one by one: records, and errors.
pub(super) fn records_of(
    mut session: Session,
    pieces: &[&[u8]],
    mut on: impl FnMut(&mut Session, usize),
) -> Vec<String> {
    let mut found = Vec::new();
    let mut buffer = Vec::new();
    for (turn, piece) in pieces.iter().enumerate() {
        session.received(piece);
        if turn + 1 == pieces.len() {
            session.input_ended();
        }
        while let Some(step) = session.next_step(&mut buffer) {
            match step {
                ConnStep::Input => {
                    found.push(buffer.escape_ascii().to_string());
                    on(&mut session, found.len());
                }
                ConnStep::Error(operation, error) => found.push(format!("{operation}: {error}")),
                _ => {}
            }
        }
    }
    found.push(format!("left: {}", session.pending_input().escape_ascii()));
    found
}

pub(super) fn session(filter: impl Filter + 'static) -> Session {
    let mut session = Session::new(1, Peer::default());
    session.set_filter(filter);
    session
}

/// The filters by number. `StreamFilter` is not among them: its records depend on the reads.
pub(super) fn set(session: &mut Session, filter: u8) {
    match filter {
        0 => session.set_filter(LineFilter::lf()),
        1 => session.set_filter(LineFilter::crlf()),
        2 => session.set_filter(LineFilter::autodetect()),
        3 => session.set_filter(BlockFilter::new(3)),
        4 => session.set_filter(BlockFilter::new(1)),
        _ => session.set_filter(LineFilter::new(LineEnd::Cr)),
    }
}

/// Input: the limit, the filters that take turns after each record, the lengths of the pieces, and the
/// bytes that arrive.
pub fn filters(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == 0xff);
    let mut part = || parts.next().unwrap_or(&[]);
    let (limit, numbers, lengths, bytes) = (part(), part(), part(), part());
    let limit = match limit {
        [] => Session::INPUT_LIMIT,
        [limit, ..] => 1 + usize::from(*limit),
    };
    let numbers = if numbers.is_empty() {
        &[0][..]
    } else {
        numbers
    };
    let run = |pieces: &[&[u8]]| {
        let mut session = session(StreamFilter);
        session.set_input_limit(limit);
        set(&mut session, numbers[0] % 6);
        records_of(session, pieces, |session, found| {
            set(session, numbers[found % numbers.len()] % 6);
        })
    };
    let whole = run(&[bytes]);
    assert_eq!(run(&cut(bytes, lengths)), whole, "in pieces");
    if bytes.len() < 1024 {
        assert_eq!(run(&cut(bytes, &[1])), whole, "byte by byte");
    }
    for (number, end) in [(0, &b"\n"[..]), (1, b"\r\n"), (3, b""), (5, b"\r")] {
        check_nothing_is_lost(|session| set(session, number), end, limit, bytes, lengths);
    }
    let stream = |session: &mut Session| session.set_filter(StreamFilter);
    check_nothing_is_lost(stream, b"", limit, bytes, lengths);
}

/// With one filter all the time, the records with their ends and what is left are the input, up to the
/// first record that is too long.
fn check_nothing_is_lost(
    set: impl Fn(&mut Session),
    end: &[u8],
    limit: usize,
    bytes: &[u8],
    lengths: &[u8],
) {
    let mut session = session(StreamFilter);
    session.set_input_limit(limit);
    set(&mut session);
    let (mut joined, mut buffer) = (Vec::new(), Vec::new());
    for piece in cut(bytes, lengths) {
        session.received(piece);
        while let Some(step) = session.next_step(&mut buffer) {
            if matches!(step, ConnStep::Input) {
                let length = buffer.len() + end.len();
                assert!(length <= limit, "a record of {length} bytes");
                joined.extend_from_slice(&buffer);
                joined.extend_from_slice(end);
            }
        }
    }
    joined.extend_from_slice(session.pending_input());
    assert_eq!(
        joined.escape_ascii().to_string(),
        bytes.escape_ascii().to_string()
    );
}
