//! What a parent and its children share for the reserved child: whether all others are busy, and how
//! many connections have been taken. Decides nothing.

use super::taken::TakenCounters;
use crate::sys::flag::Flag;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
};

/// Made in the parent, before the first fork.
#[derive(Debug)]
pub(super) struct Reserve {
    all_busy: Flag,
    taken: Rc<TakenCounters>,
}

impl Reserve {
    pub(super) fn new(taken: &Rc<TakenCounters>) -> io::Result<Self> {
        Ok(Self {
            all_busy: Flag::new()?,
            taken: Rc::clone(taken),
        })
    }

    /// In the parent: notes whether all other children are busy.
    pub(super) fn set_all_busy(&self, all_busy: bool) -> io::Result<()> {
        self.all_busy.set(all_busy)
    }

    pub(super) fn are_all_busy(&self) -> io::Result<bool> {
        self.all_busy.is_raised()
    }

    /// How many connections all children have taken from a queue, if they are counted.
    pub(super) fn taken(&self, queue: usize) -> Option<u64> {
        self.taken.from(queue)
    }
}

/// Readable while all other children are busy.
impl AsFd for Reserve {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.all_busy.as_fd()
    }
}
