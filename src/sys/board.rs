//! The board: memory in which each child notes its state, so that it need not print a word while the
//! parent will look anyway, and whoever looks sees what the children do. Does not interpret what is
//! noted. `core/board` has the places.
//!
//! A child can write its own slot and nothing else: the slot is a page of its own, which it is lent
//! at its fork. The rest it can read.
//!
//! While words pile up ([`pool::word_batch`](crate::core::pool::word_batch)) the parent sleeps, and
//! looks at every entry when it wakes. Before it sleeps, it writes WILL_LOOK here. The order is
//! what matters:
//!
//! - A child notes its state, then reads WILL_LOOK, and prints its word if WILL_LOOK is not set.
//! - The parent clears WILL_LOOK, asks the poller which pipes are readable, reads those, and then
//!   looks at the entries. So it finds every word that was not printed, after all words that were
//!   printed before it.
//! - A printed word is compared with the child's entry, even if the entry has not changed: the word
//!   may have been read late, after newer words were seen here.
//!
//! No order matters for the other numbers.

#![allow(unsafe_code)]

use super::{fd_registry::Ours, shared_memory::SharedMemory};
use crate::core::{
    board::{
        ASKED_INTERVAL_AT, DUE_AT, Description, ENTRY_AT, EXTENDED_AT, KEPT_INTERVAL_AT, Layout,
        Notes, PEER_AT, PEER_WORDS, QUEUED_AT, REQUESTS_AT, SEQUENCE_AT, SINCE_AT, TEXT_AT,
        TEXT_LENGTH_AT, TEXT_WORDS, USED_AT, WILL_LOOK_AT, duration_bits, time_bits,
    },
    child::ChildId,
    comm::Interval,
    time::Time,
    wire::Entry,
};
use nix::unistd::{SysconfVar, sysconf};
use std::{
    array, io,
    net::SocketAddr,
    os::fd::OwnedFd,
    ptr::NonNull,
    slice,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release, SeqCst},
        fence,
    },
    time::Duration,
};

/// The value of the parent's word while it will look. It is not a small number, so that a child
/// which writes to a wrong address cannot set it by accident: with any other value, words are
/// printed.
const WILL_LOOK: u64 = 0x6c6f_6f6b_2061_7420;

/// The parent's view.
#[derive(Debug)]
pub(crate) struct Board {
    memory: SharedMemory,
    layout: Layout,
    /// The slot that the next fork has.
    lent: Option<usize>,
    /// The file, for whoever looks from outside. Nobody can write to it.
    _file: Option<Ours<OwnedFd>>,
}

impl Board {
    /// A board for that many children. `clock_start` is the reading of the clock at
    /// [`Time::START`].
    pub(crate) fn new(children: usize, clock_start: u64) -> io::Result<Self> {
        let layout = Layout::new(page_size(), children).ok_or(io::ErrorKind::OutOfMemory)?;
        let (memory, file) = SharedMemory::new(c"prefork-board", layout.length())?;
        for (place, word) in memory.owners_words().iter().zip(layout.header(clock_start)) {
            place.store(word, Relaxed);
        }
        Ok(Self {
            memory,
            layout,
            lent: None,
            _file: file.map(Ours::parents),
        })
    }

    /// The words of a slot, to be read. `None` if there is no such slot.
    fn words(&self, slot: usize) -> Option<&[AtomicU64]> {
        slot_words(&self.memory, self.layout, slot)
    }

    /// What a child has noted; the default where there is no such slot.
    pub(crate) fn entry(&self, slot: usize) -> Entry {
        let words = self.words(slot);
        words.map_or(Entry::default(), |words| {
            Entry::from_bits(words[ENTRY_AT].load(SeqCst))
        })
    }

    /// What the slot says of its child; the default where there is no such slot.
    pub(crate) fn notes(&self, slot: usize, now: Time) -> Notes {
        let words = self.words(slot);
        words.map_or(Notes::default(), |words| {
            Notes::new(&array::from_fn(|at| words[at].load(Relaxed)), now)
        })
    }

    /// Whom the child of a slot serves. `None` while the child changes it, also if it has died over
    /// that.
    pub(crate) fn description(&self, slot: usize) -> Option<Description> {
        const ATTEMPTS: usize = 3;
        let words = self.words(slot)?;
        (0..ATTEMPTS).find_map(|_| describe(words))
    }

