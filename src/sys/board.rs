//! The board: memory shared by a parent and its children. Each child notes its state here, and need
//! not print a word while the parent will look anyway. Does not interpret what is noted.
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
//! The board also holds the ACK interval that the parent asks for and, for each child, the interval
//! that it keeps and the number of connections that it has taken. No order matters there.

#![allow(unsafe_code)]

use crate::core::{child::ChildId, comm::Interval, wire::Entry};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::{
    fmt, io,
    num::NonZeroUsize,
    ptr::NonNull,
    slice,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

/// The value of the parent's word while it will look. It is not a small number, so that a child
/// which writes to a wrong address cannot set it by accident: with any other value, words are
/// printed.
const WILL_LOOK: u64 = 0x6c6f_6f6b_2061_7420;

/// How many numbers fill a cache line on most machines. The parent's words have a line of their
/// own, and so has each entry: children on different processors write to theirs all the time.
const LINE: usize = 8;

/// Offsets in the parent's line.
const WILL_LOOK_AT: usize = 0;
const ASKED_INTERVAL_AT: usize = 1;
/// Offsets in each child's line.
const ENTRY_AT: usize = 0;
const REQUESTS_AT: usize = 1;
const KEPT_INTERVAL_AT: usize = 2;
const DUE_AT: usize = 3;

/// The shared memory.
struct Memory {
    words: NonNull<AtomicU64>,
    length: NonZeroUsize,
}

// SAFETY: it holds atomic numbers, in memory that stays mapped until the last owner is gone.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(entries: usize) -> io::Result<Self> {
        let length = entries
            .checked_add(1)
            .and_then(|lines| lines.checked_mul(LINE * size_of::<AtomicU64>()))
            .and_then(NonZeroUsize::new)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let memory = unsafe {
            mmap_anonymous(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
            )
        }?;
        Ok(Self {
            words: memory.cast(),
            length,
        })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has this length, is page-aligned, and zeroed, which is a valid
        // number. All writes to it are atomic operations.
        unsafe {
            slice::from_raw_parts(
                self.words.as_ptr(),
                self.length.get() / size_of::<AtomicU64>(),
            )
        }
    }

    fn will_look_word(&self) -> &AtomicU64 {
        &self.words()[WILL_LOOK_AT]
    }

    fn asked_interval(&self) -> &AtomicU64 {
        &self.words()[ASKED_INTERVAL_AT]
    }

    /// The line of a child. There are `max_clients` of them, as set at the start; further children
    /// have none.
    fn line(&self, slot: usize) -> Option<&[AtomicU64]> {
        let start = (slot + 1) * LINE;
        self.words().get(start..start + LINE)
    }

    fn entry(&self, slot: usize) -> Option<&AtomicU64> {
        Some(&self.line(slot)?[ENTRY_AT])
    }

    /// How many children have a connection in hand.
    fn busy(&self) -> usize {
        let lines = self.words().chunks_exact(LINE).skip(1);
        let entries = lines.map(|line| Entry::from_bits(line[ENTRY_AT].load(Relaxed)));
        entries.filter(|entry| entry.is_busy()).count()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no reference to it is left. OK to ignore: it cannot fail.
        let _ = unsafe { munmap(self.words.cast(), self.length.get()) };
    }
}

/// The parent's view.
pub(crate) struct Board {
    memory: Arc<Memory>,
}

impl Board {
    /// A board for that many children.
    pub(crate) fn new(children: usize) -> io::Result<Self> {
        Ok(Self {
            memory: Arc::new(Memory::new(children)?),
        })
    }

    /// What a child has noted; the default where there is no such slot.
    pub(crate) fn entry(&self, slot: usize) -> Entry {
        let entry = self.memory.entry(slot);
        entry.map_or(Entry::default(), |entry| {
            Entry::from_bits(entry.load(SeqCst))
        })
    }

    /// Sets an entry: before a fork for a child that has said nothing, after its end for no child.
    /// A copy that the child has made of itself then notes nothing, and finds that its pipe has no
    /// reader. False if there is no such slot.
    pub(crate) fn set_entry(&self, slot: usize, entry: Entry) -> bool {
        let line = self.memory.line(slot);
        line.is_some_and(|line| {
            line[REQUESTS_AT].store(0, Relaxed);
            line[KEPT_INTERVAL_AT].store(0, Relaxed);
            line[DUE_AT].store(0, Relaxed);
            line[ENTRY_AT].store(entry.bits(), SeqCst);
            true
        })
    }

