//! One mapping of shared memory, and what forks have of it. Says nothing of who may write.

#![allow(unsafe_code)]

use nix::sys::mman::munmap;
#[cfg(target_os = "linux")]
use nix::sys::mman::{MapFlags, ProtFlags};
#[cfg(target_os = "linux")]
use std::{ffi::CStr, io, os::fd::OwnedFd};
use std::{
    num::NonZeroUsize,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// A mapping of the memory.
pub(super) struct Mapping {
    pub(super) words: NonNull<AtomicU64>,
    pub(super) length: NonZeroUsize,
    /// The process that can write to it: the one that has made it, or the one that has got it since.
    pub(super) owner: AtomicU32,
    /// Whether forks have it, too.
    pub(super) is_inherited: bool,
}

// SAFETY: it holds atomic numbers, in memory that stays mapped until the last owner is gone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Whether this process has it.
    pub(super) fn is_here(&self) -> bool {
        self.is_inherited || self.owner.load(Relaxed) == std::process::id()
    }

    /// The words. For a mapping that forks leave out: only while it [is here](Self::is_here).
    pub(super) fn words(&self) -> &[AtomicU64] {
        let count = self.length.get() / size_of::<AtomicU64>();
        // SAFETY: the mapping has this length, is page-aligned, and zeroed, which is a valid
        // number. All writes to it are atomic operations.
        unsafe { slice::from_raw_parts(self.words.as_ptr(), count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a fork that has left it out, anything may be mapped at this address.
        if self.is_here() {
            // SAFETY: mapped once, and no reference to it is left. OK to ignore: it cannot fail.
            let _ = unsafe { munmap(self.words.cast(), self.length.get()) };
        }
    }
}

/// What forks do with some pages.
#[derive(Clone, Copy)]
pub(super) enum Forks {
    HaveIt,
    LackIt,
}

/// Advises the kernel about all of a mapping that this process has. False if that fails.
#[cfg(feature = "status")]
pub(super) fn advise(mapping: &Mapping, forks: Forks) -> bool {
    advise_range(mapping, 0, mapping.length.get(), forks)
}

/// The same about bytes within it.
#[cfg(target_os = "linux")]
pub(super) fn advise_range(mapping: &Mapping, offset: usize, length: usize, forks: Forks) -> bool {
    use nix::sys::mman::{MmapAdvise, madvise};
    let advice = match forks {
        Forks::HaveIt => MmapAdvise::MADV_DOFORK,
        Forks::LackIt => MmapAdvise::MADV_DONTFORK,
    };
    // SAFETY: these bytes are within the mapping, which this process has, and the advice concerns
    // forks only.
    unsafe {
        madvise(
            mapping.words.cast::<u8>().add(offset).cast(),
            length,
            advice,
        )
    }
    .is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn advise_range(_: &Mapping, _: usize, _: usize, _: Forks) -> bool {
    false
}

/// A file in memory of this length.
#[cfg(target_os = "linux")]
pub(super) fn file(name: &CStr, length: NonZeroUsize) -> io::Result<OwnedFd> {
    use nix::{
        sys::memfd::{MFdFlags, memfd_create},
        unistd::ftruncate,
    };
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(name, flags)?;
    ftruncate(
        &file,
        nix::libc::off_t::try_from(length.get()).map_err(io::Error::other)?,
    )?;
    Ok(file)
}

#[cfg(target_os = "linux")]
pub(super) fn map(
    file: &OwnedFd,
    length: NonZeroUsize,
    protection: ProtFlags,
) -> io::Result<Mapping> {
    // SAFETY: a new mapping at an address of the kernel's choice, of a file that has this length
    // and will be sealed against being shortened before another process has it.
    let memory =
        unsafe { nix::sys::mman::mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0) }?;
    Ok(Mapping {
        words: memory.cast(),
        length,
        owner: AtomicU32::new(std::process::id()),
        is_inherited: true,
    })
}
