//! The places on the board, counted in words of 64 bits, and its header. Another program, or another
//! version of this one, finds out by the header whether it can read the board.

use crate::core::metrics::NUMBERS;
#[cfg(test)]
use crate::core::queue_times::QUEUE_WORDS;

/// The first word of the board: "prefork" and a zero.
const MAGIC: u64 = u64::from_be_bytes(*b"prefork\0");

/// Changes whenever the meaning or the place of a word does.
const VERSION: u64 = 2;

/// How many words fill a cache line on most machines.
pub(crate) const LINE: usize = 8;

/// How many words of a slot have a meaning. A slot may be longer: it is a whole page.
const SLOT_WORDS: usize = 512;

// The parent's slot. The header is written once.
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 1;
/// The size of a slot in bytes.
const SLOT_SIZE_AT: usize = 2;
/// How many slots of children follow that of the parent.
const SLOTS_AT: usize = 3;
/// The reading of CLOCK_MONOTONIC, in nanoseconds, at [`Time::START`](crate::core::time::Time).
const CLOCK_AT: usize = 4;
pub(crate) const HEADER_WORDS: usize = LINE;

// What the parent changes, in a line of its own.
/// Whether the parent will look at the board by itself.
pub(crate) const WILL_LOOK_AT: usize = LINE;
/// The interval of ACKs that it asks for.
pub(crate) const ASKED_INTERVAL_AT: usize = LINE + 1;
/// How many slots have ever been used. The others have no memory yet, and a look would give them
/// some.
pub(crate) const USED_AT: usize = LINE + 2;
/// Odd while the numbers of a child that has ended are added to the totals.
pub(crate) const FOLDS_AT: usize = LINE + 3;

// A child's slot. The first line is written for each connection.
/// The serial, and what the child has said: see [`Entry`](crate::core::wire::Entry).
pub(crate) const ENTRY_AT: usize = 0;
/// How many connections it has taken.
pub(crate) const REQUESTS_AT: usize = 1;
/// Since when it has the connection in hand.
pub(crate) const SINCE_AT: usize = 2;
/// Until when it has asked not to be judged.
pub(crate) const EXTENDED_AT: usize = 3;
/// How long the last connection was queued.
pub(crate) const QUEUED_AT: usize = 4;
/// Whether it is to be replaced: any number but 0.
pub(crate) const DUE_AT: usize = 5;
/// The interval of ACKs that it keeps.
pub(crate) const KEPT_INTERVAL_AT: usize = 6;
/// Odd while the description changes: the peer and the text.
pub(crate) const SEQUENCE_AT: usize = 7;

/// The address of the peer.
pub(crate) const PEER_AT: usize = LINE;
pub(crate) const PEER_WORDS: usize = 3;
/// How long the text is, in bytes.
pub(crate) const TEXT_LENGTH_AT: usize = PEER_AT + PEER_WORDS;
/// The client that the connection in hand counts for, as a number; 0 for none.
pub(crate) const CLIENT_AT: usize = TEXT_LENGTH_AT + 1;
pub(crate) const TEXT_AT: usize = 2 * LINE;
pub(crate) const TEXT_WORDS: usize = 2 * LINE;
pub(crate) const TEXT_BYTES: usize = TEXT_WORDS * size_of::<u64>();

/// Where the slot of the child is, if it was forked before an upgrade: 0 for here, 1 for the first of
/// the boards that earlier programs of this server have made, and so on.
pub(crate) const EARLIER_AT: usize = TEXT_AT + TEXT_WORDS;

/// What describes a child ends here.
pub(crate) const DESCRIBED: usize = EARLIER_AT + 1;

/// How long connections were queued. In the parent's slot these are the totals of all children that
/// have ended. The words from there to the metrics have no meaning yet.
pub(crate) const QUEUE_TIMES_AT: usize = DESCRIBED;

// The metrics of the program. In the parent's slot the row has the totals of all children that have
// ended.
/// The numbers that the thread counts that serves.
pub(crate) const ROW_AT: usize = 192;
/// The numbers that the other threads count.
pub(crate) const OTHERS_AT: usize = ROW_AT + NUMBERS;

/// The serial and the pid of a child that has a holder: see [`NotedPid`](crate::core::journal::NotedPid).
#[cfg(feature = "holder")]
pub(crate) const PID_AT: usize = ROW_AT - 1;

/// Where the slots of a board are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BoardLayout {
    slot_size: usize,
    slots: usize,
}

/// Why a board cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "upgrades are for Linux")
)]
pub(crate) enum Unreadable {
    /// It is no board.
    Magic,
    /// It is of this version.
    Version(u64),
    /// Its header contradicts itself or the size of the file.
    Size,
}

impl BoardLayout {
    /// The layout for that many children. `None` if there is no memory of that size.
    pub(crate) fn new(page_size: usize, children: usize) -> Option<Self> {
        let needed = SLOT_WORDS * size_of::<u64>();
        let slot_size = needed.checked_next_multiple_of(page_size)?;
        let layout = Self {
            slot_size,
            slots: children,
        };
        children
            .checked_add(1)?
            .checked_mul(slot_size)
            .filter(|&length| isize::try_from(length).is_ok())
            .map(|_| layout)
    }

    /// The size of the board in bytes.
    pub(crate) fn length(self) -> usize {
        // OK because `new` and `parse` have computed it.
        (self.slots + 1) * self.slot_size
    }

    #[cfg(test)]
    pub(crate) fn slots(self) -> usize {
        self.slots
    }

