//! The parent's descriptors of each child: its outputs, its pidfd. Reads, cuts into lines, signals
//! and reaps; judges nothing.

mod parking;

use self::parking::Lots;

use super::{
    fd_registry::Ours,
    pidfd::{self, Reaped},
    pipes::{self, ParentEnds},
    poller::{Output, Poller, Source, same_generation},
};
use crate::core::{
    child::{ChildId, Signal},
    wire::{CommWords, Framer, Output as Found},
};
use mio::Interest;
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// What one turn reads of one output at the most, so that a child that floods does not keep the
/// parent from the others.
const BUDGET: usize = 64 * 1024;

/// How many children have a pidfd, which tells of their end alone and without delay. In a larger
/// pool the others are found through SIGCHLD: every descriptor that the parent holds for a child must
/// be closed in each child that is forked later.
const PIDFDS: usize = 32;

fn open_pidfd(pid: u32) -> Option<Ours<OwnedFd>> {
    match pidfd::open(pid) {
        Ok(pidfd) => Some(Ours::parents(pidfd)),
        Err(error) => {
            log::debug!("no pidfd for child {pid}: {error}");
            None
        }
    }
}

/// One output with its framer.
#[derive(Debug)]
struct Stream {
    /// `None` while it stands in a lot, and when it is lost.
    fd: Option<Ours<OwnedFd>>,
    framer: Framer,
    hung_up: bool,
    unread: bool,
}

/// Where the outputs of one child are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// Under the numbers by which the poller watches them.
    First,
    /// In the lot of that number.
    Lot(usize),
    /// Under other numbers. The poller watches them all the same, as long as somebody has them open.
    Moved,
}

/// Everything the parent holds of one child.
#[derive(Debug)]
struct Wire {
    id: ChildId,
    pid: u32,
    streams: [Option<Stream>; 3],
    place: Place,
    pidfd: Option<Ours<OwnedFd>>,
}

impl Wire {
    fn watch(&self, poller: &Poller) -> io::Result<()> {
        let (slot, generation) = (self.id.slot(), self.id.generation());
        for output in Output::ALL {
            if let Some(stream) = &self.streams[output as usize]
                && let Some(fd) = &stream.fd
            {
                let source = Source::Output {
                    slot,
                    generation,
                    output,
                };
                poller.add_output(fd.as_raw_fd(), source)?;
            }
        }
        match &self.pidfd {
            Some(pidfd) => {
                let source = Source::Death { slot, generation };
                poller.add_urgent(pidfd.as_raw_fd(), source, Interest::READABLE)
            }
            None => Ok(()),
        }
    }
}

/// How far reading an output has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// All that was there has been read.
    Drained,
    /// The budget is used up, and there may be more.
    More,
    /// It has ended.
    Ended,
    /// It is lost: there was no room for its descriptor.
    Lost,
}

/// The wires of all children, by slot.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    wires: Vec<Option<Wire>>,
    /// Outputs that are known to have something to read: the poller is edge-triggered and will not
    /// say it again.
    unread: Vec<(ChildId, Output)>,
    buffer: Vec<u8>,
    lots: Lots,
    /// How many numbers of the process's table are taken, or so: they are given out from the lowest that is
    /// free, so it is the highest of the last child's, and those that were fetched since.
    taken: usize,
}

impl Wires {
    /// Enters a child that was just forked and has the poller watch it. It is entered even if that
    /// fails; its death must be looked for by hand then, as for want of a pidfd.
    pub(crate) fn insert(
        &mut self,
        poller: &Poller,
        id: ChildId,
        pid: u32,
        ends: ParentEnds,
        words: CommWords,
    ) -> io::Result<()> {
        let stdout_words = ends.comm.is_none().then_some(words);
        let stream = |fd, words| {
            Some(Stream {
                fd: Some(fd),
                framer: Framer::new(words),
                hung_up: false,
                unread: false,
            })
        };
        let streams = [
            stream(ends.stdout, stdout_words),
            stream(ends.stderr, None),
            ends.comm.and_then(|fd| stream(fd, Some(words))),
        ];
        let numbers = streams
            .iter()
            .flatten()
            .filter_map(|stream| stream.fd.as_ref());
        let highest = numbers.map(|fd| fd.as_raw_fd()).max();
        let highest = highest.and_then(|fd| usize::try_from(fd).ok());
        self.taken = highest.unwrap_or(self.taken);
        let mut wire = Wire {
            id,
            pid,
            streams,
            place: Place::First,
            pidfd: (id.slot() < PIDFDS).then(|| open_pidfd(pid)).flatten(),
        };
        let watched = wire.watch(poller);
        if watched.is_err() {
            wire.pidfd = None;
        }
        if self.wires.len() <= id.slot() {
            self.wires.resize_with(id.slot() + 1, || None);
        }
        self.wires[id.slot()] = Some(wire);
        watched
    }

