//! Reads what children say, from their pipes and from the board. Each pipe gets at most its budget
//! in a turn; the rest is read in the next turn.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{
        child::{ChildFlags, ChildId},
        error::Operation,
        inbox::Contact,
        system::{ChildPipe, EventSource, PipeRead, Ready, Wait},
        wire::{Output, Word},
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::io;

/// How much one turn reads from one output at most, so that a child that floods does not keep the
/// parent from the others.
const BUDGET: usize = 64 * 1024;
/// How many tasks may wait, and how many lines may be passed on, before reading stops in this turn.
/// A line of a child's output may be a single byte, and makes a task.
const ENOUGH: usize = 16 * 1024;

/// What is left to read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Pipes that are known to be readable: the edge-triggered poller will not report them again.
    unread: Vec<(ChildId, ChildPipe)>,
    /// Whether the board must be compared again, since a pipe may hold an older word.
    board_again: bool,
    /// How many items were passed on in this turn.
    pub(super) delivered: usize,
    buffer: Vec<u8>,
}

impl Reading {
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The pipes may hold words that are older than what is noted: the next turn compares.
    #[cfg(all(feature = "holder", target_os = "linux"))]
    pub(super) fn compare_board(&mut self) {
        self.board_again = true;
    }
}

/// The result of reading a pipe.
#[derive(Debug)]
enum ReadProgress {
    /// Everything in the pipe has been read.
    Drained,
    /// The budget is used up, and the pipe may hold more.
    More,
    /// The output has ended.
    Ended,
    Failed(io::Error),
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Reads from ready pipes. Stops when the queue or the turn would become too long; the rest is
    /// left for the next turn.
    pub(super) fn read(&mut self, ready: &[Ready]) {
        for event in ready {
            if let EventSource::Pipe(told, pipe) = event.source
                && let Some(child) = self.parent.monitor.pool.find(told)
            {
                self.set_unread(child, pipe, event.hung_up);
            }
        }
        let due = std::mem::take(&mut self.reading.unread);
        for &(child, _) in &due {
            self.parent.monitor.set_unread(child, false);
        }
        self.reading.delivered = 0;
        for (index, &(child, pipe)) in due.iter().enumerate() {
            if index > 0 && self.has_read_enough() {
                self.reading
                    .unread
                    .splice(0..0, due[index..].iter().copied());
                break;
            }
            self.read_pipe(child, pipe);
        }
        for &(child, _) in &self.reading.unread {
            self.parent.monitor.set_unread(child, true);
        }
    }

    fn has_read_enough(&self) -> bool {
        self.parent.monitor.queue.len().max(self.reading.delivered) >= ENOUGH
    }

    /// Notes that a pipe is readable.
    pub(super) fn set_unread(&mut self, child: ChildId, pipe: ChildPipe, hung_up: bool) {
        if let Some(contact) = self.parent.monitor.pool.contact_mut(child)
            && contact.inbox.set_unread(pipe, hung_up)
        {
            self.reading.unread.push((child, pipe));
        }
    }

    /// Runs `with` while the contact of a child is out of the pool, because the hooks use the pool
    /// meanwhile.
    fn in_contact<R>(
        &mut self,
        child: ChildId,
        with: impl FnOnce(&mut Self, &mut Contact) -> R,
    ) -> Option<R> {
        let mut contact = self.parent.monitor.pool.take_contact(child)?;
        let result = with(self, &mut contact);
        self.parent.monitor.pool.give_back(child, contact);
        Some(result)
    }

    fn read_pipe(&mut self, child: ChildId, pipe: ChildPipe) {
        let progress = self.in_contact(child, |this, contact| {
            let progress = this.read_some(child, contact, pipe);
            if matches!(progress, ReadProgress::Ended) {
                contact
                    .inbox
                    .end_line(pipe, |found| this.deliver(child, pipe, found));
            }
            if matches!(progress, ReadProgress::Ended | ReadProgress::Failed(_)) {
                contact.close(pipe);
            }
            (progress, contact.is_dead())
        });
        match progress {
            Some((ReadProgress::More, _)) => self.set_unread(child, pipe, false),
            // The end of the child's record implies that its outputs have ended.
            Some((ReadProgress::Ended | ReadProgress::Failed(_), true)) => {
                self.finish_if_read(child)
            }
            Some((ReadProgress::Ended, false)) => self.output_ended(child, pipe),
            Some((ReadProgress::Failed(error), false)) => {
                self.run_error_of(Operation::Read, &error, child);
                self.output_ended(child, pipe);
            }
            Some((ReadProgress::Drained, _)) | None => {}
        }
    }

