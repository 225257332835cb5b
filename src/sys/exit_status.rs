//! The wait status of a process as std's `ExitStatus`. Decides nothing.

use crate::core::child::{Death, WaitStatus};
use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

impl Death {
    /// The child's wait status; `None` if other code had collected it.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
            .map(|status: WaitStatus| ExitStatus::from_raw(status.raw()))
    }
}
