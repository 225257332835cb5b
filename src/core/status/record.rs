//! The record of the parent: where each number lies, and what the numbers mean. Maps no memory; the
//! order of writes and reads is that of `sys/record_memory.rs`.

use super::{death, texts::Texts};
use crate::core::{
    accept::refusal::Refusal,
    board::time_bits,
    child::{Child, State},
    metrics::{NUMBERS, Numbers},
    monitor::Monitor,
    status::{Stage, names},
    time::Time,
};
use std::time::Duration;

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
/// There is room for more causes and reasons than there are.
const CAUSES: usize = 32;
const REASONS: usize = 16;
const OWN_AT: usize = TALLIES_AT + CAUSES + REASONS;
const TEXTS_AT: usize = OWN_AT + NUMBERS;
/// How long the packed texts may be, in bytes.
pub(crate) const TEXTS_BYTES: usize = 64 * 1024;
const DEATHS_AT: usize = TEXTS_AT + cell_words(TEXTS_BYTES);
/// How many deaths are kept.
pub(crate) const DEATHS: usize = 50;
/// How long the text of one death may be.
pub(crate) const DEATH_BYTES: usize = 8 * 1024;
const ROWS_AT: usize = DEATHS_AT + 1 + DEATHS * cell_words(DEATH_BYTES);

/// The words of a cell for so many bytes: the length comes first.
const fn cell_words(bytes: usize) -> usize {
    1 + bytes.div_ceil(size_of::<u64>())
}

/// Makes a structure of numbers that are the words of the record, in their order.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: u64),*
        }

        impl $name {
            pub(crate) const WORDS: usize = [$(stringify!($field)),*].len();

            pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
                [$(self.$field),*]
            }

            pub(crate) fn from_words(words: [u64; Self::WORDS]) -> Self {
                let [$($field),*] = words;
                Self { $($field),* }
            }
        }
    };
}

words! {
    /// The numbers of the server as a whole. Times and durations are in nanoseconds.
    Head {
        /// A [`Stage`].
        stage,
        pid,
        /// The time of day at [`Time::START`], since 1970.
        started_at,
        epoch,
        is_reloading,
        /// Since when the present saturation has lasted, as the board has times: 0 for none.
        saturated_since,
        max_clients,
        min_spare,
        max_spare,
        /// The connections of children that have ended.
        ended_connections,
        forks,
        failed_forks,
        acks,
        busy_words,
        not_busy_words,
        output_dropped,
        lost_connections,
        hook_panics,
        slow_hooks,
        saturations,
        saturated_for,
        reloads,
        failed_reloads,
    }
}

words! {
    /// What the parent knows of one child; all zero for none.
    Row {
        /// Serial and pid.
        name,
        /// The state, why it was told to stop, flags, the epoch.
        standing,
        start_time,
        requests,
        /// When it took the connection in hand, by its words: 0 for none.
        busy_since,
        last_ack,
        /// One more than its private memory.
        memory,
        /// When it was told to stop: 0 for never.
        told_at,
    }
}

const READY: u64 = 1 << 16;
const DUE: u64 = 1 << 17;

impl Row {
    pub(crate) fn of(child: &Child) -> Self {
        let id = child.id();
        let reason = child.reason().map_or(0, names::reason_word);
        let flag = |on: bool, flag: u64| if on { flag } else { 0 };
        Self {
            name: u64::from(id.serial()) << 32 | u64::from(child.pid()),
            standing: state_word(child.state())
                | reason << 8
                | flag(child.is_ready(), READY)
                | flag(child.is_due(), DUE)
                | u64::from(child.epoch()) << 32,
            start_time: time_word(child.start_time()),
            requests: taken(child),
            busy_since: time_bits(child.busy_since()),
            last_ack: time_word(child.last_ack()),
            memory: child
                .private_memory()
                .map_or(0, |bytes| bytes.saturating_add(1)),
            told_at: time_bits(child.retirement.map(|told| told.at)),
        }
    }

    pub(crate) fn serial(&self) -> u32 {
        // OK to cut: it is the upper half.
        (self.name >> 32) as u32
    }

    pub(crate) fn pid(&self) -> u32 {
        // OK to cut: it is the lower half.
        self.name as u32
    }

