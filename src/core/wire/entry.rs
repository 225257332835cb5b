//! An entry of the scoreboard: the child's serial, how many words for its state the child has said,
//! and whether the last one was BUSY, in one number that is read and written in one step. Does not
//! know where entries are stored.

use super::Word;

/// What a child has noted on the scoreboard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct BoardEntry(u64);

impl BoardEntry {
    const BUSY: u64 = 1;
    const COUNT: u64 = u32::MAX as u64;

    /// The entry of a child that has said nothing.
    pub(crate) fn of(serial: u32) -> Self {
        Self(u64::from(serial) << 32)
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Whether it belongs to the child with this serial, and not to an earlier child in the same
    /// slot.
    pub(crate) fn is_of(self, serial: u32) -> bool {
        self.serial() == serial
    }

    /// The serial of the child that it belongs to.
    pub(crate) fn serial(self) -> u32 {
        // OK to cut: it is in the upper half.
        (self.0 >> 32) as u32
    }

    /// The entry after one more word.
    pub(crate) fn after(self, busy: bool) -> Self {
        let count = (self.0 & Self::COUNT & !Self::BUSY).wrapping_add(2) & Self::COUNT;
        Self(self.0 & !Self::COUNT | count | u64::from(busy))
    }

    /// Whether the child prints its last word even if WILL_LOOK is set.
    ///
    /// A parent that was killed leaves WILL_LOOK set forever; the child discovers that when its
    /// printing fails.
    pub(crate) fn is_to_be_printed(self) -> bool {
        const NOW_AND_THEN: u32 = 64;
        self.words().is_multiple_of(NOW_AND_THEN)
    }

    pub(crate) fn is_busy(self) -> bool {
        self.0 & Self::BUSY != 0
    }

    /// Whether the child notes its words here, and has said one.
    #[cfg(any(feature = "holder", feature = "status"))]
    pub(crate) fn has_said_a_word(self) -> bool {
        self.words() > 0
    }

    /// How many words the child has said, modulo 2^31.
    fn words(self) -> u32 {
        // OK to cut: the count is in the lower half.
        self.0 as u32 >> 1
    }

    /// How many words the child has said since an earlier entry.
    fn words_since(self, earlier: Self) -> u32 {
        self.words().wrapping_sub(earlier.words()) & (u32::MAX >> 1)
    }

    /// The words that stand for what the child has noted since `earlier`.
    ///
    /// There are none, one, or two for a child that has changed its state and changed it back,
    /// however often. The last word is the current state. `heard` is how many words have come
    /// through the pipe in the meantime; `believed` says whether the monitor counts the child as
    /// busy.
    pub(crate) fn changes(self, earlier: Self, heard: u32, believed: bool) -> &'static [Word] {
        // Nothing is known here of a child that prints all its words itself.
        if self.words() == 0 {
            return &[];
        }
        let busy = self.is_busy();
        let silent = self.words_since(earlier).saturating_sub(heard);
        match (busy, believed, silent) {
            // All of them have come through the pipe.
            (true, true, 0) | (false, false, 0) => &[],
            // The state has changed and changed back.
            (true, true, 2..) => &[Word::NotBusy, Word::Busy],
            (false, false, 2..) => &[Word::Busy, Word::NotBusy],
            // If no word was only noted, the words on the pipe were read late.
            (true, ..) => &[Word::Busy],
            (false, ..) => &[Word::NotBusy],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Word::{Busy, NotBusy};

    fn said(states: &[bool]) -> BoardEntry {
        states
            .iter()
            .fold(BoardEntry::of(7), |entry, &busy| entry.after(busy))
    }

    #[test]
    fn an_entry_tells_whose_it_is_and_what_was_said_last() {
        for serial in [0, 1, u32::MAX] {
            let mut entry = BoardEntry::of(serial);
            assert!(!entry.is_busy());
            for busy in [true, false, false, true, true] {
                entry = BoardEntry::from_bits(entry.after(busy).bits());
                assert_eq!(entry.is_busy(), busy);
                assert!(entry.is_of(serial));
                assert!(!entry.is_of(serial.wrapping_add(1)));
            }
        }
    }

    /// When the count overflows, the serial does not change and no word is lost or added.
    #[test]
    fn words_are_counted_across_the_end_of_the_count() {
        let last = BoardEntry::from_bits(BoardEntry::of(7).bits() | BoardEntry::COUNT & !1);
        assert_eq!(last.after(true).words_since(last), 1);
        assert_eq!(last.after(true).after(false).words_since(last), 2);
        assert!(last.after(true).is_of(7));
        assert_eq!(last.after(true).bits(), BoardEntry::of(7).bits() | 1);
    }

    #[test]
    fn who_has_turned_once_is_heard_once_and_who_has_turned_back_twice() {
        for (states, heard, believed, words) in [
            (&[][..], 0, false, &[][..]),
            (&[true], 0, false, &[Busy]),
            (&[true, false], 0, false, &[Busy, NotBusy]),
            (&[true, false, true], 0, false, &[Busy]),
            (&[true, false, true, false], 0, false, &[Busy, NotBusy]),
            (&[false], 0, false, &[NotBusy]),
            (&[false, true], 0, true, &[NotBusy, Busy]),
            // A new child, which has counted as free since its first ACK.
            (&[false, true, false], 0, false, &[Busy, NotBusy]),
        ] {
            let changes = said(states).changes(BoardEntry::of(7), heard, believed);
            assert_eq!(changes, words, "{states:?}");
        }
    }

    /// A word that has also come through the pipe is not counted twice.
    #[test]
    fn what_was_heard_already_is_no_news() {
        let changes =
            |states, heard, believed| said(states).changes(BoardEntry::of(7), heard, believed);
        assert_eq!(changes(&[true], 1, true), []);
        assert_eq!(changes(&[true, false], 1, true), [NotBusy]);
        assert_eq!(changes(&[true, false, true], 1, true), [NotBusy, Busy]);
        assert_eq!(changes(&[true, false], 2, false), []);
        // More words than were noted, as when an ACK has repeated one, or when a handler has
        // printed some.
        assert_eq!(changes(&[true], 9, true), []);
        // The words heard were not those of the entry, or some are still on their way.
        assert_eq!(changes(&[true, false], 2, true), [NotBusy]);
        assert_eq!(changes(&[true, false, true], 9, false), [Busy]);
        // Printed before, and read after the entry was seen.
        let seen = said(&[true, false]);
        assert_eq!(seen.changes(seen, 1, true), [NotBusy]);
        assert_eq!(seen.changes(seen, 2, false), []);
        // Printed by hand, in a child that notes nothing.
        assert_eq!(BoardEntry::of(7).changes(BoardEntry::of(7), 1, true), []);
    }

    /// Whatever was said and heard: after the words, the monitor has the state of the child.
    #[test]
    fn the_books_end_up_with_the_state_of_the_child() {
        for bits in 0..1_u32 << 8 {
            for length in 1..=8 {
                let states: Vec<bool> = (0..length).map(|at| bits >> at & 1 == 1).collect();
                for heard in 0..10 {
                    for believed in [false, true] {
                        let changes = said(&states).changes(BoardEntry::of(7), heard, believed);
                        let ends = changes.last().map_or(believed, |&word| word == Busy);
                        assert_eq!(Some(&ends), states.last(), "{states:?} {heard} {believed}");
                    }
                }
            }
        }
    }
}
