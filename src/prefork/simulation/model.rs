//! A model child: what it would do next, and the pipe that it writes to. Knows nothing of the core.

use crate::{
    child::Signal,
    comm::{CommWords, Word},
    time::Time,
};
use std::{collections::VecDeque, os::unix::process::ExitStatusExt, process::ExitStatus};

/// A small generator of random numbers, the same for the same seed everywhere (SplitMix64).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

/// What is wrong with a child, from some moment on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It does not react to SIGINT.
    Deaf,
    /// It does nothing any more, and hears nothing (SIGSTOP): only SIGKILL ends it.
    Stopped,
    /// It has closed its outputs and lives on.
    Mute,
    /// It says words at random.
    Babbling,
}

/// What a child does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Doing {
    Starting,
    Waiting,
    Serving,
    Dead(i32),
}

/// How much a pipe holds.
const CAPACITY: usize = 65_536;

#[derive(Debug)]
pub(super) struct Model {
    pub(super) pid: u32,
    pub(super) doing: Doing,
    pub(super) fault: Option<Fault>,
    pub(super) pipe: VecDeque<u8>,
    pub(super) closed: bool,
    /// SIGINT is pending or was acted on. However often it is sent, it arrives once.
    pub(super) told: bool,
    pub(super) next_ack: Option<Time>,
    pub(super) served: u32,
    /// Counts its plans: one that was made before something else happened is void.
    pub(super) plan: u32,
}

impl Model {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            doing: Doing::Starting,
            fault: None,
            pipe: VecDeque::new(),
            closed: false,
            told: false,
            next_ack: None,
            served: 0,
            plan: 0,
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.doing, Doing::Dead(_))
    }

    /// Whether it goes about its business.
    pub(super) fn acts(&self) -> bool {
        !self.is_dead() && self.fault != Some(Fault::Stopped)
    }

    pub(super) fn status(&self) -> Option<ExitStatus> {
        match self.doing {
            Doing::Dead(raw) => Some(ExitStatus::from_raw(raw)),
            _ => None,
        }
    }

    pub(super) fn die(&mut self, raw: i32) {
        self.doing = Doing::Dead(raw);
        self.closed = true;
        self.plan += 1;
    }

    /// Writes all of it or, if there is no room, nothing: as the real one does.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if !self.closed && self.pipe.len() + bytes.len() <= CAPACITY {
            self.pipe.extend(bytes);
        }
    }

    fn state_byte(&self) -> u8 {
        let words = CommWords::CONTROL;
        words.byte(match self.doing {
            Doing::Serving => Word::Busy,
            _ => Word::NotBusy,
        })
    }

    pub(super) fn say_ack(&mut self) {
        let ack = CommWords::CONTROL.byte(Word::Ack);
        let state = self.state_byte();
        let message = [b'\n', ack, b'\n', state, b'\n'];
        let knows = self.told && self.fault != Some(Fault::Deaf);
        let leaving = knows && self.doing != Doing::Serving;
        self.write(if leaving { &message[..3] } else { &message });
    }

    pub(super) fn say_state(&mut self) {
        let state = self.state_byte();
        self.write(&[b'\n', state, b'\n']);
    }

    /// A signal arrives. True if it changes what the child does next.
    pub(super) fn hear(&mut self, signal: Signal) -> bool {
        match signal {
            _ if self.is_dead() => false,
            Signal::Kill => {
                self.die(9);
                true
            }
            Signal::Interrupt => {
                self.told = true;
                self.fault != Some(Fault::Deaf) && self.acts()
            }
            _ => false,
        }
    }
}
