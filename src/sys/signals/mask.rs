//! The mask of signals across a fork and an exec. Blocks and restores; handles nothing.

use super::native;
use crate::{
    core::signal_policy::{InChild, SignalRow, TABLE},
    sys::stacks::QUESTION,
};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::io;

/// The mask before all signals were blocked.
#[derive(Clone, Debug)]
pub(crate) struct Mask(SigSet);

impl Mask {
    /// Blocks every signal, before a fork.
    pub(crate) fn block_all() -> io::Result<Self> {
        Ok(Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?))
    }

    /// Restores the mask.
    pub(crate) fn restore(self) -> io::Result<()> {
        Ok(self.0.thread_set_mask()?)
    }

    /// Like `restore`, but unblocks the signals that stop a child and those that have their default
    /// there, and the question for its stack.
    pub(crate) fn for_child(mut self) -> io::Result<()> {
        let heard = |row: &&SignalRow| row.child.stops() || row.child == InChild::Default;
        for row in TABLE.iter().filter(heard) {
            self.0.remove(native(row.signal)?);
        }
        QUESTION
            .into_iter()
            .for_each(|signal| self.0.remove(signal));
        self.restore()
    }
}
