//! What is noted of one child, each in a word of its own, so that a parent that is killed leaves the
//! note of before or the new one. Encodes and decodes, and decides nothing.

use crate::core::{
    child::{Child, ChildFlags, Reason, Signal, State},
    state::{ChildState, Coded},
    system::ToGroup,
    time::Time,
};
use std::time::Duration;

/// How a child is told to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StopBy {
    pub(crate) signal: Signal,
    /// Which signals go to the process group that it leads, if it leads one.
    pub(crate) group: Option<ToGroup>,
}

impl Default for StopBy {
    fn default() -> Self {
        Self {
            signal: Signal::Interrupt,
            group: None,
        }
    }
}

impl StopBy {
    /// Whether SIGKILL, or any other signal, goes to the group of the child.
    pub(crate) fn reaches_group(self, kills: bool) -> bool {
        match self.group {
            None => false,
            Some(ToGroup::All) => true,
            Some(ToGroup::Kill) => kills,
        }
    }
}

/// What a child has said in words, as its parent has received it. Of a child that notes its words on the
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

    pub(super) fn of(child: &ChildState) -> Self {
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

    pub(super) fn read(word: u64) -> Self {
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

    pub(super) fn read(word: u64) -> Option<Self> {
        // OK to cut: that is how it was written.
        let reason = ((word >> Self::REASON_SHIFT) as u8).checked_sub(1)?;
        let microseconds = word & ((1 << Self::REASON_SHIFT) - 1);
        Some(Self {
            reason: Reason::of_code(reason),
            at: Time::at(Duration::from_micros(microseconds)),
        })
    }
}

/// What a new child has noted of itself: its serial and its pid.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct NotedPid(pub(crate) u64);

impl NotedPid {
    pub(crate) fn new(serial: u32, pid: u32) -> Self {
        Self(u64::from(serial) << 32 | u64::from(pid))
    }

    /// The note that stays when this one is made over an earlier one. A child that comes to run late finds
    /// that of its successor in the slot: its own parent was killed, and it is not known to the next.
    pub(crate) fn noted_over(self, before: Self) -> Self {
        // OK to cut: the serial is in the upper half.
        let [own, earlier] = [self, before].map(|note| (note.0 >> 32) as u32);
        let is_later = own.wrapping_sub(earlier) < u32::MAX / 2;
        match is_later || before == Self::default() {
            true => self,
            false => before,
        }
    }

    pub(super) fn of(self, serial: u32) -> Option<u32> {
        // OK to cut: each is in its half of the word. Process 0 and 1 are no child.
        let pid = self.0 as u32;
        ((self.0 >> 32) as u32 == serial && pid > 1).then_some(pid)
    }
}
