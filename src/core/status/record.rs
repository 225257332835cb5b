//! The record of the parent: where each figure and text lies. Maps no memory; the order of writes and
//! reads is that of `sys/record_memory.rs`.

use super::{
    death::{self, DEATH_BYTES},
    figures::{CAUSES, Head, REASONS, Row, Tallies},
    texts::RecordTexts,
};
use crate::core::{
    metrics::{MetricNumbers, NUMBERS},
    status::Stage,
};

/// The first word of a record: "prefstat".
const MAGIC: u64 = u64::from_be_bytes(*b"prefstat");

/// Changes whenever the meaning or the place of a word does.
const VERSION: u64 = 1;

// The header is written once.
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 1;
const SLOTS_AT: usize = 2;
const HEADER_WORDS: usize = 3;

/// Odd while the parent writes.
pub(crate) const SEQUENCE_AT: usize = 8;
/// When the last turn of the loop has ended, and when the next is due at the latest: written without
/// the sequence, at each turn.
pub(crate) const TURNED_AT: usize = 9;
pub(crate) const DUE_AT: usize = 10;

pub(crate) const HEAD_AT: usize = 16;
const TALLIES_AT: usize = HEAD_AT + 48;
const OWN_AT: usize = TALLIES_AT + CAUSES + REASONS;
const TEXTS_AT: usize = OWN_AT + NUMBERS;
/// How long the packed texts may be, in bytes.
pub(crate) const TEXTS_BYTES: usize = 64 * 1024;
const DEATHS_AT: usize = TEXTS_AT + cell_words(TEXTS_BYTES);
/// How many deaths are kept.
pub(crate) const DEATHS: usize = 50;
const ROWS_AT: usize = DEATHS_AT + 1 + DEATHS * cell_words(DEATH_BYTES);

/// The words of a cell for so many bytes: the length comes first.
const fn cell_words(bytes: usize) -> usize {
    1 + bytes.div_ceil(size_of::<u64>())
}

/// Where the parts of a record are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RecordLayout {
    slots: usize,
}

impl RecordLayout {
    /// The layout for that many children. `None` if there is no memory of that size.
    pub(crate) fn new(slots: usize) -> Option<Self> {
        let bytes = slots
            .checked_mul(Row::WORDS)?
            .checked_add(ROWS_AT)?
            .checked_mul(size_of::<u64>())?;
        isize::try_from(bytes).ok().map(|_| Self { slots })
    }

    /// The size in bytes.
    pub(crate) fn length(self) -> usize {
        // OK because `new` has computed it.
        (ROWS_AT + self.slots * Row::WORDS) * size_of::<u64>()
    }

    pub(crate) fn header(self) -> [u64; HEADER_WORDS] {
        let mut header = [0; HEADER_WORDS];
        header[MAGIC_AT] = MAGIC;
        header[VERSION_AT] = VERSION;
        header[SLOTS_AT] = self.slots as u64;
        header
    }

    fn row_at(self, slot: usize) -> Option<usize> {
        (slot < self.slots).then(|| ROWS_AT + slot * Row::WORDS)
    }
}

/// Changes of a record, as words and their places. The parent collects them in a turn and writes
/// them at its end.
pub(crate) trait MemoryWriter {
    fn put(&mut self, at: usize, word: u64);
}

/// Writes the parts of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordWriter(pub(crate) RecordLayout);

impl RecordWriter {
    pub(crate) fn head(self, head: Head, pen: &mut dyn MemoryWriter) {
        put_all(pen, HEAD_AT, head.to_words());
    }

    pub(crate) fn tallies(self, tallies: &Tallies, pen: &mut dyn MemoryWriter) {
        put_all(pen, TALLIES_AT, tallies.words());
    }

    pub(crate) fn own(self, numbers: &MetricNumbers, pen: &mut dyn MemoryWriter) {
        put_all(pen, OWN_AT, numbers.words());
    }

    pub(crate) fn texts(self, texts: &[u8], pen: &mut dyn MemoryWriter) {
        put_bytes(pen, TEXTS_AT, &texts[..texts.len().min(TEXTS_BYTES)]);
    }

