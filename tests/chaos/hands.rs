//! What each child has in hand, in a file: a slot for each pid, written by the child, read when it
//! is dead.
//!
//! It never loses the last word of a process that is killed: a write has happened or has not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::clock;
use super::fault::{Fault, Faults};

/// One slot: the connection, since when, and what the child was asked to do to itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hand {
    /// The client's port, which is the connection's name; 0 for none.
    pub port: u16,
    pub since: Duration,
    pub faults: Faults,
}

const SLOT: usize = 16;

/// The file.
#[derive(Debug)]
pub struct Hands(File);

impl Hands {
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(path).map(Self)
    }

    pub fn write(&self, pid: u32, hand: Hand) -> io::Result<()> {
        let mut slot = [0; SLOT];
        let since = u64::try_from(hand.since.as_nanos()).expect("a time of this age");
        slot[..8].copy_from_slice(&since.to_ne_bytes());
        slot[8..10].copy_from_slice(&hand.port.to_ne_bytes());
        slot[10..12].copy_from_slice(&hand.faults.0.to_ne_bytes());
        self.0.write_all_at(&slot, place(pid))
    }

    /// The last word of `pid`, and its slot empty for the next with that pid.
    pub fn take(&self, pid: u32) -> io::Result<Hand> {
        let mut slot = [0; SLOT];
        match self.0.read_exact_at(&mut slot, place(pid)) {
            Ok(()) => {}
            // Nobody has written so far out.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Hand::default());
            }
            Err(error) => return Err(error),
        }
        self.write(pid, Hand::default())?;
        let half = |at: usize| u16::from_ne_bytes([slot[at], slot[at + 1]]);
        let since = u64::from_ne_bytes(slot[..8].try_into().expect("8 bytes"));
        Ok(Hand {
            port: half(8),
            since: Duration::from_nanos(since),
            faults: Faults(half(10)),
        })
    }
}

fn place(pid: u32) -> u64 {
    u64::from(pid) * SLOT as u64
}

/// A child's own slot.
#[derive(Debug)]
pub struct Own {
    hands: Hands,
    pid: u32,
    hand: Hand,
}

impl Own {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            hands: Hands::open(path)?,
            pid: std::process::id(),
            hand: Hand::default(),
        })
    }

    /// A connection has come.
    pub fn has(&mut self, port: u16) -> io::Result<()> {
        self.hand.port = port;
        self.hand.since = clock::now();
        self.store()
    }

    /// It asks for a fault; the faults before.
    pub fn suffers(&mut self, fault: Fault) -> io::Result<Faults> {
        let before = self.hand.faults;
        self.hand.faults = before.with(fault);
        self.store()?;
        Ok(before)
    }

    /// It has its answer.
    pub fn is_empty(&mut self) -> io::Result<()> {
        self.hand.port = 0;
        self.store()
    }

    fn store(&self) -> io::Result<()> {
        self.hands.write(self.pid, self.hand)
    }
}
