//! The state that a program hands on in an upgrade: any bytes are a state or are refused, and a state that
//! was read is written and read again as the same.

use crate::core::state::Snapshot;

/// Input: the bytes as they are, and once more as the records of a state with a right header.
pub fn state(data: &[u8]) {
    check(data);
    check(&Snapshot::framed(data));
}

fn check(bytes: &[u8]) {
    match Snapshot::decode(bytes) {
        Ok(state) => assert_eq!(Snapshot::decode(&state.encode()), Ok(state.written())),
        Err(bad) => assert!(bad.to_string().contains("at byte")),
    }
}
