//! Shared memory in which children leave copies of their stacks, a slot for each child. Pages are
//! taken when a child answers and given back when its record, or the look at it, ends. Interprets
//! nothing.

#![allow(unsafe_code)]

use crate::core::child::ChildId;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use std::{
    ffi::c_void,
    fmt, io,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

/// How much of a stack is copied, from the stack pointer up.
pub(super) const COPIED: usize = 64 * 1024;
/// The header has a page of its own, so that the copy is page-aligned.
const PAGE: usize = 4096;
const SLOT: usize = PAGE + COPIED;

/// What happens in a slot, in the upper half of its word; the lower half is the child's serial.
#[derive(Clone, Copy)]
#[repr(u64)]
enum SlotPhase {
    Asked = 1,
    Writing,
    Left,
}

const fn word(phase: SlotPhase, serial: u32) -> u64 {
    (phase as u64) << 32 | serial as u64
}

/// The registers from which a stack is walked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Registers {
    pub(super) ip: u64,
    pub(super) sp: u64,
    /// The frame pointer, if the code keeps one.
    pub(super) fp: u64,
    /// The link register, on AArch64.
    pub(super) lr: u64,
}

/// The beginning of a slot.
#[repr(C)]
struct SlotHeader {
    word: AtomicU64,
    registers: [AtomicU64; 4],
    length: AtomicUsize,
}

/// What a child has left.
#[derive(Debug)]
pub(super) struct StackCopy {
    pub(super) registers: Registers,
    /// The bytes from the stack pointer up.
    pub(super) stack: Vec<u8>,
}

/// One slot.
#[derive(Clone, Copy)]
pub(super) struct StackSlot(NonNull<SlotHeader>);

impl StackSlot {
    fn header(&self) -> &SlotHeader {
        // SAFETY: it points at the beginning of a slot of an area that stays mapped, is aligned to a
        // page and zeroed at first; a header consists of atomic numbers.
        unsafe { self.0.as_ref() }
    }

    fn bytes(&self) -> NonNull<u8> {
        // SAFETY: a slot has `COPIED` bytes behind its first page.
        unsafe { self.0.cast::<u8>().add(PAGE) }
    }

    /// The address of the header, for a static.
    pub(super) fn address(self) -> usize {
        self.0.as_ptr() as usize
    }

    /// The slot with this address; `None` for zero.
    ///
    /// # Safety
    ///
    /// [`address`](Self::address) has returned it, or it is zero; and the area is still mapped.
    pub(super) unsafe fn at(address: usize) -> Option<Self> {
        NonNull::new(address as *mut SlotHeader).map(Self)
    }

    /// Asks the child with this serial, unless it has answered already.
    pub(super) fn ask(self, serial: u32) {
        if !self.is_left_by(serial) {
            self.header()
                .word
                .store(word(SlotPhase::Asked, serial), Release);
        }
    }

    /// Whether the child has left a copy.
    pub(super) fn is_left_by(self, serial: u32) -> bool {
        self.header().word.load(Acquire) == word(SlotPhase::Left, serial)
    }

    /// In the child's signal handler: leaves a copy, if this child was asked and has not answered.
    /// `copy` copies from the first address to the second and returns how many bytes it has copied.
    /// Async-signal-safe if `copy` is.
    pub(super) fn leave(
        self,
        serial: u32,
        registers: Registers,
        copy: fn(u64, NonNull<u8>, usize) -> usize,
    ) {
        let header = self.header();
        let (asked, writing) = (
            word(SlotPhase::Asked, serial),
            word(SlotPhase::Writing, serial),
        );
        let claimed = header
            .word
            .compare_exchange(asked, writing, AcqRel, Relaxed);
        if claimed.is_err() {
            return;
        }
        let Registers { ip, sp, fp, lr } = registers;
        for (at, value) in header.registers.iter().zip([ip, sp, fp, lr]) {
            at.store(value, Relaxed);
        }
        header.length.store(copy(sp, self.bytes(), COPIED), Relaxed);
        // Unless the question was withdrawn meanwhile: then this is no answer to the next one.
        let left = word(SlotPhase::Left, serial);
        let _ = header.word.compare_exchange(writing, left, AcqRel, Relaxed);
    }

    /// The copy that the child has left.
    pub(super) fn read(self, serial: u32) -> Option<StackCopy> {
        if !self.is_left_by(serial) {
            return None;
        }
        let [ip, sp, fp, lr] = self
            .header()
            .registers
            .each_ref()
            .map(|it| it.load(Relaxed));
        // A child may have written anything here.
        let length = self.header().length.load(Relaxed).min(COPIED);
        let mut stack = vec![0; length];
        // SAFETY: the slot has `COPIED` bytes there, and the new vector `length`. Another process may
        // write at the same time by fault; then the bytes are garbage, which the reader expects.
        unsafe {
            stack
                .as_mut_ptr()
                .copy_from_nonoverlapping(self.bytes().as_ptr(), length)
        };
        Some(StackCopy {
            registers: Registers { ip, sp, fp, lr },
            stack,
        })
    }
}

/// The memory, in the parent and in its children.
pub(super) struct StackArea {
    memory: NonNull<c_void>,
    length: NonZeroUsize,
}

impl fmt::Debug for StackArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Area").finish_non_exhaustive()
    }
}

impl StackArea {
    /// An area for this many children. Further children are not asked.
    pub(super) fn new(children: usize) -> io::Result<Self> {
        let length = children
            .max(1)
            .checked_mul(SLOT)
            .and_then(NonZeroUsize::new);
        let length = length.ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // Most of it is never used, so no memory is set aside for it.
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let memory = unsafe { mmap_anonymous(None, length, protection, flags) }?;
        Ok(Self { memory, length })
    }

    pub(super) fn slot(&self, child: ChildId) -> Option<StackSlot> {
        let at = child.slot().checked_mul(SLOT)?;
        let fits = at.checked_add(SLOT)? <= self.length.get();
        // SAFETY: the slot lies within the mapping.
        fits.then(|| StackSlot(unsafe { self.memory.cast::<u8>().add(at) }.cast()))
    }

    /// Withdraws a question, and gives back the pages of a slot, which then reads as zeros.
    pub(super) fn clear(&self, child: ChildId) {
        let Some(slot) = self.slot(child) else { return };
        if slot.header().word.load(Relaxed) != 0 {
            // SAFETY: the slot is whole pages of a shared mapping of ours, which holds numbers only.
            // OK to ignore: then the pages stay until the slot is used again.
            let _ = unsafe { madvise(slot.0.cast(), SLOT, MmapAdvise::MADV_REMOVE) };
            slot.header().word.store(0, Release);
        }
    }
}

impl Drop for StackArea {
    fn drop(&mut self) {
        // SAFETY: mapped once. Slots are used only while the area exists; a child never drops it. OK
        // to ignore: it cannot fail.
        let _ = unsafe { munmap(self.memory, self.length.get()) };
    }
}
