//! What a parent and its children share for the reserved child: whether all others are busy, and how
//! many connections have been taken. Decides nothing.

use crate::sys::{flag::Flag, tally::Tally};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

/// Made in the parent, before the first fork.
#[derive(Debug)]
pub(super) struct Reserve {
    all_busy: Flag,
    taken: Tally<1>,
}

impl Reserve {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            all_busy: Flag::new()?,
            taken: Tally::new()?,
        })
    }

    /// In the parent: notes whether all other children are busy.
    pub(super) fn set_all_busy(&self, all_busy: bool) -> io::Result<()> {
        self.all_busy.set(all_busy)
    }

    pub(super) fn are_all_busy(&self) -> io::Result<bool> {
        self.all_busy.is_raised()
    }

    /// In a child: counts a connection that was taken from a queue.
    pub(super) fn count(&self) {
        self.taken.add_one(0);
    }

    /// How many connections all children have taken, from all queues.
    pub(super) fn taken(&self) -> u64 {
        let [taken] = self.taken.read();
        taken
    }
}

/// Readable while all other children are busy.
impl AsFd for Reserve {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.all_busy.as_fd()
    }
}
