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

#![allow(unsafe_code)]

use crate::core::{child::ChildId, wire::Entry};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::{
    fmt, io,
    num::NonZeroUsize,
    ptr::NonNull,
    slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

/// What the parent puts up while it is going to look. It is no small number, so that a child which
/// writes to where it should not puts up no promise that nobody keeps: whatever else stands there, words
/// are printed.
const WILL_LOOK: u64 = 0x6c6f_6f6b_2061_7420;

/// How many numbers fill a cache line, in most machines. The promise has one of its own, and so has each
/// entry: children on different processors write to theirs all the time.
const LINE: usize = 8;

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
        &self.words()[0]
    }

    /// There are as many entries as `max_clients` at the start; more children have none.
    fn entry(&self, slot: usize) -> Option<&AtomicU64> {
        self.words().get((slot + 1) * LINE)
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
        let place = self.memory.entry(slot);
        place.is_some_and(|place| {
            place.store(entry.bits(), SeqCst);
            true
        })
    }

    /// The slot in which a child notes what it is doing: for the child itself.
    pub(crate) fn slot(&self, child: ChildId) -> Slot {
        Slot {
            entry: self.memory.entry(child.slot()).map(NonNull::from),
            promise: NonNull::from(self.memory.will_look_word()),
            serial: child.serial(),
            _memory: Arc::clone(&self.memory),
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
    serial: u32,
    _memory: Arc<Memory>,
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

    fn will_look(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.promise.as_ref() }.load(SeqCst) == WILL_LOOK
    }
}

#[cfg(test)]
mod tests;
