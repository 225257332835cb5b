//! Signals for a server, which come to its holder: those of the table are counted for the parent or
//! sent to it, one is for the holder itself. Reads them from a descriptor; no handler runs here.

#![allow(unsafe_code)]

use super::{Holder, end::complain, send};
use crate::{
    core::{
        holder::Passing,
        signal_policy::{Arrived, InHolder, SignalEffect, TABLE},
    },
    sys::{holder::journal_memory::Journal, signals::number},
};
use nix::{
    libc,
    sys::signal::{SigSet, Signal as Native},
};
use std::{io, mem::MaybeUninit, ptr};

/// By this signal a program that watches a server asks the holder to replace a parent that hangs.
const REPLACE_PARENT: libc::c_int = libc::SIGABRT;

impl Holder<'_> {
    /// Passes on the signals that have come, and reaps who has ended. True if a stop was asked for.
    pub(super) fn take_signals(&mut self) -> bool {
        let mut stops = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let arrived = signal.ssi_signo.cast_signed();
            let index = TABLE.iter().position(|row| number(row.signal) == arrived);
            match index.map(|index| (index, TABLE[index])) {
                Some((index, row)) if row.holder == InHolder::PassesOn => {
                    stops |= matches!(row.lead, SignalEffect::Stop | SignalEffect::UnboundedStop);
                    self.pass_on(index, arrived);
                }
                // Who has ended is reaped below, whatever has come.
                Some(_) => {}
                None if arrived == REPLACE_PARENT => self.kill_parent(),
                None => {}
            }
        }
        self.reap_all();
        stops
    }

    fn pass_on(&mut self, index: usize, signal: libc::c_int) {
        let journal = &self.setup.journal;
        let parent = self.parent.as_ref().filter(|it| it.status.is_none());
        let is_counted = self.setup.counted[index];
        match Passing::of(is_counted, journal.is_over(), parent.is_some()) {
            Passing::Counted => {
                journal.ask(index, 1);
                self.wake();
            }
            Passing::Sent => parent.iter().for_each(|it| send(it.pid, signal)),
            Passing::Dropped => {}
        }
    }

    /// Another parent takes the place of one that hangs.
    fn kill_parent(&self) {
        if let Some(parent) = self.parent.as_ref().filter(|it| it.status.is_none()) {
            complain(b"holder: SIGABRT has come; the parent is killed, and another one started\n");
            send(parent.pid, libc::SIGKILL);
        }
    }
}

/// The signals that the holder reads: those of the table that it does not leave, and one that is for
/// the holder.
pub(super) fn handled_signals() -> io::Result<SigSet> {
    let rows = TABLE.iter().filter(|row| row.holder != InHolder::Left);
    let mut handled_signals = SigSet::empty();
    for row in rows {
        handled_signals.add(Native::try_from(number(row.signal))?);
    }
    handled_signals.add(Native::try_from(REPLACE_PARENT)?);
    Ok(handled_signals)
}

/// Ctrl-Z is for all processes of a job: a shell goes on when each of them has stopped. A handler of the
/// program's does not run here.
pub(super) fn stop_with_the_terminal() -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no action is set, and the place for the present one is valid for writes; all bytes zero
    // are one as well.
    let action = unsafe {
        libc::sigaction(libc::SIGTSTP, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    if action.sa_sigaction == libc::SIG_DFL {
        SigSet::from(Native::SIGTSTP).thread_unblock()?;
    }
    Ok(())
}

/// What has arrived before there was a holder is for the first parent.
pub(in crate::sys::holder) fn note_arrived(journal: &Journal, arrived: &Arrived) {
    for (index, count) in arrived.iter().enumerate() {
        journal.ask(index, *count);
    }
}
