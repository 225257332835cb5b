//! The slot of the board in which a child notes its state: its own page. Writes nowhere else, and
//! makes no system call but at the child's birth.

#![allow(unsafe_code)]

use super::{WILL_LOOK, view::BoardView};
use crate::{
    core::{
        board::{
            CLIENT_AT, DUE_AT, Description, ENTRY_AT, EXTENDED_AT, KEPT_INTERVAL_AT, PEER_AT,
            QUEUE_TIMES_AT, QUEUED_AT, REQUESTS_AT, SEQUENCE_AT, SINCE_AT, TEXT_AT, TEXT_LENGTH_AT,
            duration_bits, time_bits,
        },
        child::ChildId,
        comm::Interval,
        endpoint_load::Count,
        queue_times,
        time::Time,
        wire::BoardEntry,
    },
    sys::cells,
};
use std::{
    net::SocketAddr,
    num::NonZeroU64,
    ptr::NonNull,
    slice,
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, Release, SeqCst},
        fence,
    },
    time::Duration,
};

/// The slot in which a child notes its state.
pub(crate) struct BoardSlot {
    /// The addresses are kept here: each extra page that a child touches for a connection, after
    /// other processes have run, costs more than the step itself. The slot begins at this one.
    words: Option<NonNull<AtomicU64>>,
    will_look_word: NonNull<AtomicU64>,
    child: ChildId,
    view: BoardView,
}

// SAFETY: it points at atomic numbers, which stay mapped as long as it holds the memory.
unsafe impl Send for BoardSlot {}
// SAFETY: as above.
unsafe impl Sync for BoardSlot {}

impl BoardSlot {
    /// The slot of a child, which begins at the first of `words`. Without words it has none.
    pub(super) fn new(words: Option<&[AtomicU64]>, child: ChildId, view: BoardView) -> Self {
        Self {
            words: words.map(|words| NonNull::from(words).cast()),
            will_look_word: NonNull::from(view.will_look_word()),
            child,
            view,
        }
    }

    /// In a new child, in the thread that serves: makes sure that the slot is all that the child can
    /// write, and lets its metrics count there.
    pub(crate) fn settle(&self) {
        let offset = self.view.layout.offset(self.child.slot());
        let (Some(words), Some(offset)) = (self.words(), offset) else {
            return cells::leave();
        };
        self.view.memory.fix(offset, self.view.layout.slot_size());
        // SAFETY: the slot stays mapped until the process ends.
        unsafe { cells::enter(words) };
    }

    /// Notes who this child is: its holder looks for that when the parent is gone.
    #[cfg(feature = "holder")]
    pub(crate) fn note_pid(&self) {
        use crate::core::{board::PID_AT, journal::NotedPid};
        if let Some(words) = self.words() {
            let own = NotedPid::new(self.child.serial(), std::process::id());
            // OK to ignore: the closure returns a value in any case.
            let _ = words[PID_AT].fetch_update(SeqCst, SeqCst, |before| {
                Some(own.noted_over(NotedPid(before)).0)
            });
        }
    }

    /// Notes the state. True if the parent will find it by itself, false if the child has to print
    /// it.
    pub(crate) fn note(&self, busy: bool) -> bool {
        // The order matters: if WILL_LOOK is set now, the parent looks later than this.
        self.write(busy)
            .is_some_and(|entry| !entry.is_to_be_printed() && self.will_look())
    }

    /// The present entry; `None` if the child no longer owns its slot.
    pub(super) fn write(&self, busy: bool) -> Option<BoardEntry> {
        let word = &self.words()?[ENTRY_AT];
        let after = |bits| {
            let entry = BoardEntry::from_bits(bits);
            // A copy that a child has made of itself, as by daemon(3), may outlive the child.
            entry
                .is_of(self.child.serial())
                .then(|| entry.after(busy).bits())
        };
        let before = word.fetch_update(SeqCst, SeqCst, after).ok()?;
        Some(BoardEntry::from_bits(before).after(busy))
    }

    /// Notes one more connection, in hand since `since`.
    pub(crate) fn begin(&self, since: Time, peer: Option<SocketAddr>) {
        let Some(words) = self.own_words() else {
            return;
        };
        // No other thread takes connections, so this need not be one step.
        words[REQUESTS_AT].store(words[REQUESTS_AT].load(Relaxed).wrapping_add(1), Relaxed);
        words[QUEUED_AT].store(0, Relaxed);
        self.describe(words, || {
            let peer = Description::peer_words(peer);
            for (place, word) in words[PEER_AT..].iter().zip(peer) {
                place.store(word, Relaxed);
            }
            words[TEXT_LENGTH_AT].store(0, Relaxed);
        });
        // The beginning is noted first: the parent must not find the connection before this one
        // without the extension that it had.
        words[SINCE_AT].store(time_bits(Some(since)), Release);
        words[EXTENDED_AT].store(0, Release);
    }

