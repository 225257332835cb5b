//! Which children have been told to stop, in memory that the parent writes and children read. The
//! signal wakes a child; this is there when the signal was lost, as while system(3) ignores SIGINT.
//! A child cannot write here: it has no mapping that allows it, and the file is sealed against more.

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

/// A mapping of a word for each child.
struct Mapping {
    words: NonNull<AtomicU32>,
    length: NonZeroUsize,
}

// SAFETY: it is atomic numbers, in memory that stays where it is until the last owner is gone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn word(&self, slot: usize) -> Option<&AtomicU32> {
        let count = self.length.get() / size_of::<AtomicU32>();
        // SAFETY: the mapping is as long, aligned to a page, and zeroed, which is a valid number.
        // Nobody writes to it but by atomic operations.
        unsafe { slice::from_raw_parts(self.words.as_ptr(), count) }.get(slot)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped once, and nobody is left who looks at it. OK to ignore: it cannot fail.
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
    /// A board for so many children; one beyond them is told by signals alone.
    pub(crate) fn new(children: usize) -> io::Result<Self> {
        let length = children
            .checked_mul(size_of::<AtomicU32>())
            .and_then(|length| NonZeroUsize::new(length.max(1)))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        sealed(length).or_else(|error| {
            log::debug!("children could write to the board of stops: {error}");
            writable(length)
        })
    }

    /// From now on forks leave the mapping for writing out. Not from the start: the program may become
    /// a daemon before the first turn, which is a fork, and the daemon writes.
    #[cfg(target_os = "linux")]
    pub(crate) fn hide_from_children(&self) {
        use nix::sys::mman::{MmapAdvise, madvise};
        if Arc::ptr_eq(&self.write, &self.read) {
            return;
        }
        let (words, length) = (self.write.words.cast(), self.write.length.get());
        // SAFETY: the mapping is ours and as long; the advice is about forks alone. OK to ignore: then
        // children could write here.
        let _ = unsafe { madvise(words, length, MmapAdvise::MADV_DONTFORK) };
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn hide_from_children(&self) {}

    /// The child is to leave. Before the signal, which may be lost.
    pub(crate) fn tell(&self, child: ChildId) {
        if let Some(word) = self.write.word(child.slot()) {
            word.store(mark(child), SeqCst);
        }
    }

    /// A child's view.
    pub(crate) fn of(&self, child: ChildId) -> Told {
        Told {
            board: Arc::clone(&self.read),
            child,
        }
    }
}

/// Whether one child has been told to stop.
pub(crate) struct Told {
    board: Arc<Mapping>,
    child: ChildId,
}

impl Told {
    pub(crate) fn is_set(&self) -> bool {
        let word = self.board.word(self.child.slot());
        word.is_some_and(|word| word.load(SeqCst) == mark(self.child))
    }
}

/// What says that this child is meant, and none that had the place before. Never zero.
fn mark(child: ChildId) -> u32 {
    child.serial().wrapping_mul(2) | 1
}

/// Memory that children can read and not write: the mapping for writing is not theirs, and the file
/// allows no other.
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
    // SAFETY: a new mapping, at an address of the kernel's choice, of a file that is as long and can
    // never be shortened by anybody else: its descriptor is closed after the seals.
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

/// The same where files cannot be sealed.
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
            let told = || told.each_ref().map(Told::is_set);
            assert_eq!(told(), [false, false, false]);
            board.tell(child);
            assert_eq!(told(), [true, false, false]);
            board.tell(successor);
            assert_eq!(told(), [false, false, true]);
        }
    }

    /// Nobody looks past the end: there is no word there.
    #[test]
    fn a_child_beyond_the_board_is_never_told() {
        let board = StopBoard::new(1).unwrap();
        let far = ChildId::new(1 << 20, 1);
        board.tell(far);
        assert!(!board.of(far).is_set());
    }
}