    /// How many connections the child of a slot has taken.
    pub(crate) fn requests(&self, slot: usize) -> u64 {
        let line = self.memory.line(slot);
        line.map_or(0, |line| line[REQUESTS_AT].load(Relaxed))
    }

    /// Whether the child of a slot is to be replaced.
    pub(crate) fn is_due(&self, slot: usize) -> bool {
        let line = self.memory.line(slot);
        line.is_some_and(|line| line[DUE_AT].load(Relaxed) != 0)
    }

    /// The ACK interval that the child of a slot keeps, if it has noted one.
    pub(crate) fn kept_interval(&self, slot: usize) -> Option<Interval> {
        let line = self.memory.line(slot)?;
        Interval::from_bits(line[KEPT_INTERVAL_AT].load(Relaxed))
    }

    /// Asks all children for ACKs at this interval.
    pub(crate) fn ask_interval(&self, interval: Interval) {
        let place = self.memory.asked_interval();
        place.store(interval.bits(), Relaxed);
    }

    /// A child's access to its slot, for the child itself.
    pub(crate) fn slot(&self, child: ChildId) -> Slot {
        Slot {
            entry: self.memory.entry(child.slot()).map(NonNull::from),
            will_look_word: NonNull::from(self.memory.will_look_word()),
            slot: child.slot(),
            serial: child.serial(),
            memory: Arc::clone(&self.memory),
        }
    }

    /// From now on children need not print.
    pub(crate) fn set_will_look(&self) {
        self.memory.will_look_word().store(WILL_LOOK, SeqCst);
    }

    /// From now on children print; the parent is about to look.
    pub(crate) fn clear_will_look(&self) {
        self.memory.will_look_word().store(0, SeqCst);
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

/// The slot in which a child notes its state.
pub(crate) struct Slot {
    /// The addresses are kept here: each extra page that a child touches for a connection, after
    /// other processes have run, costs more than the step itself.
    entry: Option<NonNull<AtomicU64>>,
    will_look_word: NonNull<AtomicU64>,
    slot: usize,
    serial: u32,
    memory: Arc<Memory>,
}

// SAFETY: it points at atomic numbers, which stay mapped as long as it holds the memory.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    /// Notes the state. True if the parent will find it by itself, false if the child has to print
    /// it.
    pub(crate) fn note(&self, busy: bool) -> bool {
        // The order matters: if WILL_LOOK is set now, the parent looks later than this.
        self.write(busy)
            .is_some_and(|entry| !entry.is_to_be_printed() && self.will_look())
    }

    /// The present entry; `None` if the child no longer owns its slot.
    fn write(&self, busy: bool) -> Option<Entry> {
        // SAFETY: it points into the memory that this value holds.
        let word = unsafe { self.entry.as_ref()?.as_ref() };
        let after = |bits| {
            let entry = Entry::from_bits(bits);
            // A copy that a child has made of itself, as by daemon(3), may outlive the child.
            entry.is_of(self.serial).then(|| entry.after(busy).bits())
        };
        let before = word.fetch_update(SeqCst, SeqCst, after).ok()?;
        Some(Entry::from_bits(before).after(busy))
    }

    /// Counts one more connection.
    pub(crate) fn count_request(&self) {
        if let Some(line) = self.line() {
            line[REQUESTS_AT].fetch_add(1, Relaxed);
        }
    }

    /// Notes that the child is to be replaced.
    pub(crate) fn note_due(&self) {
        if let Some(line) = self.line() {
            line[DUE_AT].store(1, Relaxed);
        }
    }

    /// The interval of ACKs that the parent asks for, if it has asked.
    pub(crate) fn asked_interval(&self) -> Option<Interval> {
        Interval::from_bits(self.memory.asked_interval().load(Relaxed))
    }

    pub(crate) fn note_interval(&self, interval: Interval) {
        if let Some(line) = self.line() {
            line[KEPT_INTERVAL_AT].store(interval.bits(), Relaxed);
        }
    }

    /// How many children have a connection in hand, among those that have a slot.
    pub(crate) fn busy_servers(&self) -> usize {
        self.memory.busy()
    }

    /// The child's own line, for as long as the child owns it.
    fn line(&self) -> Option<&[AtomicU64]> {
        let line = self.memory.line(self.slot)?;
        let entry = Entry::from_bits(line[ENTRY_AT].load(Relaxed));
        entry.is_of(self.serial).then_some(line)
    }

    fn will_look(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.will_look_word.as_ref() }.load(SeqCst) == WILL_LOOK
    }
}

#[cfg(test)]
mod tests;
