//! Outputs out of a newborn's way. A fork copies every descriptor that the parent holds, and the child
//! closes those for its siblings: in a large pool that is most of what a start costs. So while many
//! forks are due, the outputs of quiet children stand in lots, without numbers. Whoever touches one has
//! its lot fetched first, so nobody else needs to know.

use super::{Place, Stream, Wire, Wires};
use crate::os::{
    limits,
    lot::{self, Lot},
    ours::Ours,
    poller::Output,
};
use std::{
    io,
    ops::Range,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

/// How many forks have to be due: to park a descriptor and to fetch it takes about as long as it takes
/// seven children to close it.
const FORKS: usize = 16;
/// How many descriptors are worth a lot.
const WORTH: usize = 32;

/// A lot, and between which slots the children are whose outputs stand in it, in that order.
#[derive(Debug)]
struct Parked {
    lot: Lot,
    slots: Range<usize>,
}

/// The lots, by number. The lists are kept: what is allocated and freed between two forks is what a
/// newborn's own allocations step on, and each step is a page that it copies.
#[derive(Debug, Default)]
pub(super) struct Lots {
    lots: Vec<Option<Parked>>,
    /// Something was lost that had been parked: nothing is any more.
    closed: bool,
    fds: Vec<RawFd>,
    fetched: Vec<OwnedFd>,
}

impl Lots {
    fn enter(&mut self, parked: Parked) -> usize {
        let free = self.lots.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            self.lots.push(None);
            self.lots.len() - 1
        });
        self.lots[number] = Some(parked);
        number
    }

    fn take(&mut self, number: usize) -> Option<Parked> {
        self.lots.get_mut(number)?.take()
    }
}

impl Wires {
    /// Told that so many forks are due: parks what it can, if it is worth it.
    pub(crate) fn make_way(&mut self, forks: usize) {
        if forks >= FORKS
            && !self.lots.closed
            && let Err(error) = self.park()
        {
            // The newborns close more, that is all.
            log::debug!("parking the outputs of children: {error}");
        }
    }

    /// Brings everything back: no fork is due any more.
    pub(crate) fn fetch_all(&mut self) {
        for number in 0..self.lots.lots.len() {
            self.fetch(number);
        }
    }

    fn park(&mut self) -> io::Result<()> {
        // Hooks that run meanwhile may open files. What stands in the lower half of the table will find
        // room again, though they open as many as there are.
        let half = RawFd::try_from(limits::open_files()? / 2).unwrap_or(RawFd::MAX);
        let mut from = 0;
        while from < self.wires.len() {
            let to = self.gather(from, half);
            if self.lots.fds.len() < WORTH {
                return Ok(());
            }
            let lot = Lot::send(&self.lots.fds)?;
            let slots = from..to;
            let number = self.lots.enter(Parked { lot, slots });
            let wires = self.wires[from..to].iter_mut().flatten();
            for wire in wires.filter(|wire| wire.can_be_parked(half)) {
                wire.park(number);
            }
            from = to;
        }
        Ok(())
    }

    /// Notes the outputs of as many children as one lot has room for, from that slot on; up to which
    /// slot that is.
    fn gather(&mut self, from: usize, half: RawFd) -> usize {
        let fds = &mut self.lots.fds;
        fds.clear();
        for (slot, wire) in self.wires.iter().enumerate().skip(from) {
            if fds.len() + Output::ALL.len() > lot::ROOM {
                return slot;
            }
            let wire = wire.as_ref().filter(|wire| wire.can_be_parked(half));
            fds.extend(wire.into_iter().flat_map(Wire::outputs));
        }
        self.wires.len()
    }

    /// Gives the outputs of a lot numbers again.
    pub(super) fn fetch(&mut self, number: usize) {
        let Some(Parked { lot, slots }) = self.lots.take(number) else {
            return;
        };
        if let Err(error) = lot.receive(&mut self.lots.fetched) {
            log::error!("fetching the outputs of children: {error}");
        }
        let mut fetched = self.lots.fetched.drain(..);
        let wires = self.wires[slots].iter_mut().flatten();
        for wire in wires.filter(|wire| wire.place == Place::Lot(number)) {
            wire.unpark(&mut fetched);
            for output in wire.lost() {
                log::error!("no descriptor is left for {output:?} of {}", wire.id);
                self.lots.closed = true;
                self.unread.push((wire.id, output));
            }
        }
    }
}

impl Wire {
    fn can_be_parked(&self, half: RawFd) -> bool {
        !matches!(self.place, Place::Lot(_)) && self.outputs().all(|fd| fd < half)
    }

    /// The numbers of the outputs that have one.
    fn outputs(&self) -> impl Iterator<Item = RawFd> {
        let streams = self.streams.iter().flatten();
        streams.filter_map(|stream| Some(stream.fd.as_ref()?.as_raw_fd()))
    }

    fn park(&mut self, lot: usize) {
        self.place = Place::Lot(lot);
        for stream in self.streams.iter_mut().flatten() {
            stream.fd = None;
        }
    }

    fn unpark(&mut self, received: &mut impl Iterator<Item = OwnedFd>) {
        self.place = Place::Moved;
        for stream in self.streams.iter_mut().flatten() {
            stream.fd = received.next().map(Ours::parents);
            stream.unread |= stream.fd.is_none();
        }
    }

    /// The outputs for which nothing was received.
    fn lost(&self) -> impl Iterator<Item = Output> {
        let outputs = Output::ALL.into_iter().zip(&self.streams);
        let lost =
            |stream: &Option<Stream>| stream.as_ref().is_some_and(|stream| stream.fd.is_none());
        outputs.filter_map(move |(output, stream)| lost(stream).then_some(output))
    }
}
