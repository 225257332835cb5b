//! Memory that a process writes and its forks read. They have no writable mapping of it, except for
//! the pages that they were lent, and the kernel lets them make none. Knows nothing of what is
//! written.
//!
//! On Linux it is a file in memory, sealed against new writable mappings (F_SEAL_FUTURE_WRITE), and
//! forks leave the old one out (MADV_DONTFORK). Elsewhere all processes can write all of it.

#![allow(unsafe_code)]

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::{
    ffi::CStr,
    fmt, io,
    num::NonZeroUsize,
    os::fd::OwnedFd,
    ptr::NonNull,
    slice,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

/// A mapping of the memory.
struct Mapping {
    words: NonNull<AtomicU64>,
    length: NonZeroUsize,
    /// The process that can write to it: the one that has made it, or the one that has got it since.
    owner: AtomicU32,
    /// Whether forks have it, too.
    is_inherited: bool,
}

// SAFETY: it holds atomic numbers, in memory that stays mapped until the last owner is gone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Whether this process has it.
    fn is_here(&self) -> bool {
        self.is_inherited || self.owner.load(Relaxed) == std::process::id()
    }

    /// The words. For a mapping that forks leave out: only while it [is here](Self::is_here).
    fn words(&self) -> &[AtomicU64] {
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
            // OK because nobody else has it yet.
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

/// Memory that another program has made before this process became what it is now. It can be read.
#[derive(Clone)]
pub(crate) struct ForeignMemory(Arc<Mapping>);

impl fmt::Debug for ForeignMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignMemory").finish_non_exhaustive()
    }
}

impl ForeignMemory {
    /// Maps a file of [`SharedMemory`]. Fails if it has another length, or could be shortened.
    #[cfg(target_os = "linux")]
    pub(crate) fn map(file: &OwnedFd, length: u64) -> io::Result<Self> {
        use nix::{
            fcntl::{FcntlArg, SealFlag, fcntl},
            sys::stat::fstat,
        };
        let seals = SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS)?);
        let is_whole = u64::try_from(fstat(file)?.st_size) == Ok(length);
        if !is_whole || !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(io::Error::other("it is not the memory that it should be"));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        map(file, length, ProtFlags::PROT_READ).map(|mapping| Self(Arc::new(mapping)))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn map(_: &OwnedFd, _: u64) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }
}

/// What forks do with some pages.
#[derive(Clone, Copy)]
enum Forks {
    HaveIt,
    LackIt,
}

/// Advises the kernel about all of a mapping that this process has. False if that fails.
#[cfg(feature = "status")]
fn advise(mapping: &Mapping, forks: Forks) -> bool {
    advise_range(mapping, 0, mapping.length.get(), forks)
}

