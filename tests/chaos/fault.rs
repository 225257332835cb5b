//! The menu: what is done to a child, by itself or from outside.
//!
//! It never picks a child; which one is hit is decided by the campaign.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, Stdio};

use nix::sys::signal::{SigSet, Signal, raise};

use super::dice::Dice;

/// One thing that can happen to a child.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    Kill,
    Stop,
    Segv,
    Abort,
    ExitZero,
    ExitOne,
    Panic,
    Spin,
    CloseStdout,
    MaskInt,
    Daemon,
    Flood,
}

/// How much a flood is.
pub const FLOOD: usize = 1024 * 1024;

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::Stop,
        Self::Segv,
        Self::Abort,
        Self::ExitZero,
        Self::ExitOne,
        Self::Panic,
        Self::Spin,
        Self::CloseStdout,
        Self::MaskInt,
        Self::Daemon,
        Self::Flood,
    ];

    /// Those that cost the client whose connection the child has in hand.
    const COSTLY: Faults = Faults(0b1111_1111);

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Stop => "SIGSTOP",
            Self::Segv => "SIGSEGV",
            Self::Abort => "abort",
            Self::ExitZero => "exit-0",
            Self::ExitOne => "exit-1",
            Self::Panic => "panic",
            Self::Spin => "spin",
            Self::CloseStdout => "close-stdout",
            Self::MaskInt => "mask-INT",
            Self::Daemon => "daemon",
            Self::Flood => "flood-1-MB",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// The signal, for those that come from outside.
    pub const fn signal(self) -> Option<Signal> {
        match self {
            Self::Kill => Some(Signal::SIGKILL),
            Self::Stop => Some(Signal::SIGSTOP),
            _ => None,
        }
    }

    /// Does it, in the child whose client has asked for it; what the child had done before counts.
    pub fn inflict(self, before: Faults) -> io::Result<()> {
        match self {
            // The handler of the standard library gives way at the first.
            Self::Segv => loop {
                raise(Signal::SIGSEGV)?;
            },
            Self::Abort => process::abort(),
            Self::ExitZero => process::exit(0),
            Self::ExitOne => process::exit(1),
            Self::Panic => panic!("the client asked for it"),
            Self::Spin => loop {
                std::hint::spin_loop();
            },
            Self::CloseStdout if !before.has(self) => nix::unistd::close(1)?,
            Self::MaskInt => {
                let mut mask = SigSet::empty();
                mask.add(Signal::SIGINT);
                mask.thread_block()?;
            }
            Self::Daemon => daemon()?,
            // Without a stdout of its own it would flood whatever has the number now: its client.
            Self::Flood if !before.has(Self::CloseStdout) => flood()?,
            Self::Kill | Self::Stop | Self::CloseStdout | Self::Flood => {}
        }
        Ok(())
    }
}

/// A process that outlives its parent for a moment and holds its outputs meanwhile.
fn daemon() -> io::Result<()> {
    let mut command = Command::new("sleep");
    command.arg("1").process_group(0).stdin(Stdio::null());
    command.spawn().map(drop)
}

/// Lines, and pieces of lines, some of them longer than the parent takes as one.
fn flood() -> io::Result<()> {
    let mut text = vec![b'x'; FLOOD];
    let ends = (1..).map(|step: usize| step * step * 7);
    for end in ends.take_while(|&end| end < FLOOD) {
        text[end] = b'\n';
    }
    text[FLOOD - 1] = b'\n';
    // Not through the buffer: what a child leaves there when it is killed was never written.
    io::stdout().lock().write_all(&text)
}

/// A set of faults.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Faults(pub u16);

impl Faults {
    pub const fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u16)
    }

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u16 != 0
    }

    /// Whether one is among them that costs a client its connection.
    pub const fn are_costly(self) -> bool {
        self.0 & Fault::COSTLY.0 != 0
    }
}

/// A deck of faults, shuffled again when it is used up: each comes up soon and none in a row.
#[derive(Clone, Debug)]
pub struct Menu {
    all: Vec<Fault>,
    deck: Vec<Fault>,
}

impl Menu {
    fn of(all: Vec<Fault>) -> Self {
        let deck = Vec::new();
        Self { all, deck }
    }

    /// SIGKILL and nothing else.
    pub fn kill() -> Self {
        Self::of(vec![Fault::Kill])
    }

    /// All of them alike.
    pub fn mixed() -> Self {
        Self::of(Fault::ALL.to_vec())
    }

    /// All of them, with one spin to four of each other: a spinning child takes a core until it is
    /// found out, and the rest is to be seen on a machine that is not saturated.
    pub fn mixed_for_long() -> Self {
        let others = Fault::ALL.into_iter().filter(|&fault| fault != Fault::Spin);
        let mut all: Vec<Fault> = others.flat_map(|fault| [fault; 4]).collect();
        all.push(Fault::Spin);
        Self::of(all)
    }

    pub fn next(&mut self, dice: &mut Dice) -> Fault {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.all);
            dice.shuffle(&mut self.deck);
        }
        self.deck.pop().expect("a menu with something on it")
    }
}
