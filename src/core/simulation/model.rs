//! A model child: its next step, and the pipes that it writes to. Knows nothing of the core.

use super::pipe::ModelPipe;
use crate::core::{
    child::Signal,
    draining::{ChildDrain, QueuedClients},
    signal_policy,
    time::Time,
    wire::{CommWords, Word},
};
use std::time::Duration;

/// A fault of a child that lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It does not react to SIGINT.
    IgnoresInterrupt,
    /// It is stopped (SIGSTOP) and handles no signal: only SIGKILL ends it.
    Stopped,
    /// It has closed one output or both and is still alive.
    ClosedOutput,
    /// It has written random words, or filled its pipe.
    Babbling,
    /// Reading one of its outputs fails.
    Unreadable,
    /// It hangs in the kernel: SIGKILL does not end it.
    Immortal,
}

/// What a child does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ModelActivity {
    Starting,
    Waiting,
    Serving,
    Dead(i32),
}

/// The signals that the parent has sent to a child, to be compared with those that it may send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) interrupts: u32,
    pub(super) kills: u32,
    /// How many of them were asked for by a hook.
    pub(super) interrupts_asked: u32,
    pub(super) kills_asked: u32,
    /// How often it was told to reopen its logs.
    pub(super) reopenings: u32,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) pid: u32,
    pub(super) activity: ModelActivity,
    pub(super) fault: Option<Fault>,
    /// It has overwritten its board entry, which contradicts its words for as long as it lives.
    pub(super) lies: bool,
    /// It has written what may be words, such as a BUSY in its start.
    pub(super) forges: bool,
    pub(super) stdout: ModelPipe,
    pub(super) stderr: ModelPipe,
    /// The pipe of its words, if they have one of their own.
    pub(super) comm: Option<ModelPipe>,
    words: CommWords,
    /// It is kept for the time when all others are busy, and serves nobody.
    pub(super) reserved: bool,
    /// SIGINT is pending or was acted on. However often it is sent, it arrives once.
    pub(super) told: bool,
    pub(super) queued_clients: QueuedClients,
    /// Until when it takes queued clients, once it knows that it is to stop.
    drain: ChildDrain,
    /// Whether it has looked for one since then.
    has_looked: bool,
    pub(super) sent: Sent,
    pub(super) next_ack: Option<Time>,
    /// It has said its state, and repeats it with each ACK.
    pub(super) stated: bool,
    /// The pipe had no room for its last word.
    pub(super) unsaid: bool,
    pub(super) served: u32,
    /// When it took the client that it serves.
    pub(super) client_since: Option<Time>,
    /// It has noted that it is to be replaced.
    pub(super) due: bool,
    /// The number of its current plan: an older plan is void.
    pub(super) plan: u32,
}

impl Model {
    pub(super) fn new(pid: u32, capacity: usize, words: CommWords) -> Self {
        Self {
            pid,
            activity: ModelActivity::Starting,
            fault: None,
            lies: false,
            forges: false,
            stdout: ModelPipe::new(capacity),
            stderr: ModelPipe::new(capacity),
            comm: None,
            words,
            reserved: false,
            told: false,
            queued_clients: QueuedClients::Serve,
            drain: ChildDrain::default(),
            has_looked: false,
            sent: Sent::default(),
            next_ack: None,
            stated: false,
            unsaid: false,
            served: 0,
            client_since: None,
            due: false,
            plan: 0,
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.activity, ModelActivity::Dead(_))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.activity == ModelActivity::Serving
    }

    /// Whether it runs.
    pub(super) fn acts(&self) -> bool {
        let hangs = matches!(self.fault, Some(Fault::Stopped | Fault::Immortal));
        !self.is_dead() && !hangs
    }

    /// Whether it knows that it is to leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.told && self.fault != Some(Fault::IgnoresInterrupt)
    }

    /// Whether a child that was told to stop leaves queued clients to others. It tries once in any
    /// case.
    pub(super) fn has_drained(&mut self, now: Time, drain_timeout: Duration) -> bool {
        let time = match self.queued_clients {
            QueuedClients::Serve => drain_timeout,
            QueuedClients::LeaveToOthers => Duration::ZERO,
        };
        let lasts = self.drain.lasts(time, now);
        std::mem::replace(&mut self.has_looked, true) && !lasts
    }

    pub(super) fn die(&mut self, raw: i32) {
        self.activity = ModelActivity::Dead(raw);
        self.stdout.close();
        self.stderr.close();
        self.comm.iter_mut().for_each(ModelPipe::close);
        self.plan += 1;
    }

    /// Whether one of its pipes has something that the poller has not reported.
    pub(super) fn has_edge(&self) -> bool {
        let pipes = [&self.stdout, &self.stderr].into_iter().chain(&self.comm);
        pipes.into_iter().any(ModelPipe::has_edge)
    }

    /// Whether nobody would hear its words.
    pub(super) fn is_mute(&self) -> bool {
        self.comm.as_ref().unwrap_or(&self.stdout).is_closed()
    }

    /// Writes words to their pipe. False without room.
    fn say(&mut self, message: &[u8]) -> bool {
        self.comm
            .as_mut()
            .unwrap_or(&mut self.stdout)
            .write(message)
    }

    fn state_byte(&self) -> u8 {
        self.words.byte(match self.activity {
            ModelActivity::Serving => Word::Busy,
            _ => Word::NotBusy,
        })
    }

    pub(super) fn say_ack(&mut self) {
        let ack = self.words.byte(Word::Ack);
        let message = [b'\n', ack, b'\n', self.state_byte(), b'\n'];
        let leaving = self.is_leaving() && self.activity != ModelActivity::Serving;
        let silent = leaving || !self.stated;
        let length = if silent { 3 } else { message.len() };
        self.unsaid = !self.say(&message[..length]);
    }

    pub(super) fn say_state(&mut self) {
        self.stated = true;
        let state = self.state_byte();
        self.unsaid = !self.say(&[b'\n', state, b'\n']);
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
            // Its default, which no handler replaces. One that is stopped has it pending.
            Signal::Alarm if self.acts() => {
                self.die(14);
                true
            }
            signal if signal_policy::stops_a_child(signal, true) => {
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
