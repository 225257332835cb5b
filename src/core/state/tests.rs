//! The bytes of states: what is written is read, also by the version before and after, and no bytes
//! lead anywhere but to a state or to a refusal.

use super::{
    frame::{
        FORMAT,
        testing::{resized, sealed, taken_apart, with_record},
    },
    *,
};
use crate::core::{
    child::{Reason, Signal, State},
    time::Time,
};
use proptest::prelude::*;
use std::{fs, path::PathBuf, time::Duration};

fn at(milliseconds: u64) -> Time {
    Time::at(Duration::from_millis(milliseconds))
}

/// A state in which every field has a value of its own.
pub(crate) fn full() -> Snapshot {
    let pipe = |fd| PipeState {
        fd: Some(fd),
        unfinished: b"half a li".to_vec(),
        is_piece: true,
        empty_held: true,
        left: 9,
    };
    let end = EndState {
        status: Some(256),
        out_of_memory: true,
        usage: Some(UsageState {
            user_time: Duration::from_micros(1),
            system_time: Duration::from_micros(2),
            max_resident: 3,
            minor_faults: 4,
            major_faults: 5,
            voluntary_switches: 6,
            involuntary_switches: 7,
        }),
    };
    let busy = ChildState {
        slot: 3,
        serial: 17,
        pid: 4711,
        state: Some(State::Retiring),
        epoch: 2,
        flags: 0x1_5555,
        start_time: at(5),
        last_ack: at(6),
        gaps_at_ack: Duration::from_millis(7),
        known_timeout: Some(Duration::MAX),
        busy_since: Some(at(8)),
        noted_requests: 9,
        said_requests: 10,
        killed_at: Some(at(11)),
        retirement: Some(RetirementState {
            reason: Some(Reason::Reloaded),
            at: at(12),
            kill_after: Some(Duration::from_secs(13)),
            kill_in_start_after: None,
            forks: 14,
        }),
        failing: Some(Duration::from_secs(1)),
        last_lines: EncodedList(vec![b"a line".to_vec(), Vec::new()]),
        pipes: EncodedList(vec![pipe(20), PipeState::default(), pipe(22)]),
        seen: Some(SeenState {
            entry: 1 << 40,
            printed: 2,
        }),
        group: 2,
        stop_signal: Some(Signal::Terminate),
        outlived: Some(EndState::default()),
        end: Some(end),
        stops: Some(23),
        sent_by_hooks: 1 << 14,
    };
    let starting = ChildState {
        slot: 0,
        serial: 18,
        pid: 4712,
        state: Some(State::Starting),
        ..ChildState::default()
    };
    Snapshot {
        program: Program {
            version: "0.1.0".to_owned(),
            path: b"/usr/sbin/server".to_vec(),
            previous_path: b"/usr/sbin/server.old".to_vec(),
            back: Some("three children in a row".to_owned()),
        },
        pool: PoolState {
            clock_start: 123_456_789_012,
            now: at(100_000),
            gaps: Duration::from_millis(3),
            serial: 18,
            epoch: 3,
            owed: 1,
            mask: 1 << 12,
            asked_at: at(99_000),
            open_files: Some(1024),
            status_helper: Some(4713),
            orphans: EncodedList(vec![4714]),
        },
        children: vec![busy, starting],
        descriptors: vec![
            Descriptor {
                role: FdRole::Listener,
                fd: 7,
                device: 8,
                inode: 1 << 33,
                kind: 0o140_000,
                file: Some(SocketFileState {
                    path: b"/run/socket".to_vec(),
                    device: 16,
                    inode: 1 << 34,
                }),
            },
            Descriptor {
                role: FdRole::Pipe,
                fd: 20,
                device: 14,
                inode: 15,
                kind: 0o10_000,
                file: None,
            },
        ],
        boards: vec![BoardState {
            fd: 9,
            length: 4096 * 51,
            slots: EncodedList(vec![3, 0]),
            metrics: EncodedList(vec!["requests: a counter".to_owned()]),
            own: EncodedList(vec![1, 2, u64::MAX]),
        }],
        attributes: vec![("max_clients".to_owned(), "60".to_owned())],
        counters: Ledger {
            counts: EncodedList(vec![
                ("forks".to_owned(), 18),
                ("deaths.Killed".to_owned(), 2),
            ]),
        },
        hooks: b"what the hooks know".to_vec(),
        clients: vec![ClientState {
            fd: 24,
            sent: b"get max_cl".to_vec(),
            skips: true,
            ended: true,
            unread: b"{\"ok\":true}\n".to_vec(),
            waits_for: 1,
        }],
        orders: Some(Orders { drained: true }),
        before_reload: Some(BeforeReload {
            attributes: EncodedList(vec![("timeout".to_owned(), "5s".to_owned())]),
        }),
        unknown: BTreeSet::new(),
    }
}

