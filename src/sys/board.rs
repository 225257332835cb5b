//! The board: memory that a parent and its children share, in which each child notes what it is
//! doing, so that it need not print a word for that while the parent is going to look anyway. Makes no
//! sense of what is noted.
//!
//! While words pile up ([`pool::word_batch`](crate::core::pool::word_batch)) the parent sleeps, and looks at
//! everything when it wakes. It promises so here before it goes to sleep. The order is what matters:
//!
//! - A child notes its state, looks for the promise then, and prints if there is none.
//! - The parent takes the promise back, asks the poller which pipes have something, reads those, and looks
//!   at what was noted last. So it finds all that was not printed, and has heard what was printed before it.
//! - What a child has printed is compared with what it has noted, even if that is as it was: it may have been
//!   read late, after newer words had been seen here.
//!
//! Beside that stand the interval of ACKs that the parent asks for, and of each child the one that it keeps
//! and how many connections it has taken. No order matters there.

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

/// What the parent puts up while it is going to look. It is no small number, so that a child which
/// writes to where it should not puts up no promise that nobody keeps: whatever else stands there, words
/// are printed.
const WILL_LOOK: u64 = 0x6c6f_6f6b_2061_7420;

/// How many numbers fill a cache line, in most machines. The promise has one of its own, and so has each
/// entry: children on different processors write to theirs all the time.
const LINE: usize = 8;

/// What stands in the parent's line.
const WILL_LOOK_AT: usize = 0;
const ASKED_INTERVAL_AT: usize = 1;
/// What stands in each child's.
const ENTRY_AT: usize = 0;
const REQUESTS_AT: usize = 1;
const KEPT_INTERVAL_AT: usize = 2;

/// The memory itself.
struct Memory {
    words: NonNull<AtomicU64>,
    length: NonZeroUsize,
}

// SAFETY: it is atomic numbers, in memory that stays where it is until the last owner is gone.
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
        // SAFETY: the mapping is as long, aligned to a page, and zeroed, which is a valid number.
        // Nobody writes to it but by atomic operations.
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

    /// There are as many entries as `max_clients` at the start; more children have none.
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
        // SAFETY: mapped by `new`, and nobody is left who looks at it. OK to ignore: it cannot fail.
        let _ = unsafe { munmap(self.words.cast(), self.length.get()) };
    }
}

/// The parent's view.
pub(crate) struct Board {
    memory: Arc<Memory>,
}

impl Board {
    /// One for that many children.
    pub(crate) fn new(children: usize) -> io::Result<Self> {
        Ok(Self {
            memory: Arc::new(Memory::new(children)?),
        })
    }

    /// What a child has noted; nothing where there is no such slot.
    pub(crate) fn entry(&self, slot: usize) -> Entry {
        let entry = self.memory.entry(slot);
        entry.map_or(Entry::default(), |entry| {
            Entry::from_bits(entry.load(SeqCst))
        })
    }

    /// Before a fork, the entry of a child that has said nothing; after its end, of nobody. What a copy
    /// that it has made of itself has to say is not noted then: it finds that nobody reads its pipe.
    /// False if there is no such slot.
    pub(crate) fn set_entry(&self, slot: usize, entry: Entry) -> bool {
        let line = self.memory.line(slot);
        line.is_some_and(|line| {
            line[REQUESTS_AT].store(0, Relaxed);
            line[KEPT_INTERVAL_AT].store(0, Relaxed);
            line[ENTRY_AT].store(entry.bits(), SeqCst);
            true
        })
    }

    /// How many connections the child of that slot has taken.
    pub(crate) fn requests(&self, slot: usize) -> u64 {
        let line = self.memory.line(slot);
        line.map_or(0, |line| line[REQUESTS_AT].load(Relaxed))
    }

    /// The interval of ACKs that the child of that slot keeps, if it has said so.
    pub(crate) fn kept_interval(&self, slot: usize) -> Option<Interval> {
        let line = self.memory.line(slot)?;
        Interval::from_bits(line[KEPT_INTERVAL_AT].load(Relaxed))
    }

    /// Asks all children for ACKs at that interval.
    pub(crate) fn ask_interval(&self, interval: Interval) {
        let place = self.memory.asked_interval();
        place.store(interval.bits(), Relaxed);
    }

    /// The slot in which a child notes what it is doing: for the child itself.
    pub(crate) fn slot(&self, child: ChildId) -> Slot {
        Slot {
            entry: self.memory.entry(child.slot()).map(NonNull::from),
            promise: NonNull::from(self.memory.will_look_word()),
            slot: child.slot(),
            serial: child.serial(),
            memory: Arc::clone(&self.memory),
        }
    }

    /// Children need not print from now on.
    pub(crate) fn set_will_look(&self) {
        self.memory.will_look_word().store(WILL_LOOK, SeqCst);
    }

    /// They have to, from now on, and the parent is about to look.
    pub(crate) fn clear_will_look(&self) {
        self.memory.will_look_word().store(0, SeqCst);
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

/// Where one child notes what it is doing.
pub(crate) struct Slot {
    /// What is noted and looked at is kept at hand: each page that a child touches for a connection after
    /// others have run costs it more than the step itself.
    entry: Option<NonNull<AtomicU64>>,
    promise: NonNull<AtomicU64>,
    slot: usize,
    serial: u32,
    memory: Arc<Memory>,
}

// SAFETY: what it points at is atomic, and stays for as long as it holds the memory.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    /// Notes it. True if the parent is going to find it by itself, false if it has to be told.
    pub(crate) fn note(&self, busy: bool) -> bool {
        // The order matters: a promise that stands now is kept by looking later than this.
        self.write(busy)
            .is_some_and(|entry| !entry.is_to_be_printed() && self.will_look())
    }

    /// The entry as it is now; `None` if there is no such place any more.
    fn write(&self, busy: bool) -> Option<Entry> {
        // SAFETY: it is in the memory that this holds.
        let place = unsafe { self.entry.as_ref()?.as_ref() };
        let after = |bits| {
            let entry = Entry::from_bits(bits);
            // A copy that a child has made of itself, as by daemon(3), may outlive it.
            entry.is_of(self.serial).then(|| entry.after(busy).bits())
        };
        let before = place.fetch_update(SeqCst, SeqCst, after).ok()?;
        Some(Entry::from_bits(before).after(busy))
    }

    /// Counts one more connection.
    pub(crate) fn count_request(&self) {
        if let Some(line) = self.line() {
            line[REQUESTS_AT].fetch_add(1, Relaxed);
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

    /// How many children have a connection in hand, of those that have a slot.
    pub(crate) fn busy_servers(&self) -> usize {
        self.memory.busy()
    }

    /// The child's own line, for as long as it is its own.
    fn line(&self) -> Option<&[AtomicU64]> {
        let line = self.memory.line(self.slot)?;
        let entry = Entry::from_bits(line[ENTRY_AT].load(Relaxed));
        entry.is_of(self.serial).then_some(line)
    }

    fn will_look(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.promise.as_ref() }.load(SeqCst) == WILL_LOOK
    }
}

#[cfg(test)]
mod tests;
