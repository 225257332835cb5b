//! Which children were told to stop, in memory that the parent writes and children read. The signal
//! wakes a child; this memory counts when the signal is lost, for example while system(3) ignores
//! SIGINT. A child cannot write here: it has no writable mapping, and the file is sealed against
//! new ones.

#![allow(unsafe_code)]

use crate::core::child::ChildId;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::{
    fmt, io,
    num::NonZeroUsize,
    ptr::NonNull,
    slice,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

/// A mapping with one word for each child.
struct Mapping {
    words: NonNull<AtomicU32>,
    length: NonZeroUsize,
}

// SAFETY: it holds atomic numbers, in memory that stays mapped until the last owner is gone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn word(&self, slot: usize) -> Option<&AtomicU32> {
        let count = self.length.get() / size_of::<AtomicU32>();
        // SAFETY: the mapping has this length, is page-aligned, and zeroed, which is a valid
        // number. All writes to it are atomic operations.
        unsafe { slice::from_raw_parts(self.words.as_ptr(), count) }.get(slot)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped once, and no reference to it is left. OK to ignore: it cannot fail.
        let _ = unsafe { munmap(self.words.cast(), self.length.get()) };
    }
}

/// The parent's view.
pub(crate) struct StopBoard {
    write: Arc<Mapping>,
    read: Arc<Mapping>,
}

impl fmt::Debug for StopBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopBoard").finish_non_exhaustive()
    }
}

impl StopBoard {
    /// A board for this many children. Further children are told by signals only.
    pub(crate) fn new(children: usize) -> io::Result<Self> {
        let length = children
            .checked_mul(size_of::<AtomicU32>())
            .and_then(|length| NonZeroUsize::new(length.max(1)))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        sealed(length).or_else(|error| {
            log::debug!("children can write to the stop board: {error}");
            writable(length)
        })
    }

    /// From now on children do not inherit the writable mapping. This is not done from the start:
    /// the program may become a daemon before the first turn, which is a fork, and the daemon
    /// writes.
    #[cfg(target_os = "linux")]
    pub(crate) fn hide_from_children(&self) {
        use nix::sys::mman::{MmapAdvise, madvise};
        if Arc::ptr_eq(&self.write, &self.read) {
            return;
        }
        let (words, length) = (self.write.words.cast(), self.write.length.get());
        // SAFETY: the mapping is ours and has this length; the advice concerns forks only. OK to
        // ignore: without it children could write here.
        let _ = unsafe { madvise(words, length, MmapAdvise::MADV_DONTFORK) };
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn hide_from_children(&self) {}

    /// Tells the child to leave. Call this before sending the signal, which may be lost.
    pub(crate) fn tell(&self, child: ChildId) {
        if let Some(word) = self.write.word(child.slot()) {
            word.store(mark(child), SeqCst);
        }
    }

    /// A child's view.
    pub(crate) fn of(&self, child: ChildId) -> StopFlag {
        StopFlag {
            board: Arc::clone(&self.read),
            child,
        }
    }
}

/// Whether one child has been told to stop.
pub(crate) struct StopFlag {
    board: Arc<Mapping>,
    child: ChildId,
}

impl StopFlag {
    pub(crate) fn is_set(&self) -> bool {
        let word = self.board.word(self.child.slot());
        word.is_some_and(|word| word.load(SeqCst) == mark(self.child))
    }
}

/// The word that tells this child to stop, and no earlier child of the same slot. Never zero.
fn mark(child: ChildId) -> u32 {
    child.serial().wrapping_mul(2) | 1
}

/// Maps memory that children can read and not write. They do not inherit the writable mapping, and
/// the file allows no new one.
#[cfg(target_os = "linux")]
fn sealed(length: NonZeroUsize) -> io::Result<StopBoard> {
    use nix::{
        fcntl::{FcntlArg, SealFlag, fcntl},
        sys::memfd::{MFdFlags, memfd_create},
        unistd::ftruncate,
    };
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(c"stops", flags)?;
    ftruncate(
        &file,
        nix::libc::off_t::try_from(length.get()).map_err(io::Error::other)?,
    )?;
    let write = map(&file, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    let seals = SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    let read = map(&file, length, ProtFlags::PROT_READ)?;
    Ok(StopBoard {
        write: Arc::new(write),
        read: Arc::new(read),
    })
}

#[cfg(target_os = "linux")]
fn map(
    file: &std::os::fd::OwnedFd,
    length: NonZeroUsize,
    protection: ProtFlags,
) -> io::Result<Mapping> {
    // SAFETY: a new mapping at an address of the kernel's choice, of a file that has this length
    // and cannot be shortened: its descriptor is closed after it is sealed.
    let memory =
        unsafe { nix::sys::mman::mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0) }?;
    Ok(Mapping {
        words: memory.cast(),
        length,
    })
}

#[cfg(not(target_os = "linux"))]
fn sealed(_: NonZeroUsize) -> io::Result<StopBoard> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The same on systems where files cannot be sealed.
fn writable(length: NonZeroUsize) -> io::Result<StopBoard> {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let memory = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED) }?;
    let both = Arc::new(Mapping {
        words: memory.cast(),
        length,
    });
    Ok(StopBoard {
        write: Arc::clone(&both),
        read: both,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_told_and_neither_its_neighbour_nor_its_successor() {
        for board in [
            StopBoard::new(3).unwrap(),
            writable(NonZeroUsize::new(12).unwrap()).unwrap(),
        ] {
            let [child, neighbour] = [ChildId::new(1, 7), ChildId::new(2, 8)];
            let successor = ChildId::new(1, 9);
            let told = [child, neighbour, successor].map(|child| board.of(child));
            let told = || told.each_ref().map(StopFlag::is_set);
            assert_eq!(told(), [false, false, false]);
            board.tell(child);
            assert_eq!(told(), [true, false, false]);
            board.tell(successor);
            assert_eq!(told(), [false, false, true]);
        }
    }

    /// A child beyond the end of the board has no word there.
    #[test]
    fn a_child_beyond_the_board_is_never_told() {
        let board = StopBoard::new(1).unwrap();
        let far = ChildId::new(1 << 20, 1);
        board.tell(far);
        assert!(!board.of(far).is_set());
    }
}