#[test]
fn what_is_written_is_read() {
    for state in [full(), Snapshot::default()] {
        assert_eq!(Snapshot::decode(&state.encode()), Ok(state));
    }
}

fn refused(bytes: &[u8]) -> DecodeError {
    let bad = Snapshot::decode(bytes).expect_err("a refusal");
    assert!(bad.to_string().contains("at byte"), "{bad}");
    bad.why().clone()
}

/// Every cut and every flipped bit is noticed.
#[test]
fn a_state_that_is_cut_off_or_changed_is_refused() {
    let bytes = full().encode();
    for length in 0..bytes.len() {
        let why = refused(&bytes[..length]);
        assert!(
            [DecodeError::NoState, DecodeError::Length].contains(&why),
            "{length}: {why}"
        );
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&flipped);
    }
}

/// A state that was cut off before it was given a checksum has records that are cut off.
#[test]
fn a_record_that_is_cut_off_is_named_with_its_place() {
    let bytes = full().encode();
    let cut = sealed(&bytes[..bytes.len() - 1]);
    let bad = Snapshot::decode(&cut).expect_err("a refusal");
    assert_eq!(*bad.why(), DecodeError::CutOff);
    let short = resized(&bytes, 3, |payload| payload.truncate(6));
    let bad = Snapshot::decode(&short).expect_err("a refusal").to_string();
    assert!(bad.starts_with("record child at byte"), "{bad}");
    assert!(bad.ends_with("it is cut off"), "{bad}");
}

#[test]
fn a_state_of_a_later_format_is_refused() {
    let mut bytes = full().encode();
    bytes[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    assert_eq!(refused(&bytes), DecodeError::Future(FORMAT + 1));
    let text = Snapshot::decode(&bytes).expect_err("a refusal").to_string();
    assert!(text.contains("format 2, a later one"), "{text}");
}

#[test]
fn a_record_that_is_not_known_is_skipped_unless_it_must_be_understood() {
    let bytes = full().encode();
    let more = with_record(&bytes, 4000, false, b"anything");
    let read = Snapshot {
        unknown: [4000].into(),
        ..full()
    };
    assert_eq!(Snapshot::decode(&more), Ok(read), "it is told of");
    assert_eq!(
        refused(&with_record(&bytes, 4000, true, b"")),
        DecodeError::NotUnderstood
    );
}

/// The next version appends fields; the one before did not know the last ones.
#[test]
fn a_longer_record_is_read_and_a_shorter_one_has_defaults() {
    let bytes = full().encode();
    let longer = resized(&bytes, 3, |payload| payload.extend_from_slice(b"new"));
    assert_eq!(Snapshot::decode(&longer), Ok(full()));
    // The last field of the pool is twelve bytes long.
    let shorter = resized(&bytes, 2, |payload| payload.truncate(payload.len() - 12));
    let mut expected = full();
    expected.pool.orphans = EncodedList::default();
    assert_eq!(Snapshot::decode(&shorter), Ok(expected));
}

#[test]
fn what_there_must_be_once_is_there_once() {
    let empty = sealed(&full().encode()[..20]);
    assert_eq!(refused(&empty), DecodeError::Missing);
    let twice = with_record(&full().encode(), 2, true, b"");
    assert_eq!(refused(&twice), DecodeError::Twice);
}

#[test]
fn children_that_contradict_each_other_are_refused() {
    let changes: [fn(&mut ChildState); 4] = [
        |child| child.slot = 3,
        |child| child.serial = 17,
        |child| child.pid = 4711,
        |child| child.pid = 0,
    ];
    for change in changes {
        let mut state = full();
        change(&mut state.children[1]);
        assert_eq!(refused(&state.encode()), DecodeError::Contradiction);
    }
}

/// A number that a later version has given a meaning.
#[test]
fn names_that_are_not_known_are_read_as_the_nearest() {
    for (code, expected) in [(200, Reason::Asked), (6, Reason::Shutdown)] {
        let mut input = encoding::ByteReader::new(std::slice::from_ref(&code));
        assert_eq!(<Reason as encoding::Field>::take(&mut input), Ok(expected));
    }
    let mut input = encoding::ByteReader::new(&[200]);
    assert_eq!(
        <State as encoding::Field>::take(&mut input),
        Ok(State::Free)
    );
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/states")
}

/// States of every format that was ever released are read forever. The example of this version is
/// what it writes today; `UPDATE_STATES=1` writes it again, which is allowed before a release only.
#[test]
fn states_of_every_released_format_are_read() {
    let newest = folder().join("v1-full.bin");
    if std::env::var_os("UPDATE_STATES").is_some() {
        fs::create_dir_all(folder()).expect("a folder");
        fs::write(&newest, full().encode()).expect("a state");
        fs::write(folder().join("v1-empty.bin"), Snapshot::default().encode()).expect("a state");
    }
    assert_eq!(fs::read(&newest).expect("a state"), full().encode());
    let mut read = 0;
    for entry in fs::read_dir(folder()).expect("the examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            let bytes = fs::read(&path).expect("a state");
            let state = Snapshot::decode(&bytes);
            state.unwrap_or_else(|bad| panic!("{}: {bad}", path.display()));
            read += 1;
        }
    }
    assert!(read >= 2, "only {read} examples were found");
}

