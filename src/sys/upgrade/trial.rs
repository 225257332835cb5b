//! The trial of a new program: it is run as a child with the real state and the real descriptors, says
//! whether it can use them, and is killed. Does not wait for it.

#![allow(unsafe_code)]

use super::{
    descriptors::close_on_exec,
    instruction::{UpgradeInstruction, UpgradeTask},
    program::{ExecveatCall, RunningProgram},
    state_file,
};
use crate::{
    core::{child::WaitStatus, state::Snapshot, system::EventSource, upgrade::Trial},
    sys::{
        fd_registry::Registered,
        fork::{self, Side},
        pipes,
        poller::Poller,
        process,
        signals::{self, Mask},
    },
};
use mio::Interest;
use nix::{errno::Errno, libc};
use std::{
    ffi::OsString,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

/// The exit code of a trial whose exec has failed; the reason is in its answer.
const EXIT_EXEC: i32 = 127;

/// The longest answer that is read; the rest of a longer one is dropped.
const LONGEST: usize = 4096;

/// The process in which a new program is tried.
#[derive(Debug)]
pub(crate) struct TrialProcess {
    pid: libc::pid_t,
    answers: Registered<OwnedFd>,
    /// Closed at the end; a trial that outlives its parent sees that, too.
    _end: Registered<OwnedFd>,
    text: Vec<u8>,
    status: Option<WaitStatus>,
    was_killed: bool,
}

impl TrialProcess {
    /// Starts it. It answers at once or later, or never.
    pub(crate) fn start(
        program: BorrowedFd<'_>,
        image: &RunningProgram,
        snapshot: &Snapshot,
    ) -> io::Result<Self> {
        let state = state_file::sealed(&snapshot.encode())?;
        let (answers, answering) = pipes::pipe()?;
        let (end, ending) = pipes::pipe()?;
        pipes::set_nonblocking(&answers)?;
        let instruction = UpgradeInstruction {
            state: state.as_raw_fd(),
            task: UpgradeTask::Trial {
                answers: answering.as_raw_fd(),
                end: end.as_raw_fd(),
            },
        };
        let call = image.call(program.as_raw_fd(), &OsString::from(&instruction));
        let handed_on = snapshot.descriptors.iter().map(|it| it.fd.cast_signed());
        let own = [&state, &answering, &end].map(AsRawFd::as_raw_fd);
        let kept: Vec<RawFd> = handed_on.chain(own).collect();
        let pid = spawn(&call, &kept, answering.as_raw_fd())?;
        Ok(Self {
            pid,
            answers: Registered::parents(answers),
            _end: Registered::parents(ending),
            text: Vec::new(),
            status: None,
            was_killed: false,
        })
    }

    /// Has the poller report its answer and its end.
    pub(crate) fn watch(&self, poller: &Poller) -> io::Result<()> {
        poller.add_urgent(
            self.answers.as_raw_fd(),
            EventSource::Trial,
            Interest::READABLE,
        )
    }

    pub(crate) fn unwatch(&self, poller: &Poller) {
        // OK to ignore: a descriptor that is closed is watched no longer.
        let _ = poller.remove_urgent(self.answers.as_raw_fd());
    }

    /// What is known of it now.
    pub(crate) fn look(&mut self) -> Trial {
        // In this order: what it has written before its end is then there to be read.
        self.reap();
        self.read();
        match (self.was_killed, self.status) {
            (true, Some(_)) => return Trial::Gone,
            (true, None) => return Trial::Passed,
            _ => {}
        }
        match (answer(&self.text), self.status) {
            (Some(Err(reason)), _) => Trial::Refused(reason),
            (_, Some(status)) => Trial::Ended(status.to_string()),
            (Some(Ok(())), None) => Trial::Passed,
            (None, None) => Trial::Runs,
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 512];
        while let Ok(Some(count @ 1..)) = pipes::read(&self.answers, &mut buffer) {
            let room = LONGEST.saturating_sub(self.text.len());
            self.text.extend_from_slice(&buffer[..count.min(room)]);
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if self.status.is_none() {
            self.was_killed = true;
            // OK to ignore: it is a child that was not reaped, so the call cannot fail.
            let _ = process::signal_one(self.pid, libc::SIGKILL);
        }
    }

    /// Collects its status, if it has ended. True once it has.
    pub(crate) fn reap(&mut self) -> bool {
        self.wait(libc::WNOHANG)
    }

    /// Waits for its end, after it was killed.
    pub(crate) fn await_end(&mut self) {
        while !self.wait(0) && Errno::last() == Errno::EINTR {}
    }

    fn wait(&mut self, options: libc::c_int) -> bool {
        if self.status.is_none() {
            let mut status = 0;
            // SAFETY: the status is valid for writes for the length of the call.
            let reaped = unsafe { libc::waitpid(self.pid, &raw mut status, options) };
            let stolen = reaped < 0 && Errno::last() == Errno::ECHILD;
            if reaped == self.pid || stolen {
                self.status = Some(WaitStatus::from_raw(status));
            }
        }
        self.status.is_some()
    }
}

/// The answer in what a trial has written, once it is complete, or too long.
fn answer(text: &[u8]) -> Option<Result<(), String>> {
    let end = text.iter().position(|byte| *byte == b'\n');
    let is_full = text.len() >= LONGEST;
    let line = &text[..end.or(is_full.then_some(LONGEST))?];
    let line = String::from_utf8_lossy(line);
    Some(match line.split_once(' ') {
        None if line == "ok" => Ok(()),
        Some(("no", reason)) => Err(reason.to_owned()),
        Some(("errno", number)) => Err(not_executed(number)),
        _ => Err(format!("its answer is {line:?}")),
    })
}

fn not_executed(number: &str) -> String {
    let errno = number.parse().map(io::Error::from_raw_os_error);
    errno.map_or_else(
        |_| "it was not executed".to_owned(),
        |error| format!("exec: {error}"),
    )
}

/// Forks, and executes the call in the new process, which keeps the descriptors of `kept`.
fn spawn(call: &ExecveatCall, kept: &[RawFd], answering: RawFd) -> io::Result<libc::pid_t> {
    let parent = nix::unistd::getpid();
    let mask = Mask::block_all()?;
    match fork::fork(&mask) {
        // OK because the pid comes from fork(2).
        Ok(Side::Parent(pid)) => mask.restore().map(|()| pid as libc::pid_t),
        Ok(Side::Child) => {
            let errno = become_trial(call, kept, mask, parent);
            let text = format!("errno {errno}\n");
            // SAFETY: the text is readable for its length; then the process ends.
            unsafe {
                libc::write(answering, text.as_ptr().cast(), text.len());
                libc::_exit(EXIT_EXEC)
            }
        }
        Err(error) => {
            mask.restore()?;
            Err(error)
        }
    }
}

/// In the new process. Returns only if it fails, with the error's number.
fn become_trial(call: &ExecveatCall, kept: &[RawFd], mask: Mask, parent: nix::unistd::Pid) -> i32 {
    let prepared = signals::before_exec().and_then(|()| {
        // The copies of what tells children of their parent's end must not outlive the parent.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        kept.iter().try_for_each(|fd| close_on_exec(*fd, false))?;
        mask.restore()
    });
    if let Err(error) = prepared {
        return error.raw_os_error().unwrap_or(libc::EIO);
    }
    if nix::unistd::getppid() != parent {
        return libc::ESRCH;
    }
    call.execute() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_line_or_all_that_is_read() {
        assert_eq!(answer(b""), None);
        assert_eq!(answer(b"no because"), None);
        assert_eq!(answer(b"ok\n"), Some(Ok(())));
        assert_eq!(answer(b"no because\n"), Some(Err("because".to_owned())));
        let endless = [b"no ".to_vec(), vec![b'x'; LONGEST - 3]].concat();
        assert_eq!(answer(&endless), Some(Err("x".repeat(LONGEST - 3))));
        assert_eq!(answer(&endless[..LONGEST - 1]), None);
    }
}
