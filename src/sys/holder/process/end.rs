//! The end of a holder: as its parent has ended, or because no parent comes to work, which ends the
//! children as well. Says what it says without waiting for a reader.

#![allow(unsafe_code)]

use super::{Holder, send};
use crate::{
    core::{child::Signal, holder::HolderSaw, journal::JournalRecord},
    sys::{pipes, signals::number},
};
use nix::{libc, sys::signal::SigSet};
use std::time::Duration;

/// The exit code of a holder whose parents end before they come to work: EX_SOFTWARE.
const EXIT_GIVEN_UP: i32 = 70;

impl Holder<'_> {
    /// No parent comes to work: says so, and tells the children to stop.
    pub(super) fn stop_children(&mut self) -> HolderSaw {
        complain(b"holder: the parents end before they come to work; the server ends\n");
        *self.resources.death_write = None;
        self.signal_children(false);
        HolderSaw::Told
    }

    pub(super) fn kill_children(&mut self) -> HolderSaw {
        self.signal_children(true);
        HolderSaw::Told
    }

    /// Waits until there is no child, but not longer than this.
    pub(super) fn await_children(&mut self, time: Duration) {
        let until = self.setup.clock.now() + time;
        while self.has_children() {
            let left = until.since(self.setup.clock.now());
            if left.is_zero() {
                return;
            }
            self.wait(Some(left));
        }
    }

    fn has_children(&self) -> bool {
        let mut records = self.setup.journal.records();
        records.any(|(_, record)| record.lives())
    }

    /// Tells the children to stop, or kills them. All of them are children of this process, which it has
    /// not reaped.
    fn signal_children(&self, kills: bool) {
        let lives = self.setup.journal.records().filter(|(_, it)| it.lives());
        for (_, JournalRecord { pid, stop_by, .. }) in lives {
            let signal = if kills { Signal::Kill } else { stop_by.signal };
            if stop_by.reaches_group(kills) {
                send_to_group(pid, number(signal));
            } else {
                send(pid, number(signal));
            }
        }
    }
}

/// The same to the group that the process leads, or to it alone if it leads none by now.
fn send_to_group(pid: u32, signal: libc::c_int) {
    // SAFETY: `kill` touches no memory. The leader is a child that was not reaped, so that the number
    // is that of its group.
    if unsafe { libc::kill(-(pid as libc::pid_t), signal) } != 0 {
        send(pid, signal);
    }
}

/// Ends this process when no parent comes to work.
pub(super) fn give_up() -> ! {
    exit(EXIT_GIVEN_UP)
}

/// Writes a line to stderr, if that takes it now.
pub(super) fn complain(line: &[u8]) {
    // OK to ignore: there is no other process to tell.
    let _ = pipes::write_nowait(libc::STDERR_FILENO, line);
}

/// Ends as another process has ended.
pub(super) fn exit_like(status: libc::c_int) -> ! {
    if libc::WIFEXITED(status) {
        exit(libc::WEXITSTATUS(status));
    }
    let signal = libc::WTERMSIG(status);
    // SAFETY: the default runs no code. A signal that ends processes ends this one when it is unblocked.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    // OK to ignore: then the exit code tells.
    let _ = nix::sys::signal::Signal::try_from(signal)
        .and_then(|signal| SigSet::from(signal).thread_unblock());
    // Process 1 of a container is not ended by signals of its own.
    exit(128 + signal)
}

/// Ends the process, and nothing else: what the program has buffered is its parent's to write.
pub(in crate::sys::holder) fn exit(code: i32) -> ! {
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(code) }
}
