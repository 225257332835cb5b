//! The exec that makes this process another program, with the state and the descriptors that it hands
//! on. Everything that can fail comes first, and after an exec that has failed all is as before.

use super::{
    descriptors::{borrow_fd, close_on_exec},
    instruction::{UpgradeInstruction, UpgradeTask, kept_from_others},
    program::{ExecveatCall, RunningProgram},
    state_file,
};
use crate::{
    core::state::Snapshot,
    sys::{
        signals::{self, Mask},
        waiter::poll_any,
    },
};
use nix::poll::PollFlags;
use std::{
    ffi::OsString,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

/// Replaces this process by `program`. Returns only if that fails.
pub(super) fn execute(program: RawFd, image: &RunningProgram, snapshot: &Snapshot) -> io::Error {
    let state = match state_file::sealed(&snapshot.encode()) {
        Ok(state) => state,
        Err(error) => return error,
    };
    let task = match &snapshot.program.back {
        None => UpgradeTask::TakeOver {
            image: image.number(),
        },
        Some(reason) => UpgradeTask::TakeBack {
            reason: reason.clone(),
        },
    };
    let instruction = UpgradeInstruction {
        state: state.as_raw_fd(),
        task,
    };
    let call = image.call(program, &OsString::from(&instruction));
    at_once(&call, &kept(snapshot, state.as_raw_fd()))
}

/// Executes the program before this one again, which could not be replaced: with the state that it has
/// handed on, which may be what this one cannot read. Returns only if that fails.
pub(crate) fn go_back(
    program: RawFd,
    state: RawFd,
    snapshot: Option<&Snapshot>,
    reason: &str,
) -> io::Error {
    let image = match RunningProgram::of_this_process() {
        Ok(image) => image,
        Err(error) => return error,
    };
    let instruction = UpgradeInstruction {
        state,
        task: UpgradeTask::TakeBack {
            reason: reason.to_owned(),
        },
    };
    let call = image.call(program, &OsString::from(&instruction));
    // OK to ignore: without the mask the signals are handled here once more, and lost as before.
    let _ = Mask::block_all();
    signals::leave_all_to_next();
    // What is not open is for that program to miss.
    let mut kept = snapshot.map_or_else(|| vec![state], |snapshot| kept(snapshot, state));
    kept.extend(kept_from_others());
    kept.retain(|fd| borrow_fd(*fd).is_ok());
    at_once(&call, &kept)
}

fn kept(snapshot: &Snapshot, state: RawFd) -> Vec<RawFd> {
    let handed_on = snapshot.descriptors.iter();
    let handed_on = handed_on.map(|descriptor| descriptor.fd.cast_signed());
    handed_on.chain([state]).collect()
}

fn at_once(call: &ExecveatCall, kept: &[RawFd]) -> io::Error {
    flush_outputs();
    let mask = match Mask::block_all() {
        Ok(mask) => mask,
        Err(error) => return error,
    };
    let prepared = signals::before_exec()
        .and_then(|()| kept.iter().try_for_each(|fd| close_on_exec(*fd, false)));
    let error = match prepared {
        Ok(()) => call.execute().into(),
        Err(error) => error,
    };
    for fd in kept {
        // OK to ignore: the ones that are not open are no longer handed on either.
        let _ = close_on_exec(*fd, true);
    }
    signals::after_failed_exec();
    // OK to ignore: the mask was in force before.
    let _ = mask.restore();
    error
}

/// What the program has printed and the library has not written yet would be lost. An output that has
/// no room is left alone: the parent does not wait for its reader.
pub(crate) fn flush_outputs() {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let asked = [stdout.as_fd(), stderr.as_fd()].map(|output| (output, PollFlags::POLLOUT));
    let Ok([out, err]) = poll_any(asked, Some(Duration::ZERO)) else {
        return;
    };
    // OK to ignore: their reader is gone.
    if out {
        let _ = stdout.lock().flush();
    }
    if err {
        let _ = stderr.lock().flush();
    }
}