    /// The row of a slot; a child beyond the slots has none.
    pub(crate) fn row(self, slot: usize, row: Row, pen: &mut dyn MemoryWriter) {
        if let Some(at) = self.0.row_at(slot) {
            put_all(pen, at, row.to_words());
        }
    }

    /// The text of the death number `number`, counted from 0.
    pub(crate) fn death(self, number: u64, text: &str, pen: &mut dyn MemoryWriter) {
        debug_assert!(text.len() <= DEATH_BYTES);
        put_bytes(pen, death_at(number), text.as_bytes());
        pen.put(DEATHS_AT, number + 1);
    }
}

fn death_at(number: u64) -> usize {
    // OK to cast: it is less than DEATHS.
    DEATHS_AT + 1 + (number % DEATHS as u64) as usize * cell_words(DEATH_BYTES)
}

fn put_all(pen: &mut dyn MemoryWriter, start: usize, words: impl IntoIterator<Item = u64>) {
    for (at, word) in (start..).zip(words) {
        pen.put(at, word);
    }
}

fn put_bytes(pen: &mut dyn MemoryWriter, start: usize, bytes: &[u8]) {
    pen.put(start, bytes.len() as u64);
    let (chunks, rest) = bytes.as_chunks();
    let words = chunks.iter().map(|chunk| u64::from_ne_bytes(*chunk));
    put_all(pen, start + 1, words);
    if !rest.is_empty() {
        let mut last = [0; size_of::<u64>()];
        last[..rest.len()].copy_from_slice(rest);
        pen.put(start + 1 + chunks.len(), u64::from_ne_bytes(last));
    }
}

/// A record as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StatusRecord {
    pub(crate) head: Head,
    pub(crate) tallies: Tallies,
    /// What the parent itself has counted.
    pub(crate) own: MetricNumbers,
    pub(crate) texts: RecordTexts,
    /// The texts of the last deaths, the newest first.
    pub(crate) deaths: Vec<String>,
    /// The children, each with its slot.
    pub(crate) rows: Vec<(usize, Row)>,
}

