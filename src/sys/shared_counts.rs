//! Counters in memory that a parent shares with its children: a child adds, whoever has them reads.
//! Knows nothing of what is counted.

#![allow(unsafe_code)]

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::{
    fmt, io,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// `N` counters, which begin at zero. A fork inherits them.
pub(crate) struct SharedCounts<const N: usize>(NonNull<[AtomicU64; N]>);

impl<const N: usize> SharedCounts<N> {
    /// As a mapping must have a length, there is room for one counter at least.
    const LENGTH: NonZeroUsize = NonZeroUsize::new(size_of::<[AtomicU64; N]>())
        .expect("counters of which there is at least one");

    pub(crate) fn new() -> io::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let memory = unsafe { mmap_anonymous(None, Self::LENGTH, access, MapFlags::MAP_SHARED) }?;
        Ok(Self(memory.cast()))
    }

    /// Adds one to a counter. One that does not exist is left alone.
    pub(crate) fn add(&self, counter: usize) {
        if let Some(counter) = self.all().get(counter) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// The counters as they are now.
    pub(crate) fn read(&self) -> [u64; N] {
        self.all().each_ref().map(|counter| counter.load(Relaxed))
    }

    fn all(&self) -> &[AtomicU64; N] {
        // SAFETY: the mapping has this length, is page-aligned, and zeroed, which is a valid
        // number. All writes to it are atomic operations.
        unsafe { self.0.as_ref() }
    }
}

impl<const N: usize> Drop for SharedCounts<N> {
    fn drop(&mut self) {
        // SAFETY: mapped once, and no reference to it is left. OK to ignore: it cannot fail.
        let _ = unsafe { munmap(self.0.cast(), Self::LENGTH.get()) };
    }
}

impl<const N: usize> fmt::Debug for SharedCounts<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedCounts").field(&self.read()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_counts_by_itself() {
        let counts = SharedCounts::<3>::new().unwrap();
        assert_eq!(counts.read(), [0; 3]);
        for counter in [2, 0, 2, 3, usize::MAX] {
            counts.add(counter);
        }
        assert_eq!(counts.read(), [1, 0, 2]);
    }
}