    /// Reads from one pipe within the budget of a turn. For a dead child it reads only what the
    /// pipe held when the child was reaped: a grandchild may hold the pipe and write forever.
    fn read_some(
        &mut self,
        child: ChildId,
        contact: &mut Contact,
        pipe: ChildPipe,
    ) -> ReadProgress {
        let Some(hung_up) = contact.inbox.take_unread(pipe) else {
            return ReadProgress::Drained;
        };
        let mut buffer = std::mem::take(&mut self.reading.buffer);
        buffer.resize(BUDGET, 0);
        let mut left = BUDGET.min(contact.allowance(pipe));
        let progress = loop {
            if left == 0 {
                break match contact.allowance(pipe) {
                    0 => ReadProgress::Ended,
                    _ => ReadProgress::More,
                };
            }
            match contact.process.read(pipe, &mut buffer[..left]) {
                Ok(PipeRead::Bytes(count)) => {
                    let bytes = &buffer[..count];
                    contact
                        .inbox
                        .feed(pipe, bytes, |found| self.deliver(child, pipe, found));
                    contact.spend(pipe, count);
                    // A short read has emptied the pipe, and the poller will report new bytes, but
                    // it will not repeat an end that it has already reported.
                    if count < left && !hung_up && !contact.is_dead() {
                        break ReadProgress::Drained;
                    }
                    left -= count;
                }
                Ok(PipeRead::Nothing) if contact.is_dead() => break ReadProgress::Ended,
                Ok(PipeRead::Nothing) => break ReadProgress::Drained,
                Ok(PipeRead::End) => break ReadProgress::Ended,
                Err(error) => break ReadProgress::Failed(error),
            }
        };
        self.reading.buffer = buffer;
        progress
    }

    /// Compares what children have noted while the parent would look. A child prints before it
    /// notes a later state, so the pipes come first. If a pipe was not read to its end, it may hold
    /// an older word, so the board is compared again after more has been read.
    pub(super) fn look_at_board(&mut self, wait: Wait) {
        if !matches!(wait, Wait::ForWords(_)) && !self.reading.board_again {
            return;
        }
        self.reading.board_again = self.reading.has_unread();
        let (pool, system) = (&self.parent.monitor.pool, &self.parent.system);
        let changed: Vec<_> = pool
            .inboxes()
            .filter(|(id, inbox)| inbox.is_to_be_compared(system.noted(id.slot())))
            .map(|(id, _)| id)
            .collect();
        changed.into_iter().for_each(|child| self.hear_board(child));
    }

    /// Compares what one child has noted.
    pub(super) fn hear_board(&mut self, child: ChildId) {
        let Some(believed) = self.parent.monitor.is_busy(child) else {
            return;
        };
        let entry = self.parent.system.noted(child.slot());
        let Some(contact) = self.parent.monitor.pool.contact_mut(child) else {
            return;
        };
        let changes = contact.inbox.compare(entry, believed);
        for &word in changes {
            self.deliver(child, ChildPipe::Stdout, Output::Word(word));
        }
        // After the changes, because the rest of the line may contain a newer word.
        if changes.last() == Some(&Word::NotBusy) {
            self.end_line(child);
        }
    }

    /// Ends the line that a handler has left unfinished, as a printed word does. The rest of that
    /// line is read first: the handler has printed all of it by now.
    fn end_line(&mut self, child: ChildId) {
        if !self.is_unfinished(child) {
            return;
        }
        self.read_pipe(child, ChildPipe::Stdout);
        if self.is_unfinished(child) {
            self.in_contact(child, |this, contact| {
                let found = |found: Output<'_>| this.deliver(child, ChildPipe::Stdout, found);
                contact.inbox.end_line(ChildPipe::Stdout, found);
            });
        }
    }

    fn is_unfinished(&mut self, child: ChildId) -> bool {
        let contact = self.parent.monitor.pool.contact_mut(child);
        contact.is_some_and(|contact| contact.inbox.is_unfinished(ChildPipe::Stdout))
    }

    fn output_ended(&mut self, child: ChildId, pipe: ChildPipe) {
        let flag = match pipe {
            ChildPipe::Stdout => ChildFlags::STDOUT_OPEN,
            ChildPipe::Stderr => ChildFlags::STDERR_OPEN,
            ChildPipe::Comm => return,
        };
        if self.parent.monitor.output_ended(child, flag) {
            self.call_server_closed(child);
        }
    }
}
