//! Outputs out of a newborn's way. A fork copies every descriptor that the parent holds, and the child
//! closes those for its siblings: in a large pool that is the greater part of a start. So while many
//! forks are due, the outputs of quiet children stand in lots, without numbers. Whoever touches one has
//! its lot fetched first, so nobody else needs to know.

use super::{Place, Stream, Wire, Wires};
use crate::core::child::ChildId;
use crate::sys::{
    fd_registry::Ours,
    limits,
    lot::{self, Lot},
    poller::Output,
};
use std::{
    io,
    ops::Range,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

/// How many forks have to be due. To park a descriptor and to fetch it takes about as long as it takes
/// seven children to close it, but the parent does it alone.
const FORKS: usize = 32;
/// How many descriptors are worth a lot.
const WORTH: usize = 32;
/// In a smaller table of descriptors nothing is parked: the newborns of a turn alone may take a quarter.
const SMALL: usize = 512;

/// A lot, and between which slots the children are whose outputs stand in it, in that order.
#[derive(Debug)]
struct Parked {
    lot: Lot,
    slots: Range<usize>,
}

/// How things stand with the numbers that descriptors need.
enum Room {
    Enough,
    Scarce,
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
        if forks < FORKS || self.lots.closed {
            return;
        }
        match self.park() {
            // What is parked needs numbers again. That there are none must come to light when a child is to be
            // forked, and not when those who are there come back.
            Ok(Room::Scarce) => self.fetch_all(),
            Ok(Room::Enough) => {}
            // The newborns close more, that is all.
            Err(error) => log::debug!("parking the outputs of children: {error}"),
        }
    }

    /// Brings everything back: no fork is due any more.
    pub(crate) fn fetch_all(&mut self) {
        for number in 0..self.lots.lots.len() {
            self.fetch(number);
        }
    }

    /// Whether an output of this child is lost.
    pub(crate) fn has_lost(&mut self, id: ChildId) -> bool {
        self.wire(id)
            .is_some_and(|wire| wire.lost().next().is_some())
    }

    fn park(&mut self) -> io::Result<Room> {
        let table = usize::try_from(limits::open_files()?).unwrap_or(usize::MAX);
        // A quarter is left for this turn's newborns, and for files that hooks open meanwhile.
        let most = (table - table / 4).saturating_sub(self.taken);
        if table < SMALL || lot::in_flight() >= most {
            return Ok(Room::Scarce);
        }
        let mut from = 0;
        while from < self.wires.len() {
            let to = self.gather(from);
            let count = self.lots.fds.len();
            if count < WORTH || lot::in_flight() + count > most {
                break;
            }
            let lot = Lot::send(&self.lots.fds)?;
            let slots = from..to;
            let number = self.lots.enter(Parked { lot, slots });
            let wires = self.wires[from..to].iter_mut().flatten();
            for wire in wires.filter(|wire| wire.is_quiet()) {
                wire.park(number);
            }
            from = to;
        }
        Ok(Room::Enough)
    }

    /// Notes the outputs of as many quiet children as one lot has room for, from that slot on; up to which
    /// slot that is.
    fn gather(&mut self, from: usize) -> usize {
        let fds = &mut self.lots.fds;
        fds.clear();
        for (slot, wire) in self.wires.iter().enumerate().skip(from) {
            if fds.len() + Output::ALL.len() > lot::ROOM {
                return slot;
            }
            let quiet = wire.iter().filter(|wire| wire.is_quiet());
            fds.extend(quiet.flat_map(Wire::outputs));
        }
        self.wires.len()
    }

    /// Gives the outputs of a lot numbers again.
    pub(super) fn fetch(&mut self, number: usize) {
        let Some(Parked { lot, slots }) = self.lots.take(number) else {
            return;
        };
        let received = lot.receive(&mut self.lots.fetched);
        self.taken += self.lots.fetched.len();
        let mut fetched = self.lots.fetched.drain(..);
        let before = self.unread.len();
        let wires = self.wires[slots].iter_mut().flatten();
        for wire in wires.filter(|wire| wire.place == Place::Lot(number)) {
            wire.unpark(&mut fetched);
            let id = wire.id;
            self.unread.extend(wire.lost().map(|output| (id, output)));
        }
        let lost = self.unread.len() - before;
        if lost > 0 {
            self.lots.closed = true;
            log::error!(
                "{lost} outputs of children are lost, no descriptors are left: {received:?}"
            );
        }
    }
}

impl Wire {
    /// Whether it has numbers, and nothing that is known to be there to read.
    fn is_quiet(&self) -> bool {
        let mut streams = self.streams.iter().flatten();
        streams.all(|stream| stream.fd.is_some() && !stream.unread)
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
