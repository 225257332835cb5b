//! Which descriptors of this process belong to servers of this crate. A child closes all of them
//! that are not its own server's, and none that is the user's.
//!
//! Close-on-exec does nothing for a fork without an exec. A sibling that keeps a read end of
//! another child's pipe can steal its words and hides the parent's death from it; one that keeps the
//! write end of the death watch outlives the parent together with all others.

use std::{
    collections::BTreeMap,
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    os::fd::{AsRawFd, RawFd},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Names a server within its process, the original's `->ID`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PreForkId(u64);

impl PreForkId {
    pub(crate) fn unique() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl fmt::Display for PreForkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug)]
struct Entry {
    /// Tells this entry from an earlier one of the same number.
    serial: u64,
    /// Whose children keep it. Nobody's close it.
    keep: Option<PreForkId>,
}

#[derive(Debug)]
struct Registry {
    last: u64,
    /// The server that is being started: what it opens meanwhile is for its children.
    starting: Option<PreForkId>,
    entries: BTreeMap<RawFd, Entry>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    last: 0,
    starting: None,
    entries: BTreeMap::new(),
});

fn registry() -> MutexGuard<'static, Registry> {
    // OK to go on after a panic: each change of the registry is a single insertion or removal.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that owns a descriptor of ours. While it lives the descriptor is in the registry.
///
/// In a child that has closed the descriptor by number, dropping this does nothing: closing it
/// again would hit a stranger, and std aborts on that.
#[derive(Debug)]
pub(crate) struct Ours<T: AsRawFd> {
    inner: ManuallyDrop<T>,
    serial: u64,
}

impl<T: AsRawFd> Ours<T> {
    /// A descriptor that every child closes.
    pub(crate) fn parents(inner: T) -> Self {
        Self::enter(inner, None)
    }

    /// A descriptor that the children of server `id` keep, and those of others close.
    pub(crate) fn childrens(inner: T, id: PreForkId) -> Self {
        Self::enter(inner, Some(id))
    }

    /// A descriptor for the children of the server that is being started: see [`starting`].
    pub(crate) fn servers(inner: T) -> Self {
        let starting = registry().starting;
        Self::enter(inner, starting)
    }

    fn enter(inner: T, keep: Option<PreForkId>) -> Self {
        let mut registry = registry();
        registry.last += 1;
        let serial = registry.last;
        registry
            .entries
            .insert(inner.as_raw_fd(), Entry { serial, keep });
        Self {
            inner: ManuallyDrop::new(inner),
            serial,
        }
    }
}

impl<T: AsRawFd> Deref for Ours<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsRawFd> DerefMut for Ours<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: AsRawFd> Drop for Ours<T> {
    fn drop(&mut self) {
        let fd = self.inner.as_raw_fd();
        let mut registry = registry();
        if registry
            .entries
            .get(&fd)
            .is_some_and(|entry| entry.serial == self.serial)
        {
            registry.entries.remove(&fd);
            drop(registry);
            drop_inner(&mut self.inner);
        }
    }
}

#[allow(unsafe_code)]
fn drop_inner<T>(inner: &mut ManuallyDrop<T>) {
    // SAFETY: called from `Ours::drop` only, so once, and nothing touches the value after it.
    unsafe { ManuallyDrop::drop(inner) }
}

/// Runs `start`; what is entered by [`Ours::servers`] meanwhile is for the children of `id`.
pub(crate) fn starting<R>(id: PreForkId, start: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            registry().starting = None;
        }
    }
    registry().starting = Some(id);
    let _reset = Reset;
    start()
}

/// In a freshly forked child of server `id`: closes what is ours and not for it, by number, in as
/// few calls as possible.
pub(crate) fn close_in_child(id: PreForkId) {
    let mut registry = registry();
    let doomed: Vec<RawFd> = registry
        .entries
        .iter()
        .filter(|(_, entry)| entry.keep != Some(id))
        .map(|(fd, _)| *fd)
        .collect();
    registry.entries.retain(|_, entry| entry.keep == Some(id));
    for (first, last) in runs(&doomed) {
        close_range(first, last);
    }
}

/// Sorted numbers as runs of consecutive ones.
fn runs(sorted: &[RawFd]) -> Vec<(RawFd, RawFd)> {
    let mut runs: Vec<(RawFd, RawFd)> = Vec::new();
    for &fd in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == fd => *last = fd,
            _ => runs.push((fd, fd)),
        }
    }
    runs
}

#[allow(unsafe_code)]
fn close_range(first: RawFd, last: RawFd) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the numbers are of descriptors of ours whose owners this process never drops
        // (`Ours` checks the registry, from which they have been removed).
        let result = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, first, last, 0) };
        if result == 0 {
            return;
        }
    }
    for fd in first..=last {
        // SAFETY: as above.
        unsafe { nix::libc::close(fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_make_a_run() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[7]), [(7, 7)]);
        assert_eq!(runs(&[3, 4, 5, 9, 11, 12]), [(3, 5), (9, 9), (11, 12)]);
    }

    #[test]
    fn a_descriptor_is_entered_while_its_owner_lives() {
        let (read, write) = std::io::pipe().expect("a pipe");
        let (read_fd, write_fd) = (read.as_raw_fd(), write.as_raw_fd());
        let read = Ours::parents(read);
        let id = PreForkId::unique();
        let write = starting(id, || Ours::servers(write));
        assert!(
            registry()
                .entries
                .get(&read_fd)
                .is_some_and(|entry| entry.keep.is_none())
        );
        assert!(
            registry()
                .entries
                .get(&write_fd)
                .is_some_and(|entry| entry.keep == Some(id))
        );
        assert!(registry().starting.is_none());
        drop((read, write));
        let left = registry()
            .entries
            .keys()
            .any(|fd| *fd == read_fd || *fd == write_fd);
        assert!(!left);
    }
}
