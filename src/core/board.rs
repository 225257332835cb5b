//! The board as data: where each number lies, in which version, and what the numbers of a slot mean.
//! Maps no memory and reads none; nothing that a child has written is trusted here.
//!
//! The board is one file in memory. Its first slot is the parent's, which children can only read.
//! Each further slot is a child's, and is a page of its own, which that child alone can write
//! besides the parent.

mod layout;
mod notes;
mod peer;

pub(crate) use self::{
    layout::{
        ASKED_INTERVAL_AT, DUE_AT, ENTRY_AT, EXTENDED_AT, KEPT_INTERVAL_AT, LINE, Layout, PEER_AT,
        PEER_WORDS, QUEUED_AT, REQUESTS_AT, SEQUENCE_AT, SINCE_AT, TEXT_AT, TEXT_BYTES,
        TEXT_LENGTH_AT, TEXT_WORDS, USED_AT, WILL_LOOK_AT,
    },
    notes::{Description, Notes, duration_bits, time_bits},
};