/// An example of a version that knew fewer records and fields: it finds its own where they were, and
/// may skip the others.
#[test]
fn an_earlier_version_reads_what_is_written_today() {
    let early = fs::read(folder().join("v1-early.bin")).expect("a state");
    let state = Snapshot::decode(&early).expect("a state");
    let today = Snapshot {
        clients: full().clients,
        orders: full().orders,
        before_reload: full().before_reload,
        ..state
    };
    let mut today = taken_apart(&today.encode()).into_iter();
    for (tag, must, fields) in taken_apart(&early) {
        let (its_tag, its_must, its_fields) = today.next().expect("as many records");
        assert_eq!((tag, must), (its_tag, its_must));
        assert!(its_fields.starts_with(&fields), "record {tag}");
    }
    assert!(today.len() > 0 && today.all(|(_, must, _)| !must));
}

proptest! {
    /// Any bytes, and any bytes with a right header: a state or a refusal, no panic, and a state that
    /// was read is read again from what it writes.
    #[test]
    fn any_bytes_are_a_state_or_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        cut in 0..1500_usize,
    ) {
        let _ = Snapshot::decode(&bytes);
        let mut mixed = full().encode();
        let at = cut.min(mixed.len());
        mixed.truncate(at.max(20));
        mixed.extend_from_slice(&bytes);
        if let Ok(state) = Snapshot::decode(&sealed(&mixed)) {
            prop_assert_eq!(Snapshot::decode(&state.encode()), Ok(state.written()));
        }
    }

    /// A single byte that is wrong before the checksum was made.
    #[test]
    fn a_wrong_byte_in_a_record_leads_nowhere_else(at in 20..1500_usize, byte in any::<u8>()) {
        let mut bytes = full().encode();
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        if let Ok(state) = Snapshot::decode(&sealed(&bytes)) {
            prop_assert_eq!(Snapshot::decode(&state.encode()), Ok(state.written()));
        }
    }
}

/// Each number in a state is that of a descriptor, and all of them are changed: a number that is left as
/// it is would lead to another file.
#[cfg(feature = "holder")]
#[test]
fn a_state_is_renumbered_as_a_whole_or_not_at_all() {
    let state = full();
    let moved = |fd: u32| Some(fd + 1000);
    let there = state.clone().renumbered(moved).expect("all are known");
    assert_ne!(there, state);
    let back = there.clone().renumbered(|fd| fd.checked_sub(1000));
    assert_eq!(back, Some(state.clone()), "none was left out");
    let numbers = |state: &Snapshot| {
        let seen = std::cell::RefCell::new(Vec::new());
        let note = |fd| {
            seen.borrow_mut().push(fd);
            Some(fd)
        };
        state.clone().renumbered(note).expect("all are known");
        seen.into_inner()
    };
    for unknown in numbers(&state) {
        let known = |fd: u32| Some(fd).filter(|fd| *fd != unknown);
        assert_eq!(state.clone().renumbered(known), None, "{unknown}");
    }
}