    /// Notes when the child has turned busy, unless the connection has been noted.
    pub(crate) fn note_busy_since(&self, now: impl FnOnce() -> Time) {
        if let Some(words) = self.own_words()
            && words[SINCE_AT].load(Relaxed) == 0
        {
            words[SINCE_AT].store(time_bits(Some(now())), Release);
        }
    }

    /// Notes that no connection is in hand any more.
    pub(crate) fn end(&self) {
        if let Some(words) = self.own_words() {
            words[SINCE_AT].store(0, Relaxed);
            words[CLIENT_AT].store(0, Relaxed);
        }
    }

    /// Notes that the child has a connection of this client, and returns how many children have, this
    /// one included.
    ///
    /// It is noted first and counted then: of two children that do so at the same time, at least one
    /// finds both. A child without a slot counts the others.
    pub(crate) fn claim(&self, client: NonZeroU64) -> usize {
        let own = self.own_words();
        if let Some(words) = own {
            words[CLIENT_AT].store(client.get(), SeqCst);
            fence(SeqCst);
        }
        self.view.connections_of(client) + usize::from(own.is_none())
    }

    /// Notes until when the child asks to go on with the connection in hand.
    pub(crate) fn extend(&self, until: Time) {
        if let Some(words) = self.own_words() {
            words[EXTENDED_AT].store(time_bits(Some(until)), Release);
        }
    }

    /// Notes how long the connection in hand was queued.
    pub(crate) fn note_queued(&self, queued: Duration) {
        self.set(QUEUED_AT, duration_bits(Some(queued)));
    }

    /// Counts how long a connection of a listener was queued.
    pub(crate) fn count_queued(&self, listener: usize, queued: Duration) {
        if let Some(words) = self.own_words() {
            let (bucket, sum) = queue_times::places(listener, queued);
            let nanoseconds = u64::try_from(queued.as_nanos()).unwrap_or(u64::MAX);
            for (at, more) in [(bucket, 1), (sum, nanoseconds)] {
                // No other thread takes connections, so this need not be one step.
                let word = &words[QUEUE_TIMES_AT + at];
                word.store(word.load(Relaxed).wrapping_add(more), Relaxed);
            }
        }
    }

    /// Notes that the child is to be replaced.
    pub(crate) fn note_due(&self) {
        self.set(DUE_AT, 1);
    }

    /// Notes what the handler says about the connection in hand.
    pub(crate) fn note_text(&self, text: &str) {
        let Some(words) = self.own_words() else {
            return;
        };
        let (text, length) = Description::text_words(text);
        self.describe(words, || {
            for (place, word) in words[TEXT_AT..].iter().zip(text) {
                place.store(word, Relaxed);
            }
            words[TEXT_LENGTH_AT].store(length as u64, Relaxed);
        });
    }

    /// Runs `change`, which changes the description. Readers notice that.
    pub(super) fn describe(&self, words: &[AtomicU64], change: impl FnOnce()) {
        let sequence = words[SEQUENCE_AT].load(Relaxed);
        words[SEQUENCE_AT].store(sequence | 1, Relaxed);
        fence(Release);
        change();
        words[SEQUENCE_AT].store((sequence | 1).wrapping_add(1), Release);
    }

    /// The interval of ACKs that the parent asks for, if it has asked.
    pub(crate) fn asked_interval(&self) -> Option<Interval> {
        self.view.asked_interval()
    }

    pub(crate) fn note_interval(&self, interval: Interval) {
        self.set(KEPT_INTERVAL_AT, interval.bits());
    }

    /// How many children have a connection in hand, among those that have a slot.
    pub(crate) fn busy_servers(&self) -> usize {
        self.view.busy_servers()
    }

    /// How many connections the child of each slot has taken.
    pub(crate) fn counts(&self) -> Vec<Count> {
        self.view.counts()
    }

    fn set(&self, at: usize, word: u64) {
        if let Some(words) = self.own_words() {
            words[at].store(word, Relaxed);
        }
    }

    /// The slot, for as long as the child owns it.
    fn own_words(&self) -> Option<&[AtomicU64]> {
        let words = self.words()?;
        let entry = BoardEntry::from_bits(words[ENTRY_AT].load(Relaxed));
        entry.is_of(self.child.serial()).then_some(words)
    }

    pub(super) fn words(&self) -> Option<&[AtomicU64]> {
        let count = self.view.layout.slot_size() / size_of::<AtomicU64>();
        // SAFETY: it points at a slot in the memory that this value holds, which has that size.
        self.words
            .map(|words| unsafe { slice::from_raw_parts(words.as_ptr(), count) })
    }

    pub(super) fn will_look(&self) -> bool {
        // SAFETY: it points into the memory that this value holds.
        unsafe { self.will_look_word.as_ref() }.load(SeqCst) == WILL_LOOK
    }
}