/// The same about bytes within it.
#[cfg(target_os = "linux")]
fn advise_range(mapping: &Mapping, offset: usize, length: usize, forks: Forks) -> bool {
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
fn advise_range(_: &Mapping, _: usize, _: usize, _: Forks) -> bool {
    false
}

/// A file in memory of this length.
#[cfg(target_os = "linux")]
fn file(name: &CStr, length: NonZeroUsize) -> io::Result<OwnedFd> {
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

/// Memory for this program and those that take its place. It cannot be sealed against new writable
/// mappings, so what forks have is mapped by a descriptor that can only be read.
#[cfg(target_os = "linux")]
mod handed_on {
    use super::*;
    use nix::{
        fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open},
        sys::stat::{Mode, fstat},
    };
    use std::os::fd::AsRawFd;

    const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
        .union(SealFlag::F_SEAL_GROW)
        .union(SealFlag::F_SEAL_SEAL);

    pub(super) fn new(name: &CStr, length: NonZeroUsize) -> io::Result<(SharedMemory, OwnedFd)> {
        let file = file(name, length)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
        mapped(&file, length).map(|memory| (memory, file))
    }

    pub(super) fn adopted(file: &OwnedFd) -> io::Result<SharedMemory> {
        let seals = SealFlag::from_bits_retain(fcntl(file, FcntlArg::F_GET_SEALS)?);
        if seals != SEALS {
            return Err(io::Error::other("it is not the memory that it should be"));
        }
        let length = usize::try_from(fstat(file)?.st_size).map_err(io::Error::other)?;
        let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        mapped(file, length)
    }

    fn mapped(file: &OwnedFd, length: NonZeroUsize) -> io::Result<SharedMemory> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let reader = open(&*path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let write = map(file, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        let read = map(&reader, length, ProtFlags::PROT_READ)?;
        SharedMemory::of(write, read)
    }
}

#[cfg(not(target_os = "linux"))]
mod handed_on {
    use super::*;

    pub(super) fn new(_: &CStr, _: NonZeroUsize) -> io::Result<(SharedMemory, OwnedFd)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
fn map(file: &OwnedFd, length: NonZeroUsize, protection: ProtFlags) -> io::Result<Mapping> {
    // SAFETY: a new mapping at an address of the kernel's choice, of a file that has this length
    // and will be sealed against being shortened before anybody else has it.
    let memory =
        unsafe { nix::sys::mman::mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0) }?;
    Ok(Mapping {
        words: memory.cast(),
        length,
        owner: AtomicU32::new(std::process::id()),
        is_inherited: true,
    })
}

#[cfg(not(target_os = "linux"))]
fn sealed(_: &CStr, _: NonZeroUsize) -> io::Result<(SharedMemory, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    const PAGE: usize = 64 * 1024;

    /// With and without a file that can be sealed.
    #[test]
    fn what_is_written_is_read() {
        let (memory, _) = SharedMemory::new(c"test", 2 * PAGE).unwrap();
        let plain = SharedMemory::writable(NonZeroUsize::new(2 * PAGE).unwrap()).unwrap();
        for memory in [memory, plain] {
            assert_eq!(memory.words().len(), 2 * PAGE / 8);
            memory.writable_words().unwrap()[1].store(5, Relaxed);
            assert!(memory.set_inherited(PAGE, PAGE));
            memory.inherited_words(PAGE, PAGE).unwrap()[0].store(6, Relaxed);
            memory.set_not_inherited(PAGE, PAGE);
            let word = |at: usize| memory.words()[at].load(Relaxed);
            assert_eq!([word(0), word(1), word(PAGE / 8)], [0, 5, 6]);
        }
    }

    /// A program that takes the place of this one can write it, and a fork cannot make its mapping
    /// writable.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_handed_on_is_written_by_the_next_program_and_by_no_fork() {
        use nix::sys::mman::mprotect;
        let (memory, file) = SharedMemory::to_hand_on(c"test", PAGE).unwrap();
        let file = file.unwrap();
        let next = SharedMemory::adopted(&file).unwrap();
        next.writable_words().unwrap()[3].store(7, Relaxed);
        assert_eq!(memory.words()[3].load(Relaxed), 7);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the mapping has this length, and stays one that is read.
        let made = unsafe { mprotect(memory.read.words.cast(), PAGE, protection) };
        assert_eq!(made, Err(nix::errno::Errno::EACCES));
        let (_, other) = SharedMemory::new(c"test", PAGE).unwrap();
        assert!(SharedMemory::adopted(&other.unwrap()).is_err());
    }

    #[test]
    fn memory_of_no_size_and_pages_beyond_the_end_are_refused() {
        assert!(SharedMemory::new(c"test", 0).is_err());
        assert!(SharedMemory::new(c"test", usize::MAX).is_err());
        let (memory, file) = SharedMemory::new(c"test", PAGE).unwrap();
        assert!(memory.inherited_words(PAGE, PAGE).is_none());
        assert!(memory.inherited_words(0, usize::MAX).is_none());
        assert!(file.is_none() || !memory.set_inherited(PAGE, PAGE));
    }
}
