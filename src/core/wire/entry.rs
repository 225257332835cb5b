//! An entry of the scoreboard: which child it is of, how many words for its state that one has said, and
//! whether the last was BUSY, in one number, which is written and read in one step. Numbers in, words
//! out; where entries are kept is not its business.

use super::Word;

/// What a child has noted on the scoreboard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Entry(u64);

impl Entry {
    const BUSY: u64 = 1;
    const COUNT: u64 = u32::MAX as u64;

    /// Of a child that has said nothing.
    pub(crate) fn of(serial: u32) -> Self {
        Self(u64::from(serial) << 32)
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Whether it is of the child of that serial, and not of an earlier one in the same slot.
    pub(crate) fn is_of(self, serial: u32) -> bool {
        self.0 >> 32 == u64::from(serial)
    }

    /// As it is after one more word.
    pub(crate) fn after(self, busy: bool) -> Self {
        let count = (self.0 & Self::COUNT & !Self::BUSY).wrapping_add(2) & Self::COUNT;
        Self(self.0 & !Self::COUNT | count | u64::from(busy))
    }

    /// Whether the last word is one to print, whatever the parent has promised: a parent that was killed
    /// promises for ever, and a child finds that out by printing for nobody.
    pub(crate) fn is_to_be_printed(self) -> bool {
        const NOW_AND_THEN: u32 = 64;
        self.words().is_multiple_of(NOW_AND_THEN)
    }

    pub(crate) fn is_busy(self) -> bool {
        self.0 & Self::BUSY != 0
    }

    /// How many words the child has said, as far as 31 bits tell.
    fn words(self) -> u32 {
        // OK to cut: the count is in the lower half.
        self.0 as u32 >> 1
    }

    /// How many of them lie between an earlier entry of the same child and this one.
    fn words_since(self, earlier: Self) -> u32 {
        self.words().wrapping_sub(earlier.words()) & (u32::MAX >> 1)
    }

    /// The words to be heard for what was noted since `earlier`: none, one, or a pair for a child that
    /// has turned there and back, however often. The last one is what it is doing now. `heard` words
    /// have come through the pipe in the meantime; by the books the child is busy, or not:
    /// `believed`.
    pub(crate) fn changes(self, earlier: Self, heard: u32, believed: bool) -> &'static [Word] {
        // Of a child that prints its words by itself nothing is known here.
        if self.words() == 0 {
            return &[];
        }
        let busy = self.is_busy();
        let silent = self.words_since(earlier).saturating_sub(heard);
        match (busy, believed, silent) {
            // All of them have come through the pipe.
            (true, true, 0) | (false, false, 0) => &[],
            // There and back.
            (true, true, 2..) => &[Word::NotBusy, Word::Busy],
            (false, false, 2..) => &[Word::Busy, Word::NotBusy],
            // If none was silent, what has come through the pipe was read late.
            (true, ..) => &[Word::Busy],
            (false, ..) => &[Word::NotBusy],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Word::{Busy, NotBusy};

    fn said(states: &[bool]) -> Entry {
        states
            .iter()
            .fold(Entry::of(7), |entry, &busy| entry.after(busy))
    }

    #[test]
    fn an_entry_tells_whose_it_is_and_what_was_said_last() {
        for serial in [0, 1, u32::MAX] {
            let mut entry = Entry::of(serial);
            assert!(!entry.is_busy());
            for busy in [true, false, false, true, true] {
                entry = Entry::from_bits(entry.after(busy).bits());
                assert_eq!(entry.is_busy(), busy);
                assert!(entry.is_of(serial));
                assert!(!entry.is_of(serial.wrapping_add(1)));
            }
        }
    }

    /// The count begins anew without a trace in the serial, and without a word too many or too few.
    #[test]
    fn words_are_counted_across_the_end_of_the_count() {
        let last = Entry::from_bits(Entry::of(7).bits() | Entry::COUNT & !1);
        assert_eq!(last.after(true).words_since(last), 1);
        assert_eq!(last.after(true).after(false).words_since(last), 2);
        assert!(last.after(true).is_of(7));
        assert_eq!(last.after(true).bits(), Entry::of(7).bits() | 1);
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
            // A newcomer that has been taken for a free one since its first ACK.
            (&[false, true, false], 0, false, &[Busy, NotBusy]),
        ] {
            let changes = said(states).changes(Entry::of(7), heard, believed);
            assert_eq!(changes, words, "{states:?}");
        }
    }

    /// What has come through the pipe as well is not heard twice.
    #[test]
    fn what_was_heard_already_is_no_news() {
        let changes = |states, heard, believed| said(states).changes(Entry::of(7), heard, believed);
        assert_eq!(changes(&[true], 1, true), []);
        assert_eq!(changes(&[true, false], 1, true), [NotBusy]);
        assert_eq!(changes(&[true, false, true], 1, true), [NotBusy, Busy]);
        assert_eq!(changes(&[true, false], 2, false), []);
        // More than were noted, as when an ACK has repeated one, or when somebody has printed some.
        assert_eq!(changes(&[true], 9, true), []);
        // They were not what the entry says, or are on their way.
        assert_eq!(changes(&[true, false], 2, true), [NotBusy]);
        assert_eq!(changes(&[true, false, true], 9, false), [Busy]);
        // Printed before, and read after the entry was seen.
        let seen = said(&[true, false]);
        assert_eq!(seen.changes(seen, 1, true), [NotBusy]);
        assert_eq!(seen.changes(seen, 2, false), []);
        // Printed by hand, in a child that notes nothing.
        assert_eq!(Entry::of(7).changes(Entry::of(7), 1, true), []);
    }

    /// Whatever was said and heard: the last word, if the books need one, is the child's state.
    #[test]
    fn the_books_end_up_with_the_state_of_the_child() {
        for bits in 0..1_u32 << 8 {
            for length in 1..=8 {
                let states: Vec<bool> = (0..length).map(|at| bits >> at & 1 == 1).collect();
                for heard in 0..10 {
                    for believed in [false, true] {
                        let changes = said(&states).changes(Entry::of(7), heard, believed);
                        let ends = changes.last().map_or(believed, |&word| word == Busy);
                        assert_eq!(Some(&ends), states.last(), "{states:?} {heard} {believed}");
                    }
                }
            }
        }
    }
}
