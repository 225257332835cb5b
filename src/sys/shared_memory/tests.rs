//! Memory within one process: what is written is read, and nobody maps more than that.

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
