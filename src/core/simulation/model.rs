//! A model child: what it would do next, and the pipes that it writes to. Knows nothing of the core.

use super::pipe::Pipe;
use crate::core::{
    child::Signal,
    time::Time,
    wire::{CommWords, Word},
};

/// What is wrong with a child, from some moment on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It does not react to SIGINT.
    Deaf,
    /// It does nothing any more, and hears nothing (SIGSTOP): only SIGKILL ends it.
    Stopped,
    /// It has closed one output or both and lives on.
    Mute,
    /// It has said words at random, or filled its pipe.
    Babbling,
    /// An output of it cannot be read any more.
    Unreadable,
    /// It hangs in the kernel: SIGKILL does not end it.
    Immortal,
}

/// What a child does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Doing {
    Starting,
    Waiting,
    Serving,
    Dead(i32),
}

/// What a child was sent by the parent, to be compared with what it may have been sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) interrupts: u32,
    pub(super) kills: u32,
    /// How many of them were asked for by a hook.
    pub(super) kills_asked: u32,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) pid: u32,
    pub(super) doing: Doing,
    pub(super) fault: Option<Fault>,
    /// It has scribbled on its entry of the board, which says the contrary of its words for as long as it
    /// lives: it can lie about itself.
    pub(super) lies: bool,
    pub(super) stdout: Pipe,
    pub(super) stderr: Pipe,
    /// SIGINT is pending or was acted on. However often it is sent, it arrives once.
    pub(super) told: bool,
    /// Told to stop, it has looked for one more connection.
    pub(super) last_round: bool,
    pub(super) sent: Sent,
    pub(super) next_ack: Option<Time>,
    /// It has said what it is doing, and does so again with each ACK.
    pub(super) stated: bool,
    /// The pipe had no room for its last word.
    pub(super) unsaid: bool,
    pub(super) served: u32,
    /// Counts its plans: one that was made before something else happened is void.
    pub(super) plan: u32,
}

impl Model {
    pub(super) fn new(pid: u32, capacity: usize) -> Self {
        Self {
            pid,
            doing: Doing::Starting,
            fault: None,
            lies: false,
            stdout: Pipe::new(capacity),
            stderr: Pipe::new(capacity),
            told: false,
            last_round: false,
            sent: Sent::default(),
            next_ack: None,
            stated: false,
            unsaid: false,
            served: 0,
            plan: 0,
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.doing, Doing::Dead(_))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.doing == Doing::Serving
    }

    /// Whether it goes about its business.
    pub(super) fn acts(&self) -> bool {
        let hangs = matches!(self.fault, Some(Fault::Stopped | Fault::Immortal));
        !self.is_dead() && !hangs
    }

    /// Whether it knows that it is to leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.told && self.fault != Some(Fault::Deaf)
    }

    pub(super) fn die(&mut self, raw: i32) {
        self.doing = Doing::Dead(raw);
        self.stdout.close();
        self.stderr.close();
        self.plan += 1;
    }

    fn state_byte(&self) -> u8 {
        CommWords::CONTROL.byte(match self.doing {
            Doing::Serving => Word::Busy,
            _ => Word::NotBusy,
        })
    }

    pub(super) fn say_ack(&mut self) {
        let ack = CommWords::CONTROL.byte(Word::Ack);
        let message = [b'\n', ack, b'\n', self.state_byte(), b'\n'];
        let leaving = self.is_leaving() && self.doing != Doing::Serving;
        let silent = leaving || !self.stated;
        let length = if silent { 3 } else { message.len() };
        self.unsaid = !self.stdout.write(&message[..length]);
    }

    pub(super) fn say_state(&mut self) {
        self.stated = true;
        let state = self.state_byte();
        self.unsaid = !self.stdout.write(&[b'\n', state, b'\n']);
    }

    /// A signal arrives. True if it changes what the child does next.
    pub(super) fn hear(&mut self, signal: Signal) -> bool {
        match signal {
            _ if self.is_dead() => false,
            Signal::Kill if self.fault == Some(Fault::Immortal) => false,
            Signal::Kill => {
                self.die(9);
                true
            }
            Signal::Interrupt => {
                self.told = true;
                self.is_leaving() && self.acts()
            }
            Signal::Continue => {
                let was_stopped = self.fault == Some(Fault::Stopped);
                if was_stopped {
                    self.fault = None;
                }
                was_stopped
            }
            _ => false,
        }
    }
}