    pub(crate) fn state(&self) -> State {
        match self.standing & 0xff {
            0 => State::Starting,
            1 => State::Free,
            2 => State::Busy,
            3 => State::Reserved,
            _ => State::Retiring,
        }
    }

    pub(crate) fn reason(&self) -> Option<&'static str> {
        names::reason(self.standing >> 8 & 0xff)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.standing & READY != 0 && self.state() != State::Retiring
    }

    pub(crate) fn is_due(&self) -> bool {
        self.standing & DUE != 0
    }

    pub(crate) fn epoch(&self) -> u32 {
        // OK to cut: it is the upper half.
        (self.standing >> 32) as u32
    }
}

/// How many connections a child has taken: by its notes, unless it notes none. By its words, which may
/// be heard twice, it may be one more.
pub(crate) fn taken(child: &Child) -> u64 {
    match child.noted_requests {
        0 => child.told_requests,
        noted => noted,
    }
}

fn state_word(state: State) -> u64 {
    match state {
        State::Starting => 0,
        State::Free => 1,
        State::Busy => 2,
        State::Reserved => 3,
        State::Retiring => 4,
    }
}

fn time_word(time: Time) -> u64 {
    nanoseconds(time.since_start())
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What the parent knows beside its monitor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) stage: Stage,
    pub(crate) started_at: u64,
    pub(crate) saturated_since: Option<Time>,
    pub(crate) ended_connections: u64,
    pub(crate) reloads: u64,
    pub(crate) failed_reloads: u64,
}

impl Head {
    pub(crate) fn of(monitor: &Monitor, known: Known) -> Self {
        let report = monitor.report();
        Self {
            stage: known.stage.word(),
            pid: u64::from(monitor.pid),
            started_at: known.started_at,
            epoch: u64::from(monitor.replacement.epoch()),
            is_reloading: u64::from(monitor.is_reloading()),
            saturated_since: time_bits(known.saturated_since),
            max_clients: monitor.max_clients() as u64,
            min_spare: monitor.min_spare_servers() as u64,
            max_spare: monitor.max_spare_servers() as u64,
            ended_connections: known.ended_connections,
            forks: report.forks,
            failed_forks: report.failed_forks,
            acks: report.acks,
            busy_words: report.busy,
            not_busy_words: report.not_busy,
            output_dropped: report.output_dropped,
            lost_connections: report.lost_connections,
            hook_panics: report.hook_panics,
            slow_hooks: report.slow_hooks,
            saturations: report.saturations,
            saturated_for: nanoseconds(report.saturated_for),
            reloads: known.reloads,
            failed_reloads: known.failed_reloads,
        }
    }
}

/// Deaths by their cause, and refused connections by the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tallies {
    pub(crate) deaths: [u64; CAUSES],
    pub(crate) refusals: [u64; REASONS],
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            deaths: [0; CAUSES],
            refusals: [0; REASONS],
        }
    }
}

impl Tallies {
    pub(crate) fn of(monitor: &Monitor) -> Self {
        let report = monitor.report();
        let mut tallies = Self::default();
        for (place, cause) in tallies.deaths.iter_mut().zip(names::CAUSES) {
            *place = report.deaths(cause);
        }
        for (place, reason) in tallies.refusals.iter_mut().zip(Refusal::ALL) {
            *place = report.refusals[reason];
        }
        tallies
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.deaths.iter().chain(&self.refusals).copied()
    }
}

/// Where the parts of a record are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    slots: usize,
}

impl Layout {
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
pub(crate) trait Pen {
    fn put(&mut self, at: usize, word: u64);
}

/// Writes the parts of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer(pub(crate) Layout);

impl Writer {
    pub(crate) fn head(self, head: Head, pen: &mut dyn Pen) {
        put_all(pen, HEAD_AT, head.to_words());
    }

    pub(crate) fn tallies(self, tallies: &Tallies, pen: &mut dyn Pen) {
        put_all(pen, TALLIES_AT, tallies.words());
    }

    pub(crate) fn own(self, numbers: &Numbers, pen: &mut dyn Pen) {
        put_all(pen, OWN_AT, numbers.words());
    }

    pub(crate) fn texts(self, texts: &[u8], pen: &mut dyn Pen) {
        put_bytes(pen, TEXTS_AT, &texts[..texts.len().min(TEXTS_BYTES)]);
    }

