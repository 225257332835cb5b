//! The parent's handler, and each server's share of the signals of the process. Wakes the loop and
//! counts; the core decides what a signal leads to.

use super::{NONE, SavedErrno, dispositions, foreign, number, poke};
use crate::{
    core::{
        child::Signal,
        signal_policy::{self, Arrived, InParent, TABLE, TakenSignals},
    },
    sys::{fd_registry::Registered, pipes},
};
use nix::{libc, sys::signal::SigHandler};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::atomic::{AtomicI32, AtomicU64, Ordering},
};

/// How often each signal of the table has arrived.
static COUNTS: [AtomicU64; TABLE.len()] = [const { AtomicU64::new(0) }; TABLE.len()];

/// How many servers one process can run at a time.
const SERVERS: usize = 64;
/// The pipe of each server. They share none: a server that drained a common pipe would take the
/// wake-ups of the others.
static PIPES: [AtomicI32; SERVERS] = [const { AtomicI32::new(NONE) }; SERVERS];

extern "C" fn in_parent(signal: libc::c_int) {
    let _errno = SavedErrno::save();
    if foreign::is_foreign_process() {
        return foreign::end_by(signal);
    }
    for (row, count) in TABLE.iter().zip(&COUNTS) {
        if number(row.signal) == signal {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    for pipe in &PIPES {
        poke(pipe.load(Ordering::Relaxed), b"!");
    }
}

const HANDLER: SigHandler = SigHandler::Handler(in_parent);

/// After an exec that has failed.
#[cfg(target_os = "linux")]
pub(crate) fn after_failed_exec() {
    dispositions::after_failed_exec(HANDLER);
}

/// The same in a program that has not turned yet, and goes back to the one before.
#[cfg(target_os = "linux")]
pub(crate) fn leave_all_to_next() {
    for (row, count) in TABLE.iter().zip(&COUNTS) {
        if count.load(Ordering::Relaxed) > 0 {
            raise(row.signal);
        }
    }
}

/// Sends a signal to this thread. Blocked, it waits, also over an exec.
fn raise(signal: Signal) {
    // SAFETY: an integer. OK to ignore the result: the signal exists, so the call cannot fail.
    unsafe { libc::raise(number(signal)) };
}

/// In a new child: the handler wakes no server.
pub(super) fn forget_in_child() {
    for pipe in &PIPES {
        pipe.store(NONE, Ordering::Relaxed);
    }
}

/// A server's share of the process's signals.
#[derive(Debug)]
pub(crate) struct Subscription {
    read: Registered<OwnedFd>,
    // Closed after `slot` has been freed, so that the handler never writes to another descriptor
    // with the same number.
    _write: Registered<OwnedFd>,
    slot: usize,
    seen: [u64; TABLE.len()],
    /// What has been asked for, by row.
    wanted: Vec<(usize, InParent)>,
}

impl Subscription {
    /// Installs the actions of the table.
    pub(crate) fn new(takes: TakenSignals) -> io::Result<Self> {
        let (read, write) = pipes::pipe()?;
        pipes::set_nonblocking(&read)?;
        pipes::set_nonblocking(&write)?;
        let slot = claim_slot(write.as_raw_fd())?;
        let mut subscription = Self {
            read: Registered::parents(read),
            _write: Registered::parents(write),
            slot,
            seen: std::array::from_fn(|index| COUNTS[index].load(Ordering::Relaxed)),
            wanted: Vec::new(),
        };
        for (index, row) in TABLE.iter().enumerate() {
            match takes.action(row) {
                InParent::Left => {}
                action => _ = subscription.want(index, action)?,
            }
        }
        // SIGCHLD cannot be turned off: it tells a server of deaths.
        subscription.handle(Signal::Child)?;
        Ok(subscription)
    }

    /// Handles `signal` from now on. True if it was not handled before.
    pub(crate) fn handle(&mut self, signal: Signal) -> io::Result<bool> {
        let index = signal_policy::index(signal)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "cannot lead to a state"))?;
        self.want(index, InParent::Handled)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// The signals that have arrived and that this server handles.
    ///
    /// Drains the pipe first, if it is readable, and reads the counters then: in the other order, a
    /// signal in between would be counted and its wake-up lost. The counters are read in any case:
    /// a signal also interrupts the wait, while its write to the pipe, or the read of the pipe, may
    /// have failed.
    pub(crate) fn arrived(&mut self, woken: bool) -> Arrived {
        let mut sink = [0; 512];
        while woken && matches!(pipes::read(&self.read, &mut sink), Ok(Some(512))) {}
        let mut arrived = Arrived::default();
        for &(index, action) in &self.wanted {
            if action == InParent::Handled {
                let count = COUNTS[index].load(Ordering::Relaxed);
                arrived[index] =
                    count.wrapping_sub(std::mem::replace(&mut self.seen[index], count));
            }
        }
        arrived
    }

    /// Before an exec, while all signals are blocked: those that have come and were not acted on come
    /// again, for the next program. (For this one, if the exec fails.)
    pub(crate) fn leave_to_next(&mut self) {
        for (row, count) in TABLE.iter().zip(self.arrived(false)) {
            if count > 0 {
                raise(row.signal);
            }
        }
    }

    /// Which signals of the table it handles.
    #[cfg(feature = "holder")]
    pub(crate) fn handled(&self) -> [bool; TABLE.len()] {
        std::array::from_fn(|index| self.wanted.contains(&(index, InParent::Handled)))
    }

    fn want(&mut self, index: usize, action: InParent) -> io::Result<bool> {
        if self.wanted.contains(&(index, action)) {
            return Ok(false);
        }
        if action == InParent::Handled {
            // What came before is not this server's.
            self.seen[index] = COUNTS[index].load(Ordering::Relaxed);
        }
        dispositions::want(index, action, HANDLER)?;
        self.wanted.push((index, action));
        Ok(true)
    }
}

/// Restores the earlier dispositions and the earlier mask.
impl Drop for Subscription {
    fn drop(&mut self) {
        PIPES[self.slot].store(NONE, Ordering::Relaxed);
        for &(index, action) in &self.wanted {
            dispositions::unwant(index, action, HANDLER);
        }
    }
}

/// Adds the pipe of a new server to the table that the handler reads.
fn claim_slot(fd: RawFd) -> io::Result<usize> {
    let is_first = PIPES
        .iter()
        .all(|pipe| pipe.load(Ordering::Relaxed) == NONE);
    if is_first {
        foreign::forget_home();
    }
    let claim = |pipe: &AtomicI32| {
        pipe.compare_exchange(NONE, fd, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    };
    PIPES
        .iter()
        .position(claim)
        .ok_or_else(|| io::Error::other(format!("{SERVERS} servers run in this process already")))
}