    pub(crate) fn slot_size(self) -> usize {
        self.slot_size
    }

    /// Where the slot of a child begins, in bytes. `None` if the board has no such slot.
    pub(crate) fn offset(self, slot: usize) -> Option<usize> {
        (slot < self.slots).then(|| (slot + 1) * self.slot_size)
    }

    /// The header of a board with this layout.
    pub(crate) fn header(self, clock_start: u64) -> [u64; HEADER_WORDS] {
        let mut header = [0; HEADER_WORDS];
        header[MAGIC_AT] = MAGIC;
        header[VERSION_AT] = VERSION;
        header[SLOT_SIZE_AT] = self.slot_size as u64;
        header[SLOTS_AT] = self.slots as u64;
        header[CLOCK_AT] = clock_start;
        header
    }

    /// The layout of a board that has this header and length.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "upgrades are for Linux")
    )]
    pub(crate) fn parse(header: &[u64; HEADER_WORDS], length: usize) -> Result<Self, Unreadable> {
        if header[MAGIC_AT] != MAGIC {
            return Err(Unreadable::Magic);
        }
        if header[VERSION_AT] != VERSION {
            return Err(Unreadable::Version(header[VERSION_AT]));
        }
        let number = |at: usize| usize::try_from(header[at]).map_err(|_| Unreadable::Size);
        let (slot_size, slots) = (number(SLOT_SIZE_AT)?, number(SLOTS_AT)?);
        Self::new(slot_size.max(1), slots)
            .filter(|layout| layout.slot_size == slot_size && layout.length() == length)
            .ok_or(Unreadable::Size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_slot_is_a_page_or_several() {
        for (page, size) in [(4096, 4096), (16384, 16384), (65536, 65536), (1024, 4096)] {
            let layout = BoardLayout::new(page, 3).unwrap();
            assert_eq!(layout.slot_size(), size);
            assert_eq!(layout.length(), 4 * size);
            let offsets = [0, 1, 2, 3, usize::MAX].map(|slot| layout.offset(slot));
            assert_eq!(
                offsets,
                [Some(size), Some(2 * size), Some(3 * size), None, None]
            );
        }
    }

    #[test]
    fn a_board_larger_than_memory_is_refused() {
        for children in [usize::MAX, usize::MAX / 4096, isize::MAX as usize / 4096] {
            assert_eq!(BoardLayout::new(4096, children), None, "{children}");
        }
    }

    #[test]
    fn a_header_is_read_back_and_a_strange_one_refused() {
        let layout = BoardLayout::new(4096, 50).unwrap();
        let length = layout.length();
        let header = layout.header(7);
        assert_eq!(BoardLayout::parse(&header, length), Ok(layout));
        let with = |at: usize, word| {
            let mut header = header;
            header[at] = word;
            BoardLayout::parse(&header, length)
        };
        assert_eq!(with(MAGIC_AT, 0), Err(Unreadable::Magic));
        assert_eq!(with(VERSION_AT, 9), Err(Unreadable::Version(9)));
        for slot_size in [0, 1, 4095, 8192, u64::MAX] {
            assert_eq!(with(SLOT_SIZE_AT, slot_size), Err(Unreadable::Size));
        }
        for slots in [0, 49, 51, u64::MAX] {
            assert_eq!(with(SLOTS_AT, slots), Err(Unreadable::Size));
        }
        assert_eq!(
            BoardLayout::parse(&header, length - 1),
            Err(Unreadable::Size)
        );
    }

    /// No two fields share a word, and all are within the slot.
    #[test]
    fn the_fields_of_a_slot_do_not_overlap() {
        let fields = [
            (ENTRY_AT, 1),
            (REQUESTS_AT, 1),
            (SINCE_AT, 1),
            (EXTENDED_AT, 1),
            (QUEUED_AT, 1),
            (DUE_AT, 1),
            (KEPT_INTERVAL_AT, 1),
            (SEQUENCE_AT, 1),
            (PEER_AT, PEER_WORDS),
            (TEXT_LENGTH_AT, 1),
            (CLIENT_AT, 1),
            (TEXT_AT, TEXT_WORDS),
            (EARLIER_AT, 1),
            (QUEUE_TIMES_AT, QUEUE_WORDS),
            (ROW_AT, NUMBERS),
            (OTHERS_AT, NUMBERS),
            #[cfg(feature = "holder")]
            (PID_AT, 1),
        ];
        let mut owner = [None; SLOT_WORDS];
        for (field, (start, words)) in fields.into_iter().enumerate() {
            for place in &mut owner[start..start + words] {
                assert_eq!(place.replace(field), None);
            }
        }
    }

    proptest! {
        /// Whatever a header says: no panic, and no slot outside the file.
        #[test]
        fn no_header_leads_outside_the_file(
            slot_size in prop_oneof![0..3_u64, 4000..5000_u64, Just(4096), any::<u64>()],
            slots in prop_oneof![0..70_u64, any::<u64>()],
            length in prop_oneof![Just(4096 * 8_usize), any::<usize>()],
        ) {
            let mut header = BoardLayout::new(4096, 1).unwrap().header(0);
            header[SLOT_SIZE_AT] = slot_size;
            header[SLOTS_AT] = slots;
            if let Ok(layout) = BoardLayout::parse(&header, length) {
                let last = layout.slots().checked_sub(1).and_then(|last| layout.offset(last));
                prop_assert!(last.unwrap_or(0) + layout.slot_size() <= length);
            }
        }
    }
}
