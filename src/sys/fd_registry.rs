//! The descriptors of this process that belong to servers of this crate. A child closes all of them
//! that are not for its own server, and none of the user's.
//!
//! Close-on-exec does nothing for a fork without an exec. A sibling that keeps a read end of
//! another child's pipe can steal its words, and hides the parent's death from that child. A
//! sibling that keeps the write end of the death watch keeps all children alive after the parent's
//! death.

use super::{fd_ranges::FdRanges, fd_table::FdTable};
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

/// Identifies a server within its process, like the original's `->ID`.
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
struct RegisteredFd {
    /// Distinguishes this entry from an earlier entry of the same number.
    serial: u64,
    /// The server whose children keep the descriptor. If `None`, all children close it.
    keep: Option<PreForkId>,
    /// Whether code outside this crate has opened the descriptor.
    foreign: bool,
}

#[derive(Debug)]
struct Registry {
    last: u64,
    /// The server that is being started: descriptors opened meanwhile are for its children.
    starting: Option<PreForkId>,
    /// In a child of that server: of the entries up to that serial, only those for the server are
    /// open. The other entries stay in the table. Removing thousands of them would cost each child
    /// more than its fork: the work itself, and a copy of every page that it touches.
    closed: Option<(u64, PreForkId)>,
    entries: FdTable<RegisteredFd>,
    /// The numbers of the entries, by the server whose children keep them. A child closes ranges of
    /// them without going through thousands of entries.
    ranges: BTreeMap<Option<PreForkId>, FdRanges>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    last: 0,
    starting: None,
    closed: None,
    entries: FdTable::new(),
    ranges: BTreeMap::new(),
});

impl Registry {
    /// Whether this process still holds the descriptor of `entry`.
    fn is_open(&self, entry: &RegisteredFd) -> bool {
        self.closed
            .is_none_or(|(last, id)| entry.serial > last || entry.keep == Some(id))
    }

    /// Removes the entry of a descriptor that a fork has closed. Numbers are used again, so this
    /// comes before an insertion and before another fork closes by number.
    fn forget_closed(&mut self) {
        if let Some((last, id)) = self.closed.take() {
            self.entries
                .retain(|entry| entry.serial > last || entry.keep == Some(id));
            self.ranges.clear();
            for (fd, entry) in self.entries.iter() {
                self.ranges.entry(entry.keep).or_default().insert(fd);
            }
        }
    }

    fn insert(&mut self, fd: RawFd, entry: RegisteredFd) {
        // The number may belong to an owner whose descriptor was closed by other means.
        self.remove(fd);
        self.ranges.entry(entry.keep).or_default().insert(fd);
        self.entries.insert(fd, entry);
    }

    fn remove(&mut self, fd: RawFd) {
        if let Some(entry) = self.entries.remove(fd)
            && let Some(ranges) = self.ranges.get_mut(&entry.keep)
        {
            ranges.remove(fd);
            // A process may start and end any number of servers.
            if ranges.iter().next().is_none() {
                self.ranges.remove(&entry.keep);
            }
        }
    }
}

fn registry() -> MutexGuard<'static, Registry> {
    // OK to go on after a panic: each change of the registry is a single insertion or removal.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An object that owns a descriptor of ours. While it lives, the descriptor is in the registry.
///
/// In a child that has closed the descriptor by number, dropping this does nothing: a second close
/// would hit another file with the same number, and std aborts on that.
#[derive(Debug)]
pub(crate) struct Registered<T: AsRawFd> {
    inner: ManuallyDrop<T>,
    serial: u64,
}

impl<T: AsRawFd> Registered<T> {
    /// A descriptor that every child closes.
    pub(crate) fn parents(inner: T) -> Self {
        Self::enter(inner, None, false)
    }

    /// A descriptor that the children of server `id` keep and other children close.
    pub(crate) fn childrens(inner: T, id: PreForkId) -> Self {
        Self::enter(inner, Some(id), false)
    }

    /// A descriptor for the children of the server that is being started: see [`starting`].
    pub(crate) fn servers(inner: T) -> Self {
        let starting = registry().starting;
        Self::enter(inner, starting, false)
    }

    /// A descriptor that code outside this crate has opened and that every child closes.
    pub(crate) fn foreign(inner: T) -> Self {
        Self::enter(inner, None, true)
    }

    /// Whether this process still has it: a child has closed the descriptors that are not for it.
    pub(crate) fn is_open(&self) -> bool {
        let registry = registry();
        let entry = registry.entries.get(self.inner.as_raw_fd());
        entry.is_some_and(|entry| entry.serial == self.serial && registry.is_open(entry))
    }

    /// Forgets the descriptor, and leaves it open: it has another owner.
    #[cfg(feature = "holder")]
    pub(crate) fn release(self) {
        let released = ManuallyDrop::new(self);
        let fd = released.inner.as_raw_fd();
        let mut registry = registry();
        let entry = registry.entries.get(fd);
        if entry.is_some_and(|entry| entry.serial == released.serial) {
            registry.remove(fd);
        }
    }

    fn enter(inner: T, keep: Option<PreForkId>, foreign: bool) -> Self {
        let mut registry = registry();
        registry.forget_closed();
        registry.last += 1;
        let serial = registry.last;
        registry.insert(
            inner.as_raw_fd(),
            RegisteredFd {
                serial,
                keep,
                foreign,
            },
        );
        Self {
            inner: ManuallyDrop::new(inner),
            serial,
        }
    }
}

