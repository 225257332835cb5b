//! The mask of signals across a fork and an exec. Blocks and restores; handles nothing.

use crate::sys::stacks::QUESTION;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
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

    /// Like `restore`, but unblocks the signals that stop and end a child, and the question for its
    /// stack.
    pub(crate) fn for_child(mut self) -> io::Result<()> {
        let [stop, quit] = [Signal::SIGTERM, Signal::SIGQUIT];
        let childs = [Signal::SIGINT, stop, quit, Signal::SIGALRM];
        for signal in childs.into_iter().chain(QUESTION) {
            self.0.remove(signal);
        }
        self.restore()
    }
}
