//! The mask of signals across a fork and an exec. Blocks and puts back; handles nothing.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::io;

/// The mask that was in force before all signals were blocked.
#[derive(Debug)]
pub(crate) struct Mask(SigSet);

impl Mask {
    /// Blocks every signal, across a fork.
    pub(crate) fn block_all() -> io::Result<Self> {
        Ok(Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?))
    }

    /// Goes back to what was in force.
    pub(crate) fn restore(self) -> io::Result<()> {
        Ok(self.0.thread_set_mask()?)
    }

    /// As `restore`, but never without the signals by which a child is told to stop and ended.
    pub(crate) fn for_child(mut self) -> io::Result<()> {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGALRM] {
            self.0.remove(signal);
        }
        self.restore()
    }
}
