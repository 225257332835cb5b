//! The stacks of children that are over their time, or are looked at (feature `stacks`). A child's
//! handler leaves a copy of its stack in shared memory; a short-lived process, forked from the parent,
//! walks the copies and finds the names; the parent reads a pipe. Decides neither who is asked nor
//! when.

mod area;
mod handler;
mod modules;
mod reader;
mod unwind;

pub(crate) use self::handler::QUESTION;

use self::{area::StackArea, reader::StackReader};
use crate::{
    core::{
        child::ChildId,
        say::say,
        stack::{Frame, lines::ChildStack},
    },
    sys::{holder::HeldChild, poller::Poller, process},
};
use nix::libc;
use std::{io, mem};

/// A child that was asked, and whose answer was not read yet.
#[derive(Clone, Copy, Debug)]
struct AskedChild {
    child: ChildId,
    pid: u32,
}

/// The parent's view.
#[derive(Debug)]
pub(crate) struct Stacks {
    area: Option<StackArea>,
    /// The children that no reader has been sent for.
    asked: Vec<AskedChild>,
    /// There is one reader at a time: it reads the stacks of all who were asked meanwhile.
    reader: Option<StackReader>,
    /// The children whose stacks will not be read.
    unread: Vec<ChildId>,
    /// Readers that have ended and were not reaped.
    ended: Vec<libc::pid_t>,
    warned: bool,
}

impl Stacks {
    pub(crate) fn new(children: usize) -> Self {
        let area = match handler::can_copy() {
            true => StackArea::new(children),
            false => Err(io::Error::last_os_error()),
        };
        Self {
            area: area
                .inspect_err(|error| say!(Warn, "no stacks of children are collected: {error}"))
                .ok(),
            asked: Vec::new(),
            reader: None,
            unread: Vec::new(),
            ended: Vec::new(),
            warned: false,
        }
    }

    pub(crate) fn are_collected(&self) -> bool {
        self.area.is_some()
    }

    /// In a new child, while all signals are blocked.
    pub(crate) fn answer_from_now_on(&self, child: ChildId) -> io::Result<()> {
        match self.slot(child) {
            Some(slot) => handler::install(slot, child),
            None => Ok(()),
        }
    }

    fn slot(&self, child: ChildId) -> Option<area::StackSlot> {
        self.area.as_ref()?.slot(child)
    }

    /// Asks a child, which is a child of this process or of its holder. A reader is sent by
    /// [`begin_reading`](Self::begin_reading).
    pub(crate) fn ask(
        &mut self,
        child: ChildId,
        pid: u32,
        held_child: Option<&HeldChild>,
    ) -> io::Result<()> {
        let slot = self.slot(child).ok_or(io::ErrorKind::Unsupported)?;
        slot.ask(child.serial());
        ask_by_signal(pid, held_child)?;
        self.asked.push(AskedChild { child, pid });
        Ok(())
    }

    /// Logged once: what keeps one reader from starting is there for the next one, too.
    fn warn_of(&mut self, error: &io::Error) {
        if !mem::replace(&mut self.warned, true) {
            say!(Warn, "stacks of children cannot be read: {error}");
        }
    }

    /// Sends a reader if a child was asked and none is under way.
    pub(crate) fn begin_reading(&mut self, poller: &Poller) {
        let Some(area) = self.area.as_ref().filter(|_| self.reader.is_none()) else {
            return;
        };
        if self.asked.is_empty() {
            return;
        }
        let asked = mem::take(&mut self.asked);
        match StackReader::start(area, &asked) {
            Ok(reader) => {
                if let Err(error) = reader.watch(poller) {
                    log::debug!("the reader of stacks is not watched: {error}");
                }
                self.reader = Some(reader);
            }
            Err(error) => {
                self.warn_of(&error);
                self.unread.extend(asked.iter().map(|asked| asked.child));
            }
        }
    }

    /// What the reader has told since the last call, and an empty answer for each child of which it
    /// told nothing until its end.
    pub(crate) fn read(&mut self, poller: &Poller) -> Vec<(ChildId, Vec<Frame>)> {
        let mut answers = Vec::new();
        if let Some(reader) = &mut self.reader {
            let found = |child, told: ChildStack| answers.push((child, told.frames));
            if !reader.read(poller, found) {
                self.end_reader(poller);
            }
        }
        self.reap();
        answers.extend(self.unread.drain(..).map(|child| (child, Vec::new())));
        answers
    }

    fn end_reader(&mut self, poller: &Poller) {
        if let Some(reader) = self.reader.take() {
            let (pid, untold) = reader.end(poller);
            self.unread.extend(untold);
            self.ended.push(pid);
        }
    }

    /// Whether a child that has ended has left a copy.
    pub(crate) fn has_left(&self, child: ChildId) -> bool {
        let slot = self.slot(child);
        slot.is_some_and(|slot| slot.is_left_by(child.serial()))
    }

    pub(crate) fn clear(&mut self, child: ChildId) {
        if let Some(area) = &self.area {
            area.clear(child);
        }
    }

    /// Collects the readers that have ended.
    pub(crate) fn reap(&mut self) {
        self.ended.retain(|pid| !reader::is_reaped(*pid));
    }

    /// Ends a reader that is under way.
    pub(crate) fn close(&mut self, poller: &Poller) {
        self.asked.clear();
        if let Some(reader) = &self.reader {
            reader.kill();
        }
        self.end_reader(poller);
        for pid in self.ended.drain(..) {
            reader::await_end(pid);
        }
    }
}

/// Sends the question to a child alone, and not to its group.
fn ask_by_signal(pid: u32, held_child: Option<&HeldChild>) -> io::Result<()> {
    // OK because the pid comes from fork(2).
    let pid = pid as libc::pid_t;
    match (process::is_ours(pid)?, held_child) {
        (true, _) => process::signal_one(pid, libc::SIGURG),
        (false, Some(held_child)) => held_child.signal(pid, libc::SIGURG),
        (false, None) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}
