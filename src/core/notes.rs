//! What a parent notes of its pool and of each child for the parent after it. Each note is a word of
//! its own, so that a parent that is killed leaves the note of before or the new one. Encodes and
//! decodes, and decides nothing.

mod failure;

pub(crate) use self::failure::FailureNote;

use crate::core::{
    child::{Child, ChildFlags, Reason, State},
    state::{ChildState, Coded},
    stop::StopState,
    time::Time,
    upgrade::UpgradeNote,
};
use std::time::Duration;

/// What is noted of the pool for the parent after this one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct PoolNote {
    pub(crate) epoch: u32,
    /// The serial of the child that was forked last.
    pub(crate) serial: u32,
    /// Replacements for children that have ended by themselves.
    pub(crate) owed: u64,
    pub(crate) stop: StopState,
    /// Why the server ends, if it ends because of a failure.
    pub(crate) failure: Option<FailureNote>,
    /// Whether the settings were read again, and the children that have them did not fail.
    pub(crate) renewed: bool,
    /// Whether a reload was asked for and has not begun.
    pub(crate) reload_asked: bool,
    /// How far the upgrade is by which this program has come.
    pub(crate) upgrade: UpgradeNote,
}

/// What a child has said in words, as its parent has heard it. Of a child that notes its words on the
/// board, that has more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct WordNotes {
    pub(crate) flags: ChildFlags,
    pub(crate) is_busy: bool,
    /// How many connections it has taken.
    pub(crate) requests: u32,
}

impl Default for WordNotes {
    fn default() -> Self {
        Self {
            flags: ChildFlags::empty(),
            is_busy: false,
            requests: 0,
        }
    }
}

impl WordNotes {
    const KEPT: ChildFlags = ChildFlags::ACKED
        .union(ChildFlags::HEARD)
        .union(ChildFlags::WAS_BUSY)
        .union(ChildFlags::WAITED)
        .union(ChildFlags::FINISHED_ONE)
        .union(ChildFlags::READY);
    const BUSY: u64 = 1 << 31;

    pub(crate) fn by(child: &Child) -> Self {
        Self {
            flags: child.flags & Self::KEPT,
            is_busy: child.is_serving(),
            requests: u32::try_from(child.said_requests).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn of(child: &ChildState) -> Self {
        Self {
            flags: ChildFlags::from_bits_truncate(child.flags) & Self::KEPT,
            is_busy: child.state == Some(State::Busy),
            requests: u32::try_from(child.said_requests).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn word(self) -> u64 {
        let busy = if self.is_busy { Self::BUSY } else { 0 };
        u64::from(self.requests) << 32 | busy | u64::from(self.flags.bits())
    }

    pub(crate) fn read(word: u64) -> Self {
        Self {
            // OK to cut: the flags are in the lower half, and the number is the upper one.
            flags: ChildFlags::from_bits_truncate(word as u32) & Self::KEPT,
            is_busy: word & Self::BUSY != 0,
            requests: (word >> 32) as u32,
        }
    }
}

/// Why a child was told to stop, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RetirementNote {
    pub(crate) reason: Reason,
    pub(crate) at: Time,
}

impl RetirementNote {
    /// In one word, so that a parent that is killed leaves the note of before or this one: microseconds,
    /// below the reason. Zero is no note.
    const REASON_SHIFT: u32 = 56;

    pub(crate) fn word(self) -> u64 {
        let reason = u64::from(self.reason.code()) + 1;
        let microseconds = u64::try_from(self.at.since_start().as_micros()).unwrap_or(u64::MAX);
        reason << Self::REASON_SHIFT | microseconds.min((1 << Self::REASON_SHIFT) - 1)
    }

    pub(crate) fn read(word: u64) -> Option<Self> {
        // OK to cut: that is how it was written.
        let reason = ((word >> Self::REASON_SHIFT) as u8).checked_sub(1)?;
        let microseconds = word & ((1 << Self::REASON_SHIFT) - 1);
        Some(Self {
            reason: Reason::of_code(reason),
            at: Time::at(Duration::from_micros(microseconds)),
        })
    }
}
