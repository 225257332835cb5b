//! Memory that a process writes and its forks read. They have no writable mapping of it, except for
//! the pages that they were lent, and the kernel lets them make none. Knows nothing of what is
//! written.
//!
//! On Linux it is a file in memory, sealed against new writable mappings (F_SEAL_FUTURE_WRITE), and
//! forks leave the old one out (MADV_DONTFORK). Elsewhere all processes can write all of it.

#![allow(unsafe_code)]

mod foreign;
#[cfg(target_os = "linux")]
mod handed_on;
#[cfg(not(target_os = "linux"))]
#[path = "shared_memory/no_handed_on.rs"]
mod handed_on;
mod mapping;
#[cfg(test)]
mod tests;

pub(crate) use self::foreign::ForeignMemory;

#[cfg(feature = "status")]
use self::mapping::advise;
use self::mapping::{Forks, Mapping, advise_range};
#[cfg(target_os = "linux")]
use self::mapping::{file, map};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
#[cfg(feature = "holder")]
use std::sync::atomic::Ordering::Relaxed;
use std::{
    ffi::CStr,
    fmt, io,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    },
};

/// The memory, with a mapping to write and one to read.
#[derive(Clone)]
pub(crate) struct SharedMemory {
    write: Arc<Mapping>,
    read: Arc<Mapping>,
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").finish_non_exhaustive()
    }
}

impl SharedMemory {
    /// New memory of this length in bytes, all zero. The descriptor is that of the file, by which
    /// others can read it.
    pub(crate) fn new(name: &CStr, length: usize) -> io::Result<(Self, Option<OwnedFd>)> {
        let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        match sealed(name, length) {
            Ok((memory, file)) => Ok((memory, Some(file))),
            Err(error) => {
                log::debug!("children can write to all memory that they share: {error}");
                Ok((Self::writable(length)?, None))
            }
        }
    }

    /// New memory that a later program of this process can write as well, by the descriptor.
    ///
    /// Forks must not have that. A process that may open the descriptors of this one can write there.
    pub(crate) fn to_hand_on(name: &CStr, length: usize) -> io::Result<(Self, Option<OwnedFd>)> {
        let whole = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        match handed_on::new(name, whole) {
            Ok((memory, file)) => Ok((memory, Some(file))),
            Err(error) => {
                log::debug!("an upgrade cannot hand on memory: {error}");
                Self::new(name, length).map(|(memory, _)| (memory, None))
            }
        }
    }

    /// Memory that an earlier program of this process has [handed on](Self::to_hand_on).
    #[cfg(target_os = "linux")]
    pub(crate) fn adopted(file: &OwnedFd) -> io::Result<Self> {
        handed_on::adopted(file)
    }

    /// New memory that forks can read only if they are made while it is [shown](Self::show).
    ///
    /// Where the system cannot hide it, all forks have it.
    #[cfg(feature = "status")]
    pub(crate) fn for_few(name: &CStr, length: usize) -> io::Result<Self> {
        let (mut memory, _) = Self::new(name, length)?;
        if !memory.write.is_inherited && advise(&memory.read, Forks::LackIt) {
            // OK because no other process has it yet.
            if let Some(read) = Arc::get_mut(&mut memory.read) {
                read.is_inherited = false;
            }
        }
        Ok(memory)
    }

    /// From now on forks can read it.
    #[cfg(feature = "status")]
    pub(crate) fn show(&self) {
        if !self.read.is_inherited {
            advise(&self.read, Forks::HaveIt);
        }
    }

    /// From now on forks cannot read it.
    #[cfg(feature = "status")]
    pub(crate) fn hide(&self) {
        if !self.read.is_inherited {
            advise(&self.read, Forks::LackIt);
        }
    }

