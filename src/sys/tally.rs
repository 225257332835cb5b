//! Counters that a parent shares with its children: all add, none is lost with a child that is
//! killed. Does not know what is counted.

#![allow(unsafe_code)]

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::{
    fmt, io,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// `COUNT` counters in memory that stays shared over forks.
///
/// A child can write any number here: it is for statistics, and nothing is decided by it.
pub(crate) struct Tally<const COUNT: usize>(NonNull<[AtomicU64; COUNT]>);

impl<const COUNT: usize> Tally<COUNT> {
    const LENGTH: NonZeroUsize = match NonZeroUsize::new(size_of::<[AtomicU64; COUNT]>()) {
        Some(length) => length,
        None => panic!("there is nothing to count"),
    };

    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let memory = unsafe {
            mmap_anonymous(
                None,
                Self::LENGTH,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
            )
        }?;
        Ok(Self(memory.cast()))
    }

    pub(crate) fn add_one(&self, counter: usize) {
        self.counters()[counter].fetch_add(1, Relaxed);
    }

    pub(crate) fn get(&self, counter: usize) -> u64 {
        self.counters()[counter].load(Relaxed)
    }

    /// What a child may do that writes to any address.
    #[cfg(test)]
    pub(crate) fn set(&self, counter: usize, count: u64) {
        self.counters()[counter].store(count, Relaxed);
    }

    pub(crate) fn read(&self) -> [u64; COUNT] {
        let counters = self.counters();
        std::array::from_fn(|counter| counters[counter].load(Relaxed))
    }

    fn counters(&self) -> &[AtomicU64; COUNT] {
        // SAFETY: the mapping has this size, is page-aligned, and zeroed, which is a valid number;
        // it stays mapped as long as this value lives. All writes are atomic operations.
        unsafe { self.0.as_ref() }
    }
}

impl<const COUNT: usize> Drop for Tally<COUNT> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no reference to it is left. OK to ignore: it cannot fail.
        let _ = unsafe { munmap(self.0.cast(), Self::LENGTH.get()) };
    }
}

impl<const COUNT: usize> fmt::Debug for Tally<COUNT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tally").field(&self.read()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_counts_for_itself() {
        let tally: Tally<3> = Tally::new().unwrap();
        assert_eq!(tally.read(), [0; 3]);
        tally.add_one(2);
        tally.add_one(0);
        tally.add_one(2);
        assert_eq!(tally.read(), [1, 0, 2]);
        assert_eq!((tally.get(1), tally.get(2)), (0, 2));
        assert_eq!(format!("{tally:?}"), "Tally([1, 0, 2])");
    }
}