impl StatusRecord {
    /// Reads a record. `word` returns the word at a place within the layout. Any words can be read.
    pub(crate) fn read(layout: RecordLayout, word: impl Fn(usize) -> u64) -> Self {
        let tally = |at: usize| word(TALLIES_AT + at);
        let row = |slot: usize| {
            let start = ROWS_AT + slot * Row::WORDS;
            let row = Row::from_words(std::array::from_fn(|at| word(start + at)));
            (row.pid() != 0).then_some((slot, row))
        };
        Self {
            head: Head::from_words(std::array::from_fn(|at| word(HEAD_AT + at))),
            tallies: Tallies {
                deaths: std::array::from_fn(tally),
                refusals: std::array::from_fn(|at| tally(CAUSES + at)),
            },
            own: MetricNumbers::read(|at| word(OWN_AT + at)),
            texts: RecordTexts::unpack(&bytes(&word, TEXTS_AT, TEXTS_BYTES)),
            deaths: deaths(&word),
            rows: (0..layout.slots).filter_map(row).collect(),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::from_word(self.head.stage)
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.head.is_drained != 0
    }

    /// Whether a child can take connections.
    pub(crate) fn has_ready_child(&self) -> bool {
        self.head.slotless_ready > 0 || self.rows.iter().any(|(_, row)| row.is_ready())
    }
}

fn deaths(word: &impl Fn(usize) -> u64) -> Vec<String> {
    let count = word(DEATHS_AT);
    let numbers = (count.saturating_sub(DEATHS as u64)..count).rev();
    let texts = numbers.map(|number| bytes(word, death_at(number), DEATH_BYTES));
    let texts = texts.filter_map(|bytes| String::from_utf8(bytes).ok());
    texts.filter(|text| death::is_text(text)).collect()
}

fn bytes(word: &impl Fn(usize) -> u64, start: usize, longest: usize) -> Vec<u8> {
    let length = usize::try_from(word(start)).map_or(0, |length| length.min(longest));
    let words = length.div_ceil(size_of::<u64>());
    let bytes = (0..words).flat_map(|at| word(start + 1 + at).to_ne_bytes());
    bytes.take(length).collect()
}

const _: () = assert!(Head::WORDS <= TALLIES_AT - HEAD_AT);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        child::{Child, ChildFlags, ChildId, Reason, State},
        monitor::Monitor,
        status::figures::Known,
        time::Time,
    };
    use proptest::prelude::*;
    use std::time::Duration;

    /// Memory as the parent has it.
    #[derive(Default)]
    struct Page(Vec<u64>);

    impl MemoryWriter for Page {
        fn put(&mut self, at: usize, word: u64) {
            self.0[at] = word;
        }
    }

    fn page(layout: RecordLayout) -> Page {
        Page(vec![0; layout.length() / 8])
    }

    fn read(layout: RecordLayout, page: &Page) -> StatusRecord {
        StatusRecord::read(layout, |at| page.0[at])
    }

    #[test]
    fn what_was_written_is_read() {
        let layout = RecordLayout::new(3).unwrap();
        let (mut page, writer) = (page(layout), RecordWriter(layout));
        let known = Known {
            stage: Stage::Serving,
            saturated_since: Some(Time::START),
            ..Known::default()
        };
        let head = Head::of(&Monitor::default(), known);
        let mut child = Child::new(ChildId::new(2, 9), 77, Time::START, Duration::ZERO);
        child.state = State::Busy;
        child.flags |= ChildFlags::READY;
        child.epoch = 3;
        writer.head(head, &mut page);
        writer.row(2, Row::of(&child), &mut page);
        // Beyond the slots.
        writer.row(3, Row::of(&child), &mut page);
        for number in 0..60 {
            writer.death(number, &format!("{{\"pid\":{number}}}"), &mut page);
        }
        let record = read(layout, &page);
        assert_eq!((record.head, record.stage()), (head, Stage::Serving));
        let [(2, row)] = record.rows[..] else {
            panic!("{:?}", record.rows);
        };
        assert_eq!((row.pid(), row.serial(), row.epoch()), (77, 9, 3));
        assert!(row.is_ready() && !row.is_due() && row.state() == State::Busy);
        assert_eq!(row.reason(), None);
        assert_eq!(record.deaths.len(), DEATHS);
        assert_eq!(record.deaths[0], "{\"pid\":59}");
        assert_eq!(record.deaths[49], "{\"pid\":10}");
    }

    #[test]
    fn a_child_that_was_told_to_stop_is_shown_with_the_reason() {
        let mut monitor = Monitor::default();
        let child = monitor.forked(5, None);
        monitor.stop(child, Reason::Overtime);
        let row = Row::of(monitor.child(child).unwrap());
        assert_eq!(row.reason(), Some("overtime"));
        assert!(row.state() == State::Retiring && !row.is_ready());
    }

    #[test]
    fn a_record_larger_than_memory_is_refused() {
        assert_eq!(RecordLayout::new(usize::MAX), None);
        assert_eq!(RecordLayout::new(usize::MAX / 64), None);
    }

    proptest! {
        /// No word leads outside of the record, and no bytes lead to a panic.
        #[test]
        fn any_words_can_be_read(seed: u64, words in prop::collection::vec(any::<u64>(), 1..64)) {
            let layout = RecordLayout::new(4).unwrap();
            let length = layout.length() / 8;
            let record = StatusRecord::read(layout, |at| {
                assert!(at < length);
                words[(seed as usize).wrapping_add(at) % words.len()]
            });
            prop_assert!(record.deaths.len() <= DEATHS && record.rows.len() <= 4);
        }

        #[test]
        fn any_text_comes_back(text in ".{0,2000}") {
            let layout = RecordLayout::new(0).unwrap();
            let mut page = page(layout);
            put_bytes(&mut page, TEXTS_AT, text.as_bytes());
            prop_assert_eq!(bytes(&|at| page.0[at], TEXTS_AT, TEXTS_BYTES), text.into_bytes());
        }
    }
}