    /// Prepares a slot for the child that is forked next: it has said nothing. False if there is no
    /// such slot.
    pub(crate) fn open(&mut self, child: ChildId) -> bool {
        // The last fork may have failed.
        self.forked();
        let Some(offset) = self.layout.offset(child.slot()) else {
            return false;
        };
        let Some(words) = self.memory.writable_words() else {
            return false;
        };
        let used = &words[USED_AT];
        used.store(used.load(Relaxed).max(child.slot() as u64 + 1), Relaxed);
        self.clear(child.slot(), Entry::of(child.serial()));
        self.lent = self
            .memory
            .lend(offset, self.layout.slot_size())
            .then_some(child.slot());
        self.lent.is_some()
    }

    /// In the parent, after the fork: the next child does not have the slot.
    pub(crate) fn forked(&mut self) {
        if let Some(offset) = self.lent.take().and_then(|slot| self.layout.offset(slot)) {
            self.memory.take_back(offset, self.layout.slot_size());
        }
    }

    /// Clears a slot whose child has ended. A copy that the child has made of itself then notes
    /// nothing, and finds that its pipe has no reader.
    pub(crate) fn close(&mut self, slot: usize) {
        self.clear(slot, Entry::default());
    }

    fn clear(&self, slot: usize, entry: Entry) {
        let offset = self.layout.offset(slot);
        if let (Some(offset), Some(words)) = (offset, self.memory.writable_words()) {
            let start = offset / size_of::<AtomicU64>();
            for word in &words[start + ENTRY_AT + 1..=start + TEXT_LENGTH_AT] {
                word.store(0, Relaxed);
            }
            words[start + ENTRY_AT].store(entry.bits(), SeqCst);
        }
    }

    /// The ACK interval that the child of a slot keeps, if it has noted one.
    pub(crate) fn kept_interval(&self, slot: usize) -> Option<Interval> {
        Interval::from_bits(self.words(slot)?[KEPT_INTERVAL_AT].load(Relaxed))
    }

    /// Asks all children for ACKs at this interval.
    pub(crate) fn ask_interval(&self, interval: Interval) {
        if let Some(words) = self.memory.writable_words() {
            words[ASKED_INTERVAL_AT].store(interval.bits(), Relaxed);
        }
    }

    /// A child's access to its slot, for the child itself.
    pub(crate) fn slot(&self, child: ChildId) -> Slot {
        let has_it = self.lent == Some(child.slot()) || self.memory.writable_words().is_some();
        let size = self.layout.slot_size();
        let words = self.layout.offset(child.slot()).filter(|_| has_it);
        let words = words.and_then(|offset| self.memory.lent_words(offset, size));
        Slot {
            words: words.map(|words| NonNull::from(words).cast()),
            will_look_word: NonNull::from(&self.memory.words()[WILL_LOOK_AT]),
            child,
            layout: self.layout,
            memory: self.memory.clone(),
        }
    }

    /// From now on children need not print.
    ///
    /// Only in the process that has made the board, as the next.
    pub(crate) fn set_will_look(&self) {
        self.memory.owners_words()[WILL_LOOK_AT].store(WILL_LOOK, SeqCst);
    }

    /// From now on children print; the parent is about to look.
    pub(crate) fn clear_will_look(&self) {
        self.memory.owners_words()[WILL_LOOK_AT].store(0, SeqCst);
    }
}

fn page_size() -> usize {
    const USUAL: usize = 4096;
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok())
        .unwrap_or(USUAL)
}

fn slot_words(memory: &SharedMemory, layout: Layout, slot: usize) -> Option<&[AtomicU64]> {
    let size = size_of::<AtomicU64>();
    let start = layout.offset(slot)? / size;
    memory.words().get(start..start + layout.slot_size() / size)
}

/// Reads a description, unless it changes meanwhile.
fn describe(words: &[AtomicU64]) -> Option<Description> {
    let before = words[SEQUENCE_AT].load(Acquire);
    let peer: [u64; PEER_WORDS] = array::from_fn(|at| words[PEER_AT + at].load(Relaxed));
    let length = words[TEXT_LENGTH_AT].load(Relaxed);
    let text: [u64; TEXT_WORDS] = array::from_fn(|at| words[TEXT_AT + at].load(Relaxed));
    fence(Acquire);
    let after = words[SEQUENCE_AT].load(Relaxed);
    (before == after && before.is_multiple_of(2)).then(|| Description::new(peer, length, &text))
}

/// The slot in which a child notes its state.
pub(crate) struct Slot {
    /// The addresses are kept here: each extra page that a child touches for a connection, after
    /// other processes have run, costs more than the step itself. The slot begins at this one.
    words: Option<NonNull<AtomicU64>>,
    will_look_word: NonNull<AtomicU64>,
    child: ChildId,
    layout: Layout,
    memory: SharedMemory,
}

