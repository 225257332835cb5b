//! Where each value is in the words of a journal: the pool, the signals, the records, the saved
//! state. Knows no word's meaning.

use crate::core::signal_policy::TABLE;

// The first words are those of the pool. The parent writes them at the end of a turn.
/// The epoch of the children that are forked now.
pub(crate) const EPOCH_AT: usize = 0;
/// The serial of the child that was forked last.
pub(crate) const SERIAL_AT: usize = 1;
/// Replacements for children that have ended by themselves.
pub(crate) const OWED_AT: usize = 2;
/// How far the upgrade is by which this program has come: see
/// [`UpgradeNote`](crate::core::upgrade::UpgradeNote).
pub(crate) const UPGRADE_AT: usize = 3;
/// The pid of the parent that has completed a turn.
pub(crate) const SETTLED_AT: usize = 4;
/// How many children the holder has reaped.
pub(crate) const DEATHS_AT: usize = 5;
/// Which of two places has the saved state, and its length: see [`SavedAt`].
pub(crate) const SAVED_AT: usize = 6;
/// Whether the settings were read again.
pub(crate) const RENEWED_AT: usize = 7;
/// Whether the server has ended, and its parent is the program's alone.
pub(crate) const OVER_AT: usize = 8;
/// Why the server ends, if because of a failure: see [`FailureNote`](crate::core::notes::FailureNote).
pub(crate) const FAILURE_AT: usize = 9;
/// Which of two places has what some parent has acted on.
pub(crate) const HEARD_AT: usize = 10;
/// Whether a reload was asked for and has not begun.
pub(crate) const RELOAD_ASKED_AT: usize = 11;
/// How often each signal of the table has come to the holder.
pub(crate) const ASKED_AT: usize = 16;
/// The two places, used by turns: a parent may be killed while it writes. A stop that counted as asked for
/// and not as acted on would be received twice, which ends `pre_stop_delay`; the other way round it would
/// be lost.
const HEARD_PLACES_AT: usize = ASKED_AT + 16;
const HEARD_WORDS: usize = STOP_IN_HEARD + 1;
/// In such a place, behind how many of the signals some parent has acted on: how far the stop is that they
/// have asked for. See [`StopState`](crate::core::stop::StopState).
pub(crate) const STOP_IN_HEARD: usize = 16;
/// The records of the children, by slot.
pub(crate) const RECORDS_AT: usize = HEARD_PLACES_AT + 2 * HEARD_WORDS;
pub(crate) const RECORD_WORDS: usize = 16;

const _: () = assert!(TABLE.len() <= 16);

/// How many bytes of state can be saved.
pub(crate) const ROOM: usize = 64 * 1024;

/// How many words a journal for that many children has. `None` if there is no memory of that size.
pub(crate) fn words(slots: usize) -> Option<usize> {
    slots
        .checked_mul(RECORD_WORDS)?
        .checked_add(RECORDS_AT + 2 * ROOM / size_of::<u64>())
}

/// Where the words of such a place begin.
pub(crate) fn heard_at(place: u64) -> usize {
    HEARD_PLACES_AT + (place as usize & 1) * HEARD_WORDS
}

/// Where the saved state is: one of two places, since a parent may be killed while it writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SavedAt {
    /// 0 or 1.
    pub(crate) place: usize,
    /// In bytes; 0 if nothing was saved.
    pub(crate) length: usize,
}

impl SavedAt {
    /// Where the next state goes.
    pub(crate) fn next(self, length: usize) -> Self {
        Self {
            place: 1 - self.place,
            length,
        }
    }

    pub(crate) fn word(self) -> u64 {
        (self.place as u64) << 32 | self.length as u64
    }

    pub(crate) fn read(word: u64) -> Self {
        Self {
            place: (word >> 32) as usize & 1,
            // OK to cut: the length is in the lower half.
            length: (word as u32 as usize).min(ROOM),
        }
    }
}