impl<T: AsRawFd> Deref for Registered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsRawFd> DerefMut for Registered<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: AsRawFd> Drop for Registered<T> {
    fn drop(&mut self) {
        let fd = self.inner.as_raw_fd();
        let mut registry = registry();
        if registry
            .entries
            .get(fd)
            .is_some_and(|entry| entry.serial == self.serial && registry.is_open(entry))
        {
            registry.remove(fd);
            drop(registry);
            drop_inner(&mut self.inner);
        }
    }
}

#[allow(unsafe_code)]
fn drop_inner<T>(inner: &mut ManuallyDrop<T>) {
    // SAFETY: called only from `Registered::drop`, so once, and nothing uses the value after it.
    unsafe { ManuallyDrop::drop(inner) }
}

/// Runs `start`; descriptors that [`Registered::servers`] enters meanwhile are for the children of `id`.
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

/// Whether descriptors that are opened now are for the children of a server.
#[cfg(target_os = "linux")]
pub(crate) fn is_starting() -> bool {
    registry().starting.is_some()
}

/// Whether a server of ours has opened `fd`.
pub(crate) fn is_registered(fd: RawFd) -> bool {
    let registry = registry();
    let entry = registry.entries.get(fd);
    entry.is_some_and(|entry| !entry.foreign && registry.is_open(entry))
}

/// The descriptors that children of server `id` keep, and those that code outside this crate has
/// opened: by number, and whether it is one of the latter.
#[cfg(target_os = "linux")]
pub(crate) fn for_children(id: PreForkId) -> Vec<(RawFd, bool)> {
    let registry = registry();
    let entries = registry
        .entries
        .iter()
        .filter(|(_, entry)| registry.is_open(entry));
    let wanted = entries.filter(|(_, entry)| entry.foreign || entry.keep == Some(id));
    wanted.map(|(fd, entry)| (fd, entry.foreign)).collect()
}

/// How many servers of this process have descriptors for children.
#[cfg(target_os = "linux")]
pub(crate) fn servers() -> usize {
    registry().ranges.keys().flatten().count()
}

/// In a freshly forked child of server `id`: closes our descriptors that are not for it, by number,
/// in as few calls as possible.
pub(crate) fn close_in_child(id: PreForkId) {
    let mut registry = registry();
    registry.forget_closed();
    for (keep, ranges) in &registry.ranges {
        if *keep != Some(id) {
            for (first, last) in ranges.iter() {
                close_range(first, last);
            }
        }
    }
    registry.closed = Some((registry.last, id));
}

/// In a foreign process, forked from the parent or a child by code that is not ours: closes all our
/// descriptors.
pub(crate) fn close_in_foreign_process() {
    // Another thread may have held the lock at the fork; in this process it is never released.
    let Ok(mut registry) = REGISTRY.try_lock() else {
        return;
    };
    registry.forget_closed();
    for ranges in registry.ranges.values() {
        for (first, last) in ranges.iter() {
            close_range(first, last);
        }
    }
    registry.closed = Some((registry.last, PreForkId::unique()));
}

#[allow(unsafe_code)]
fn close_range(first: RawFd, last: RawFd) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the numbers are of descriptors of ours whose owners this process never drops
        // (`Registered` checks the registry, from which the entries have been removed).
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
    fn a_fork_leaves_open_what_is_for_the_child_and_what_comes_later() {
        let (id, other) = (PreForkId::unique(), PreForkId::unique());
        let entry = |serial, keep| RegisteredFd {
            serial,
            keep,
            foreign: false,
        };
        let mut registry = Registry {
            last: 3,
            starting: None,
            closed: None,
            entries: FdTable::new(),
            ranges: BTreeMap::new(),
        };
        registry.insert(5, entry(1, None));
        registry.insert(6, entry(2, Some(id)));
        registry.insert(7, entry(3, Some(other)));
        let open = |registry: &Registry| -> Vec<RawFd> {
            let entries = registry.entries.iter();
            entries
                .filter(|(_, entry)| registry.is_open(entry))
                .map(|(fd, _)| fd)
                .collect()
        };
        assert_eq!(open(&registry), [5, 6, 7]);
        registry.closed = Some((registry.last, id));
        assert_eq!(open(&registry), [6]);
        registry.insert(8, entry(4, None));
        assert_eq!(open(&registry), [6, 8]);
        registry.forget_closed();
        assert_eq!(open(&registry), [6, 8]);
        assert_eq!(registry.entries.iter().count(), 2);
        let of = |keep: Option<PreForkId>| {
            registry
                .ranges
                .get(&keep)
                .map(|ranges| ranges.iter().collect())
        };
        assert_eq!(of(None), Some(vec![(8, 8)]));
        assert_eq!(of(Some(id)), Some(vec![(6, 6)]));
        assert_eq!(of(Some(other)), None::<Vec<_>>);
    }

    #[test]
    fn a_descriptor_is_entered_while_its_owner_lives() {
        let (read, write) = std::io::pipe().expect("a pipe");
        let (read_fd, write_fd) = (read.as_raw_fd(), write.as_raw_fd());
        let read = Registered::parents(read);
        let id = PreForkId::unique();
        let write = starting(id, || Registered::servers(write));
        assert!(
            registry()
                .entries
                .get(read_fd)
                .is_some_and(|entry| entry.keep.is_none())
        );
        assert!(
            registry()
                .entries
                .get(write_fd)
                .is_some_and(|entry| entry.keep == Some(id))
        );
        assert!(registry().starting.is_none());
        assert!(registry().ranges.contains_key(&Some(id)));
        let serials = [read.serial, write.serial];
        drop((read, write));
        assert!(
            !registry().ranges.contains_key(&Some(id)),
            "nothing is left of it"
        );
        let left = registry()
            .entries
            .iter()
            .any(|(_, entry)| serials.contains(&entry.serial));
        assert!(!left);
    }
}