    /// The row of a slot; a child beyond the slots has none.
    pub(crate) fn row(self, slot: usize, row: Row, pen: &mut dyn Pen) {
        if let Some(at) = self.0.row_at(slot) {
            put_all(pen, at, row.to_words());
        }
    }

    /// The text of the death number `number`, counted from 0.
    pub(crate) fn death(self, number: u64, text: &str, pen: &mut dyn Pen) {
        debug_assert!(text.len() <= DEATH_BYTES);
        put_bytes(pen, death_at(number), text.as_bytes());
        pen.put(DEATHS_AT, number + 1);
    }
}

fn death_at(number: u64) -> usize {
    // OK to cast: it is less than DEATHS.
    DEATHS_AT + 1 + (number % DEATHS as u64) as usize * cell_words(DEATH_BYTES)
}

fn put_all(pen: &mut dyn Pen, start: usize, words: impl IntoIterator<Item = u64>) {
    for (at, word) in (start..).zip(words) {
        pen.put(at, word);
    }
}

fn put_bytes(pen: &mut dyn Pen, start: usize, bytes: &[u8]) {
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
pub(crate) struct Record {
    pub(crate) head: Head,
    pub(crate) tallies: Tallies,
    /// What the parent itself has counted.
    pub(crate) own: Numbers,
    pub(crate) texts: Texts,
    /// The texts of the last deaths, the newest first.
    pub(crate) deaths: Vec<String>,
    /// The children, each with its slot.
    pub(crate) rows: Vec<(usize, Row)>,
}

impl Record {
    /// Reads a record. `word` returns the word at a place within the layout. Any words can be read.
    pub(crate) fn read(layout: Layout, word: impl Fn(usize) -> u64) -> Self {
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
            own: Numbers::read(|at| word(OWN_AT + at)),
            texts: Texts::unpack(&bytes(&word, TEXTS_AT, TEXTS_BYTES)),
            deaths: deaths(&word),
            rows: (0..layout.slots).filter_map(row).collect(),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::from_word(self.head.stage)
    }

    /// Whether a child can take connections.
    pub(crate) fn has_ready_child(&self) -> bool {
        self.rows.iter().any(|(_, row)| row.is_ready())
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
    use crate::core::child::{ChildId, Flags, Reason};
    use proptest::prelude::*;

    /// Memory as the parent has it.
    #[derive(Default)]
    struct Page(Vec<u64>);

    impl Pen for Page {
        fn put(&mut self, at: usize, word: u64) {
            self.0[at] = word;
        }
    }

    fn page(layout: Layout) -> Page {
        Page(vec![0; layout.length() / 8])
    }

    fn read(layout: Layout, page: &Page) -> Record {
        Record::read(layout, |at| page.0[at])
    }

    #[test]
    fn what_was_written_is_read() {
        let layout = Layout::new(3).unwrap();
        let (mut page, writer) = (page(layout), Writer(layout));
        let known = Known {
            stage: Stage::Serving,
            reloads: 4,
            ..Known::default()
        };
        let head = Head::of(&Monitor::default(), known);
        let mut child = Child::new(ChildId::new(2, 9), 77, Time::START, Duration::ZERO);
        child.state = State::Busy;
        child.flags |= Flags::READY;
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
        assert_eq!(Layout::new(usize::MAX), None);
        assert_eq!(Layout::new(usize::MAX / 64), None);
    }

    proptest! {
        /// No word leads outside of the record, and no bytes lead to a panic.
        #[test]
        fn any_words_can_be_read(seed: u64, words in prop::collection::vec(any::<u64>(), 1..64)) {
            let layout = Layout::new(4).unwrap();
            let length = layout.length() / 8;
            let record = Record::read(layout, |at| {
                assert!(at < length);
                words[(seed as usize).wrapping_add(at) % words.len()]
            });
            prop_assert!(record.deaths.len() <= DEATHS && record.rows.len() <= 4);
        }

        #[test]
        fn any_text_comes_back(text in ".{0,2000}") {
            let layout = Layout::new(0).unwrap();
            let mut page = page(layout);
            put_bytes(&mut page, TEXTS_AT, text.as_bytes());
            prop_assert_eq!(bytes(&|at| page.0[at], TEXTS_AT, TEXTS_BYTES), text.into_bytes());
        }
    }
}
