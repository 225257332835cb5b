//! The lives of the children, as the server's journal tells them, kept up to date while it grows.
//!
//! It never looks at a process: what is not in the journal has not happened.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::fault::Faults;
use super::hands::Hand;

/// One child.
#[derive(Clone, Debug)]
pub struct Life {
    pub pid: u32,
    pub forked: Duration,
    /// When its first word came.
    pub up: Option<Duration>,
    pub exit: Option<Exit>,
}

/// The end of one.
#[derive(Clone, Debug)]
pub struct Exit {
    pub at: Duration,
    pub cause: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub hand: Hand,
}

/// All of them, in the order of their forks.
#[derive(Debug)]
pub struct Book {
    journal: File,
    /// What was read and is no whole line yet.
    tail: Vec<u8>,
    pub lives: Vec<Life>,
    /// Where in `lives` the living are, by pid.
    living: BTreeMap<u32, usize>,
    /// The lives that ended, in that order.
    pub ends: Vec<usize>,
    /// How often the server saw more children than it may have.
    pub over: usize,
}

impl Book {
    pub fn open(path: &Path) -> Self {
        let mut options = File::options();
        let journal = options.create(true).append(true).read(true).open(path);
        Self {
            journal: journal.expect("a journal to read"),
            tail: Vec::new(),
            lives: Vec::new(),
            living: BTreeMap::new(),
            ends: Vec::new(),
            over: 0,
        }
    }

    /// Reads what has been written since.
    pub fn update(&mut self) {
        let read = self.journal.read_to_end(&mut self.tail);
        read.expect("the journal to be readable");
        let Some(end) = self.tail.iter().rposition(|&byte| byte == b'\n') else {
            return;
        };
        let lines: Vec<u8> = self.tail.drain(..=end).collect();
        let lines = String::from_utf8(lines).expect("a journal in letters");
        for line in lines.lines() {
            self.enter(line)
                .unwrap_or_else(|| panic!("a journal without the line {line:?}"));
        }
    }

    /// The pids of those that live.
    pub fn living(&self) -> Vec<u32> {
        self.living.keys().copied().collect()
    }

    /// How many live and have said their first word, of those forked as the `from`th or later.
    pub fn up_since(&self, from: usize) -> usize {
        let lives = self.living.values().filter(|&&at| at >= from);
        lives.filter(|&&at| self.lives[at].up.is_some()).count()
    }

    fn enter(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let at = Duration::from_nanos(words.next()?.parse().ok()?);
        let event = words.next()?;
        let pid: u32 = words.next()?.parse().ok()?;
        match event {
            "forked" => {
                self.living.insert(pid, self.lives.len());
                self.lives.push(Life {
                    pid,
                    forked: at,
                    up: None,
                    exit: None,
                });
            }
            "up" => self.lives[*self.living.get(&pid)?].up = Some(at),
            "exited" => {
                let index = self.living.remove(&pid)?;
                let cause = words.next()?.to_owned();
                let (code, signal) = (words.next()?.parse().ok(), words.next()?.parse().ok());
                let hand = Hand {
                    port: words.next()?.parse().ok()?,
                    since: Duration::from_nanos(words.next()?.parse().ok()?),
                    faults: Faults(words.next()?.parse().ok()?),
                };
                self.lives[index].exit = Some(Exit {
                    at,
                    cause,
                    code,
                    signal,
                    hand,
                });
                self.ends.push(index);
            }
            // The number is no pid.
            "over" => self.over += 1,
            _ => return None,
        }
        Some(())
    }
}

/// How many ended for each cause.
pub fn by_cause(book: &Book) -> HashMap<&str, u64> {
    let mut counts = HashMap::new();
    for exit in book.lives.iter().filter_map(|life| life.exit.as_ref()) {
        *counts.entry(exit.cause.as_str()).or_default() += 1;
    }
    counts
}
