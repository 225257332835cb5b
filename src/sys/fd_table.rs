//! A table by descriptor number. The kernel hands out the lowest free numbers, so it is an array,
//! in pages: a single high number does not make it large. Pure: does not know what the numbers
//! stand for.

use std::{collections::BTreeMap, os::fd::RawFd};

/// How many numbers share a page.
const PAGE: usize = 64;

/// Pages are kept once allocated. Insertions and removals move no other entries: after a fork that
/// would be memory to copy.
#[derive(Debug)]
pub(super) struct FdTable<T>(BTreeMap<usize, Box<[Option<T>; PAGE]>>);

/// The page of a number, and the index in it. `None` for a negative number.
fn position(fd: RawFd) -> (usize, usize) {
    let number = usize::try_from(fd).unwrap_or(0);
    (number / PAGE, number % PAGE)
}

impl<T> FdTable<T> {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn get(&self, fd: RawFd) -> Option<&T> {
        let (page, at) = position(fd);
        self.0.get(&page)?[at].as_ref()
    }

    pub(super) fn insert(&mut self, fd: RawFd, value: T) {
        let (page, at) = position(fd);
        let page = self.0.entry(page);
        page.or_insert_with(|| Box::new([const { None }; PAGE]))[at] = Some(value);
    }

    pub(super) fn remove(&mut self, fd: RawFd) -> Option<T> {
        let (page, at) = position(fd);
        self.0.get_mut(&page)?[at].take()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        for entry in self.0.values_mut().flat_map(|page| page.iter_mut()) {
            if entry.as_ref().is_some_and(|value| !keep(value)) {
                *entry = None;
            }
        }
    }

    /// The values in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, &T)> {
        self.0.iter().flat_map(|(page, entries)| {
            let numbers = page * PAGE..;
            let entries = numbers.zip(entries.iter());
            entries.filter_map(|(number, entry)| Some((number as RawFd, entry.as_ref()?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The table behaves like a map, whatever the numbers are.
        #[test]
        fn a_table_by_number_is_a_map(
            steps in prop::collection::vec((0..3_u8, prop_oneof![0..200, Just(1_000_000), Just(RawFd::MAX)]), 0..100)
        ) {
            let (mut table, mut map) = (FdTable::new(), BTreeMap::new());
            for (value, (step, fd)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        table.insert(fd, value);
                        map.insert(fd, value);
                    }
                    1 => prop_assert_eq!(table.remove(fd), map.remove(&fd)),
                    _ => {
                        table.retain(|value| value % 3 > 0);
                        map.retain(|_, value| *value % 3 > 0);
                    }
                }
                prop_assert_eq!(table.get(fd), map.get(&fd));
                let entries = map.iter().map(|(fd, value)| (*fd, value));
                prop_assert!(table.iter().eq(entries));
            }
        }
    }
}
