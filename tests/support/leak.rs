//! Whether the parent of a server holds descriptors that are no child's any more.
//!
//! It compares what it holds when it is told to stop with what it held when it had said where it
//! listens; what belongs to a child that is there now is left out of both. It changes nothing.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use super::processes::{self, Process};
use super::server::Server;
use super::wait::{pause, until};

/// For how long what has just died, or been forked, may be about.
const SOON: Duration = Duration::from_secs(10);

/// For how long it is waited for a process that runs to wait for something.
const AT_WORK: Duration = Duration::from_secs(2);

/// The pipes that a child may have left behind when it is dead and not reaped yet.
const PIPES: usize = 3;

/// What a program and its children share.
pub const BOARDS: [&str; 2] = ["memfd:prefork-board", "memfd:prefork-stops"];

/// What a process holds that no child of its accounts for.
#[derive(Debug)]
struct Holdings {
    /// Descriptors that are neither a pidfd nor the end at which it reads what a child writes.
    own: Vec<(i32, String)>,
    pidfds: usize,
    children: usize,
    dead: usize,
}

impl Holdings {
    fn of(pid: u32) -> Self {
        // Before the children: one that comes in between accounts for nothing that is here.
        let held = processes::descriptors(pid);
        let children = processes::children(pid);
        let theirs: HashSet<String> = children
            .iter()
            .flat_map(|child| pipes_to_write(child.pid))
            .collect();
        let ends = |pipe: &str| held.iter().filter(|(_, target)| target == pipe).count();
        // A pipe of which it has both ends is its own, or that of a child that is being made.
        let read_from_a_child = |number: i32, target: &str| {
            number > 2
                && theirs.contains(target)
                && ends(target) == 1
                && processes::is_read_only(pid, number)
        };
        let (pidfds, rest): (Vec<_>, Vec<_>) = held
            .iter()
            .cloned()
            .partition(|(_, target)| target.contains("pidfd"));
        let own = rest
            .into_iter()
            .filter(|(number, target)| !read_from_a_child(*number, target));
        // Children that have outlived an upgrade have boards of their own, each program's children two.
        let mut seen = BTreeSet::new();
        let own = own.filter(|(_, target)| {
            let board = BOARDS.iter().find(|board| target.contains(**board));
            board.is_none_or(|board| seen.insert(*board))
        });
        Self {
            own: own.collect(),
            pidfds: pidfds.len(),
            children: children.len(),
            dead: children.iter().filter(|child| !child.is_alive()).count(),
        }
    }

    fn exceeds(&self, own: usize) -> bool {
        self.pidfds > self.children || self.own.len() > own + PIPES * self.dead
    }
}

/// The pipes that a process has open for writing.
fn pipes_to_write(pid: u32) -> Vec<String> {
    let held = processes::descriptors(pid).into_iter();
    let written = held.filter(|(number, target)| {
        target.starts_with("pipe:") && !processes::is_read_only(pid, *number)
    });
    written.map(|(_, target)| target).collect()
}

/// How many descriptors it holds that are no child's, once it waits: one that runs may be about to make
/// more, as on the way from its first words to its first turn.
pub(super) fn own_descriptors(pid: u32) -> usize {
    let began = Instant::now();
    while began.elapsed() < AT_WORK && is_at_work(pid) {
        pause(Duration::from_millis(1));
    }
    Holdings::of(pid).own.len()
}

fn is_at_work(pid: u32) -> bool {
    Process::read(pid).is_some_and(|process| "RD".contains(process.state))
}

/// Panics if it goes on holding more than `before` of its own, or a pidfd that is no child's.
#[track_caller]
pub(super) fn expect_none(server: &Server, before: usize) {
    let pid = server.pid();
    let what = format!("{server} to hold no more than {before} descriptors of its own");
    until(&what, SOON, || {
        let holdings = Holdings::of(pid);
        // A parent that stands still cannot close them; one that has ended, has.
        let idle = Process::read(pid).is_none_or(|process| "TtZX".contains(process.state));
        (idle || !holdings.exceeds(before)).then_some(())
    });
}
