//! Outputs out of a newborn's way. A fork copies every descriptor that the parent holds, and the child
//! closes those for its siblings: in a large pool that is most of what a start costs. So while many
//! forks are due, the outputs of quiet children stand in lots, without numbers. Whoever touches one has
//! its lot fetched first, so nobody else needs to know.

use super::{Place, Wire, Wires};
use crate::os::{
    limits,
    lot::{self, Lot},
    ours::Ours,
    poller::Output,
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

/// How many forks have to be due: to park a descriptor and to fetch it takes about as long as it takes
/// seven children to close it.
const FORKS: usize = 16;
/// How many children's outputs one lot has room for.
const CHILDREN: usize = lot::ROOM / Output::ALL.len();
/// How many children are worth a lot: half as many as one turn forks.
const FEW: usize = 16;

/// A lot, and the slots of the children whose outputs stand in it, in the order in which they were sent.
#[derive(Debug)]
struct Parked {
    lot: Lot,
    slots: Vec<usize>,
}

/// The lots, by number.
#[derive(Debug, Default)]
pub(super) struct Lots(Vec<Option<Parked>>);

impl Lots {
    fn enter(&mut self, parked: Parked) -> usize {
        let free = self.0.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[number] = Some(parked);
        number
    }

    fn take(&mut self, number: usize) -> Option<Parked> {
        self.0.get_mut(number)?.take()
    }
}

impl Wires {
    /// Told that so many forks are due: parks what it can, if it is worth it.
    pub(crate) fn make_way(&mut self, forks: usize) {
        if forks >= FORKS
            && let Err(error) = self.park()
        {
            // The newborns close more, that is all.
            log::debug!("parking the outputs of children: {error}");
        }
    }

    /// Brings everything back: no fork is due any more.
    pub(crate) fn fetch_all(&mut self) {
        for number in 0..self.lots.0.len() {
            self.fetch(number);
        }
    }

    fn park(&mut self) -> io::Result<()> {
        // Hooks that run meanwhile may open files. What stands in the lower half of the table will find
        // room again, though they open as many as there are.
        let half = RawFd::try_from(limits::open_files()? / 2).unwrap_or(RawFd::MAX);
        let slots: Vec<_> = (0..self.wires.len())
            .filter(|&slot| {
                let wire = self.wires[slot].as_ref();
                wire.is_some_and(|wire| {
                    wire.outputs().any(|_| true) && wire.outputs().all(|fd| fd < half)
                })
            })
            .collect();
        for slots in slots.chunks(CHILDREN).filter(|slots| slots.len() >= FEW) {
            let wires = slots.iter().filter_map(|&slot| self.wires[slot].as_ref());
            let fds: Vec<_> = wires.flat_map(Wire::outputs).collect();
            let lot = Lot::send(&fds)?;
            let number = self.lots.enter(Parked {
                lot,
                slots: slots.to_vec(),
            });
            for &slot in slots {
                if let Some(wire) = &mut self.wires[slot] {
                    wire.park(number);
                }
            }
        }
        Ok(())
    }

    /// Gives the outputs of a lot numbers again.
    pub(super) fn fetch(&mut self, number: usize) {
        let Some(Parked { lot, slots }) = self.lots.take(number) else {
            return;
        };
        let received = lot.receive().unwrap_or_else(|error| {
            log::error!("fetching the outputs of {} children: {error}", slots.len());
            Vec::new()
        });
        let mut received = received.into_iter();
        for slot in slots {
            if let Some(wire) = &mut self.wires[slot] {
                wire.unpark(&mut received);
            }
        }
    }
}

impl Wire {
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

    /// What was not received is lost, and the child will find its output closed.
    fn unpark(&mut self, received: &mut impl Iterator<Item = OwnedFd>) {
        self.place = Place::Moved;
        for stream in &mut self.streams {
            if let Some(parked) = stream {
                parked.fd = received.next().map(Ours::parents);
                if parked.fd.is_none() {
                    log::error!("no descriptor is left for an output of {}", self.id);
                    *stream = None;
                }
            }
        }
    }
}