    /// The child in that slot, if it is of that generation.
    pub(crate) fn find(&self, slot: usize, generation: u32) -> Option<ChildId> {
        let wire = self.wires.get(slot)?.as_ref()?;
        same_generation(generation, wire.id.generation()).then_some(wire.id)
    }

    /// Whether nothing will say so when this child ends, but SIGCHLD.
    pub(crate) fn lacks_pidfd(&self, id: ChildId) -> bool {
        self.wires
            .get(id.slot())
            .and_then(Option::as_ref)
            .is_some_and(|wire| wire.id == id && wire.pidfd.is_none())
    }

    /// The children that have no pidfd.
    pub(crate) fn without_pidfd(&self) -> Vec<ChildId> {
        let wires = self.wires.iter().flatten();
        wires
            .filter(|wire| wire.pidfd.is_none())
            .map(|wire| wire.id)
            .collect()
    }

    /// Notes that an output has become readable.
    pub(crate) fn set_unread(&mut self, id: ChildId, output: Output, hung_up: bool) {
        let Some(stream) = self.stream(id, output) else {
            return;
        };
        stream.hung_up |= hung_up;
        if !std::mem::replace(&mut stream.unread, true) {
            self.unread.push((id, output));
        }
    }

    /// Takes the list of outputs to read now.
    pub(crate) fn take_unread(&mut self) -> Vec<(ChildId, Output)> {
        std::mem::take(&mut self.unread)
    }

    /// Takes outputs back that were not read after all: they come first in the next turn.
    pub(crate) fn put_back(&mut self, unread: &[(ChildId, Output)]) {
        self.unread.splice(0..0, unread.iter().copied());
    }

    /// The outputs that still have something to read.
    pub(crate) fn unread(&self) -> &[(ChildId, Output)] {
        &self.unread
    }

