//! What std calls the end of a process, for those who want that. Decides nothing.

use crate::core::child::{Death, WaitStatus};
use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

impl Death {
    /// Its wait status; `None` when somebody else had collected it.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
            .map(|status: WaitStatus| ExitStatus::from_raw(status.raw()))
    }
}
