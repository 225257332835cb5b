//! A set of descriptors, kept as ranges of consecutive numbers: one call closes a range. Pure:
//! closes nothing.

use std::{collections::BTreeMap, os::fd::RawFd};

/// Maps the first number of each range to its last. No two ranges touch.
#[derive(Debug, Default)]
pub(super) struct FdRanges(BTreeMap<RawFd, RawFd>);

impl FdRanges {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn insert(&mut self, fd: RawFd) {
        let mut first = fd;
        if let Some((&before, &last)) = self.0.range(..=fd).next_back() {
            if fd <= last {
                return;
            }
            if last + 1 == fd {
                first = before;
            }
        }
        let last = self.0.remove(&(fd + 1)).unwrap_or(fd);
        self.0.insert(first, last);
    }

    pub(super) fn remove(&mut self, fd: RawFd) {
        let Some((&first, &last)) = self.0.range(..=fd).next_back() else {
            return;
        };
        if last < fd {
            return;
        }
        if first == fd {
            self.0.remove(&first);
        } else {
            self.0.insert(first, fd - 1);
        }
        if fd < last {
            self.0.insert(fd + 1, last);
        }
    }

    /// First and last number of each range, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, RawFd)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }
}

impl FromIterator<RawFd> for FdRanges {
    fn from_iter<I: IntoIterator<Item = RawFd>>(fds: I) -> Self {
        let mut runs = Self::new();
        for fd in fds {
            runs.insert(fd);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn consecutive_numbers_make_a_run() {
        let of = |fds: &[RawFd]| {
            FdRanges::from_iter(fds.iter().copied())
                .iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[7]), [(7, 7)]);
        assert_eq!(of(&[12, 3, 5, 11, 4, 9]), [(3, 5), (9, 9), (11, 12)]);
    }

    proptest! {
        /// After any insertions and removals the numbers equal those of a plain set, and no ranges
        /// touch.
        #[test]
        fn runs_are_a_set(steps in prop::collection::vec((any::<bool>(), 0..40), 0..200)) {
            let (mut runs, mut set) = (FdRanges::new(), BTreeSet::new());
            for (comes, fd) in steps {
                if comes {
                    runs.insert(fd);
                    set.insert(fd);
                } else {
                    runs.remove(fd);
                    set.remove(&fd);
                }
                let numbers: Vec<_> = runs.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert!(numbers.iter().eq(set.iter()));
                let mut ends = runs.iter().zip(runs.iter().skip(1));
                prop_assert!(ends.all(|((_, last), (first, _))| last + 1 < first));
            }
        }
    }
}
