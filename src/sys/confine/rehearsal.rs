//! The steps tried before the start, in a process made for that: what would fail in each child fails
//! here, and nothing of it stays. Tells what has failed; takes no step in this process.

#![allow(unsafe_code)]

use super::{ConfinementPlan, NOT_KEPT, failed};
use crate::{
    core::error::Error,
    sys::{
        fork::{self, Side},
        pipes,
        signals::Mask,
    },
};
use nix::{
    errno::Errno,
    libc,
    sys::wait::waitpid,
    unistd::{self, Pid},
};
use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
};

/// What the process says of its steps: the place of the one that failed, or `DONE`, and the errno.
const DONE: u32 = u32::MAX;

type RehearsalResult = [u8; 8];

/// Fails as a child of the server would.
pub(super) fn rehearse(plan: &ConfinementPlan) -> Result<(), Error> {
    let verdict = ask(plan).map_err(|error| failed("", error))?;
    match verdict.map(places) {
        Some((DONE, _)) => Ok(()),
        Some((at, error)) => Err(failed(plan.object(at as usize), error)),
        None => {
            let error = io::Error::other("the process that tried the steps was killed");
            Err(failed("a trial", error))
        }
    }
}

/// Forks, and waits for the verdict and for the end of the process. The program may have children
/// reaped by the kernel, so an end that is not found is none of the errors.
fn ask(plan: &ConfinementPlan) -> io::Result<Option<RehearsalResult>> {
    let (read, write) = pipes::pipe()?;
    let mask = Mask::block_all()?;
    let side = fork::fork(&mask);
    if let Ok(Side::Child) = side {
        tell(plan, &write);
    }
    mask.restore()?;
    drop(write);
    let Side::Parent(pid) = side? else {
        return Ok(None);
    };
    let verdict = verdict(read);
    while waitpid(Pid::from_raw(pid as i32), None) == Err(Errno::EINTR) {}
    verdict
}

fn verdict(read: OwnedFd) -> io::Result<Option<RehearsalResult>> {
    let mut said = Vec::new();
    File::from(read).read_to_end(&mut said)?;
    Ok(said.try_into().ok())
}

/// In the process: takes the steps and ends. What the program has buffered is written by the parent
/// only, so nothing is flushed.
fn tell(plan: &ConfinementPlan, write: &OwnedFd) -> ! {
    let (at, errno) = match plan.attempt() {
        Ok(()) => (DONE, 0),
        Err((at, error)) => (at as u32, error.raw_os_error().unwrap_or(0)),
    };
    let mut verdict = RehearsalResult::default();
    verdict[..4].copy_from_slice(&at.to_ne_bytes());
    verdict[4..].copy_from_slice(&errno.to_ne_bytes());
    // OK to ignore: without a verdict the parent refuses to start.
    let _ = unistd::write(write, &verdict);
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(0) }
}

/// The place and the error. No error of the system has the number 0: that one was found by trying.
fn places(verdict: RehearsalResult) -> (u32, io::Error) {
    let [a, b, c, d, errno @ ..] = verdict;
    let error = match i32::from_ne_bytes(errno) {
        0 => io::Error::other(NOT_KEPT),
        errno => io::Error::from_raw_os_error(errno),
    };
    (u32::from_ne_bytes([a, b, c, d]), error)
}