    /// Reads of one output what the budget of a turn allows, and hands on what it found.
    pub(crate) fn read(
        &mut self,
        id: ChildId,
        output: Output,
        found: impl FnMut(Found<'_>),
    ) -> io::Result<Progress> {
        let mut buffer = self.take_buffer();
        let progress = match self.stream(id, output) {
            Some(stream) => {
                stream.unread = false;
                stream.read(&mut buffer, BUDGET, found)
            }
            None => Ok(Progress::Drained),
        };
        self.buffer = buffer;
        if matches!(progress, Ok(Progress::More)) {
            self.set_unread(id, output, false);
        }
        progress
    }

    /// Reads what stands in an output of a reaped child, and no more: a grandchild may hold the
    /// pipe and write for ever. What is left unterminated is handed on as well.
    pub(crate) fn drain(
        &mut self,
        id: ChildId,
        output: Output,
        mut found: impl FnMut(Found<'_>),
    ) -> io::Result<()> {
        let mut buffer = self.take_buffer();
        let result = self.stream(id, output).map_or(Ok(()), |stream| {
            let pending = stream.fd.as_deref().map_or(Ok(0), pipes::pending);
            let result = pending.and_then(|pending| stream.read(&mut buffer, pending, &mut found));
            stream.framer.finish(&mut found);
            result.map(drop)
        });
        self.buffer = buffer;
        result
    }

    /// Whether an output that carries words has been read to its end, and that was in the midst of a line.
    pub(crate) fn is_unfinished(&mut self, id: ChildId, output: Output) -> bool {
        self.stream(id, output)
            .is_some_and(|stream| !stream.unread && stream.framer.is_unfinished())
    }

    /// Hands on a line that was left unfinished.
    pub(crate) fn end_line(&mut self, id: ChildId, output: Output, found: impl FnMut(Found<'_>)) {
        if let Some(stream) = self.stream(id, output) {
            stream.framer.finish(found);
        }
    }

    /// Hands on what an output that has ended has left, and closes it.
    pub(crate) fn finish(
        &mut self,
        poller: &Poller,
        id: ChildId,
        output: Output,
        found: impl FnMut(Found<'_>),
    ) {
        if let Some(stream) = self.stream(id, output) {
            stream.framer.finish(found);
        }
        self.close(poller, id, output);
    }

    /// Closes one output.
    pub(crate) fn close(&mut self, poller: &Poller, id: ChildId, output: Output) {
        let stream = self
            .wire(id)
            .and_then(|wire| wire.streams[output as usize].take());
        let Some(fd) = stream.and_then(|stream| stream.fd) else {
            return;
        };
        if self.wire(id).is_some_and(|wire| wire.place == Place::First) {
            deregistered(id, poller.remove_output(fd.as_raw_fd()));
        }
    }

    /// Lets go of a child that has been reaped.
    pub(crate) fn remove(&mut self, poller: &Poller, id: ChildId) {
        for output in Output::ALL {
            self.close(poller, id, output);
        }
        let wire = self
            .wire(id)
            .is_some()
            .then(|| self.wires[id.slot()].take())
            .flatten();
        if let Some(pidfd) = wire.and_then(|wire| wire.pidfd) {
            deregistered(id, poller.remove_urgent(pidfd.as_raw_fd()));
        }
    }

    /// Sends a signal.
    pub(crate) fn kill(&self, id: ChildId, signal: Signal) -> io::Result<()> {
        let Some(wire) = self.wires.get(id.slot()).and_then(Option::as_ref) else {
            return Ok(());
        };
        if wire.id != id {
            return Ok(());
        }
        pidfd::kill(wire.pidfd.as_deref(), wire.pid, signal)
    }

    /// Collects the status of a child if it has ended.
    pub(crate) fn reap(&self, id: ChildId) -> io::Result<Reaped> {
        match self.wires.get(id.slot()).and_then(Option::as_ref) {
            Some(wire) if wire.id == id => pidfd::reap(wire.pid),
            _ => Ok(Reaped::Not),
        }
    }

    /// All children.
    pub(crate) fn ids(&self) -> Vec<ChildId> {
        self.wires.iter().flatten().map(|wire| wire.id).collect()
    }

    fn wire(&mut self, id: ChildId) -> Option<&mut Wire> {
        let wire = self.wires.get(id.slot())?.as_ref();
        if let Place::Lot(number) = wire.filter(|wire| wire.id == id)?.place {
            self.fetch(number);
        }
        self.wires[id.slot()].as_mut()
    }

    fn stream(&mut self, id: ChildId, output: Output) -> Option<&mut Stream> {
        self.wire(id)?.streams[output as usize].as_mut()
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUDGET, 0);
        buffer
    }
}

impl Stream {
    fn read(
        &mut self,
        buffer: &mut [u8],
        budget: usize,
        mut found: impl FnMut(Found<'_>),
    ) -> io::Result<Progress> {
        let Some(fd) = &self.fd else {
            return Ok(Progress::Lost);
        };
        let mut left = budget;
        while left > 0 {
            let room = left.min(buffer.len());
            let Some(count) = pipes::read(fd, &mut buffer[..room])? else {
                return Ok(Progress::Drained);
            };
            if count == 0 {
                return Ok(Progress::Ended);
            }
            self.framer.feed(&buffer[..count], &mut found);
            left -= count;
            // A short read has emptied the pipe, and the poller will tell of more; but not of an
            // end that it has told of already.
            if count < room && !self.hung_up {
                return Ok(Progress::Drained);
            }
        }
        Ok(Progress::More)
    }
}

fn deregistered(id: ChildId, result: io::Result<()>) {
    if let Err(error) = result {
        log::debug!("deregistering an output of {id}: {error}");
    }
}