    /// The same for systems where it cannot be kept from children.
    fn writable(length: NonZeroUsize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let memory = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED) }?;
        let both = Arc::new(Mapping {
            words: memory.cast(),
            length,
            owner: AtomicU32::new(std::process::id()),
            is_inherited: true,
        });
        Ok(Self {
            write: Arc::clone(&both),
            read: both,
        })
    }

    /// The words, to be read. Writing ends the process with SIGSEGV.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.read.words()
    }

    /// The words, to be written. `None` in a process that has none of them.
    pub(crate) fn writable_words(&self) -> Option<&[AtomicU64]> {
        self.write.is_here().then(|| self.write.words())
    }

    /// The words, to be written by the process that has made the memory.
    ///
    /// For places that are reached too often to ask which process this is: only that process may
    /// call it.
    pub(crate) fn owners_words(&self) -> &[AtomicU64] {
        self.write.words()
    }

    /// The words of these bytes, to be written: whole pages that this process was
    /// [lent](Self::lend).
    pub(crate) fn inherited_words(&self, offset: usize, length: usize) -> Option<&[AtomicU64]> {
        let size = size_of::<AtomicU64>();
        self.write
            .words()
            .get(offset / size..offset.checked_add(length)? / size)
    }

    /// From now on forks have these bytes, which are whole pages. False if that fails.
    pub(crate) fn set_inherited(&self, offset: usize, length: usize) -> bool {
        self.write.is_inherited || self.advise(offset, length, Forks::HaveIt)
    }

    /// Forks have these bytes no longer.
    pub(crate) fn set_not_inherited(&self, offset: usize, length: usize) {
        if !self.write.is_inherited {
            // OK to ignore: if this fails, children can write each other's slots.
            let _ = self.advise(offset, length, Forks::LackIt);
        }
    }

    /// From now on forks have all of it: one of them is to [own](Self::take_over) it. False if that
    /// fails.
    #[cfg(feature = "holder")]
    pub(crate) fn hand_on(&self) -> bool {
        self.set_inherited(0, self.write.length.get())
    }

    /// In a fork that has all of it: this process owns it from now on, and its forks have none of it.
    #[cfg(feature = "holder")]
    pub(crate) fn take_over(&self) {
        self.write.owner.store(std::process::id(), Relaxed);
        self.set_not_inherited(0, self.write.length.get());
    }

    fn advise(&self, offset: usize, length: usize, forks: Forks) -> bool {
        let end = offset.checked_add(length);
        let is_within = end.is_some_and(|end| end <= self.write.length.get());
        is_within && self.write.is_here() && advise_range(&self.write, offset, length, forks)
    }

    /// In a fork: keeps the lent bytes where they are. Otherwise mremap(2) could enlarge their
    /// mapping, and reach the pages behind them.
    ///
    /// OK to fail: Linux has this from 6.10 on.
    pub(crate) fn fix(&self, offset: usize, length: usize) {
        #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
        if !self.write.is_inherited && offset < self.write.length.get() {
            // SAFETY: the pages are mapped, and nothing unmaps them before the process ends.
            unsafe {
                let pages = self.write.words.cast::<u8>().add(offset);
                nix::libc::syscall(nix::libc::SYS_mseal, pages.as_ptr(), length, 0);
            }
        }
        #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
        let _ = (offset, length);
    }
}

/// Maps memory that forks can read and not write.
#[cfg(target_os = "linux")]
fn sealed(name: &CStr, length: NonZeroUsize) -> io::Result<(SharedMemory, OwnedFd)> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    let file = file(name, length)?;
    let write = map(&file, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    let seals = SealFlag::F_SEAL_FUTURE_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    // Mapped after the seal, it can never become writable.
    let read = map(&file, length, ProtFlags::PROT_READ)?;
    SharedMemory::of(write, read).map(|memory| (memory, file))
}

#[cfg(target_os = "linux")]
impl SharedMemory {
    /// Forks have the second mapping alone.
    fn of(mut write: Mapping, read: Mapping) -> io::Result<Self> {
        if !advise_range(&write, 0, write.length.get(), Forks::LackIt) {
            return Err(io::Error::last_os_error());
        }
        write.is_inherited = false;
        Ok(Self {
            write: Arc::new(write),
            read: Arc::new(read),
        })
    }
}

#[cfg(not(target_os = "linux"))]
fn sealed(_: &CStr, _: NonZeroUsize) -> io::Result<(SharedMemory, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}