// SAFETY: it points at atomic numbers, which stay mapped as long as it holds the memory.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    /// In a new child: makes sure that the slot is all that the child can write.
    pub(crate) fn settle(&self) {
        if let (Some(_), Some(offset)) = (self.words, self.layout.offset(self.child.slot())) {
            self.memory.fix(offset, self.layout.slot_size());
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
    fn write(&self, busy: bool) -> Option<Entry> {
        let word = &self.words()?[ENTRY_AT];
        let after = |bits| {
            let entry = Entry::from_bits(bits);
            // A copy that a child has made of itself, as by daemon(3), may outlive the child.
            entry
                .is_of(self.child.serial())
                .then(|| entry.after(busy).bits())
        };
        let before = word.fetch_update(SeqCst, SeqCst, after).ok()?;
        Some(Entry::from_bits(before).after(busy))
    }

    /// Notes one more connection, in hand since `since`.
    pub(crate) fn begin(&self, since: Time, peer: Option<SocketAddr>) {
        let Some(words) = self.own_words() else {
            return;
        };
        // No other thread takes connections, so this need not be one step.
        words[REQUESTS_AT].store(words[REQUESTS_AT].load(Relaxed).wrapping_add(1), Relaxed);
        words[EXTENDED_AT].store(0, Relaxed);
        words[QUEUED_AT].store(0, Relaxed);
        self.describe(words, || {
            let peer = Description::peer_words(peer);
            for (place, word) in words[PEER_AT..].iter().zip(peer) {
                place.store(word, Relaxed);
            }
            words[TEXT_LENGTH_AT].store(0, Relaxed);
        });
        words[SINCE_AT].store(time_bits(Some(since)), Relaxed);
    }

    /// Notes that no connection is in hand any more.
    pub(crate) fn end(&self) {
        self.set(SINCE_AT, 0);
    }

    /// Notes until when the child asks to go on with the connection in hand.
    #[allow(dead_code, reason = "its caller is on its way")]
    pub(crate) fn extend(&self, until: Time) {
        self.set(EXTENDED_AT, time_bits(Some(until)));
    }

    /// Notes how long the connection in hand was queued.
    #[allow(dead_code, reason = "its caller is on its way")]
    pub(crate) fn note_queued(&self, queued: Duration) {
        self.set(QUEUED_AT, duration_bits(Some(queued)));
    }

    /// Notes that the child is due for replacement; zero takes that back.
    #[allow(dead_code, reason = "its caller is on its way")]
    pub(crate) fn note_due(&self, due: u64) {
        self.set(DUE_AT, due);
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
    fn describe(&self, words: &[AtomicU64], change: impl FnOnce()) {
        let sequence = words[SEQUENCE_AT].load(Relaxed);
        words[SEQUENCE_AT].store(sequence | 1, Relaxed);
        fence(Release);
        change();
        words[SEQUENCE_AT].store((sequence | 1).wrapping_add(1), Release);
    }

    /// The interval of ACKs that the parent asks for, if it has asked.
    pub(crate) fn asked_interval(&self) -> Option<Interval> {
        Interval::from_bits(self.memory.words()[ASKED_INTERVAL_AT].load(Relaxed))
    }

    pub(crate) fn note_interval(&self, interval: Interval) {
        self.set(KEPT_INTERVAL_AT, interval.bits());
    }

    /// How many children have a connection in hand, among those that have a slot.
    pub(crate) fn busy_servers(&self) -> usize {
        // OK because there are no more than fit into memory.
        let used = self.memory.words()[USED_AT].load(Relaxed) as usize;
        let slots = (0..used).map_while(|slot| slot_words(&self.memory, self.layout, slot));
        let entries = slots.map(|words| Entry::from_bits(words[ENTRY_AT].load(Relaxed)));
        entries.filter(|entry| entry.is_busy()).count()
    }

    fn set(&self, at: usize, word: u64) {
        if let Some(words) = self.own_words() {
            words[at].store(word, Relaxed);
        }
    }

    /// The slot, for as long as the child owns it.
    fn own_words(&self) -> Option<&[AtomicU64]> {
        let words = self.words()?;
        let entry = Entry::from_bits(words[ENTRY_AT].load(Relaxed));
        entry.is_of(self.child.serial()).then_some(words)
    }

    fn words(&self) -> Option<&[AtomicU64]> {
        let count = self.layout.slot_size() / size_of::<AtomicU64>();
        // SAFETY: it points at a slot in the memory that this value holds, which has that size.
        self.words
            .map(|words| unsafe { slice::from_raw_parts(words.as_ptr(), count) })
    }

    fn will_look(&self) -> bool {
        // SAFETY: it points into the memory that this value holds.
        unsafe { self.will_look_word.as_ref() }.load(SeqCst) == WILL_LOOK
    }
}

#[cfg(test)]
mod tests;
