//! The killer: hits a random child every so often, with what the menu has next.
//!
//! It never hits a process that is not in the server's journal as a living child, and writes down
//! each blow before it is struck.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::book::Book;
use super::clock;
use super::dice::Dice;
use super::fault::{Fault, Menu};
use super::load::Load;
use crate::support::{Server, pause};

/// One signal from outside.
#[derive(Clone, Copy, Debug)]
pub struct Blow {
    pub at: Duration,
    pub pid: u32,
    pub fault: Fault,
}

/// Whom and how.
#[derive(Debug)]
pub struct Killer<'a> {
    pub server: &'a Server,
    pub book: &'a mut Book,
    pub dice: &'a mut Dice,
    pub menu: &'a mut Menu,
    pub blows: Vec<Blow>,
    /// The most children that were ever seen at once.
    pub most: usize,
}

impl Killer<'_> {
    /// Strikes every `every`, for as long as `period`. What a client must ask for, the next one
    /// that comes does.
    pub fn rage(&mut self, load: &Load, every: Duration, period: Duration) {
        let start = clock::now();
        let mut next = start;
        while next - start < period {
            next += every;
            pause_until(next);
            self.book.update();
            let fault = self.menu.next(self.dice);
            match fault.signal() {
                None => load.ask_for(fault),
                Some(_) => self.strike_anyone(fault),
            }
            self.most = self.most.max(children_at_once(self.server.pid()));
        }
    }

    fn strike_anyone(&mut self, fault: Fault) {
        let living = self.book.living();
        if !living.is_empty() {
            let index = self.dice.below(living.len() as u64);
            self.strike(living[index as usize], fault);
        }
    }

    /// Strikes one child, if it is still there.
    pub fn strike(&mut self, pid: u32, fault: Fault) {
        let signal = fault.signal().expect("a fault from outside");
        let at = clock::now();
        match kill(Pid::from_raw(pid.cast_signed()), signal) {
            Ok(()) => self.blows.push(Blow { at, pid, fault }),
            // Reaped since the journal was read.
            Err(Errno::ESRCH) => {}
            Err(error) => panic!("{signal} for {pid}: {error}"),
        }
    }
}

/// Does nothing until that moment.
pub fn pause_until(moment: Duration) {
    loop {
        let left = moment.saturating_sub(clock::now());
        if left.is_zero() {
            return;
        }
        // To the millisecond above: the killer is no metronome.
        pause(left.max(Duration::from_millis(1)));
    }
}

/// How many children, zombies among them, `pid` had in one instant, for certain: those that are
/// there at two looks were there in between.
pub fn children_at_once(pid: u32) -> usize {
    let look = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let (first, second) = (look().unwrap_or_default(), look().unwrap_or_default());
    let first: Vec<&str> = first.split_whitespace().collect();
    let both = second.split_whitespace().filter(|pid| first.contains(pid));
    both.count()
}
