//! The split of a process into holder and parent, and what a parent then has of its system: a poller of
//! its own, and the children of the parents before it. The holder itself is in `process`. Decides
//! nothing.

use super::{
    HOLDER,
    handover::Handover,
    journal_memory::Journal,
    legacy::Legacy,
    link::HolderLink,
    process::{HeldResources, Holder, HolderSetup, ParentStart, note_arrived},
    relation::HolderRelation,
};
use crate::{
    core::{
        child::{ChildId, Collected, WaitStatus},
        error::{Error, Operation},
        journal::JournalRecord,
        notes::PoolNote,
        signal_policy::TABLE,
        state::ChildState,
        system::{EventSource, System},
        time::Time,
    },
    sys::{
        pipes,
        poller::Poller,
        process::ChildProcess,
        shared_memory::SharedMemory,
        signals::{Mask, Subscription},
        unix::UnixSystem,
    },
};
use mio::Interest;
use std::{io, os::fd::AsRawFd, rc::Rc, sync::atomic::Ordering::Relaxed, time::Duration};

/// What a new parent knows of its fork.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HolderSplit {
    /// How many parents there were before it.
    pub(crate) earlier: u32,
    /// How the last of them has ended.
    pub(crate) ended: Option<WaitStatus>,
    pub(crate) at: Time,
}

/// A child of a parent that is gone.
#[derive(Debug)]
pub(crate) struct InheritedProcess {
    pub(crate) slot: u32,
    pub(crate) record: JournalRecord,
    /// The descriptors of its pipes.
    pub(crate) pipes: [Option<u32>; 3],
    pub(crate) told_to_leave: bool,
}

impl UnixSystem {
    /// Makes this process the holder, which forks the parent. Returns in each parent; in this process
    /// only if that fails.
    pub(crate) fn split(&mut self, grace: Duration, legacy: &Legacy) -> Result<HolderSplit, Error> {
        let failed = |error| Error::new(Operation::Start, "the holder", error);
        self.own_boards();
        let journal = Journal::new(self.slots).map_err(failed)?;
        let handover = Handover::new(self.slots).map_err(failed)?;
        legacy.note_in(&journal);
        let mask = Mask::block_all().map_err(failed)?;
        note_arrived(&journal, &self.signals(true));
        let counted = self.handled();
        let setup = HolderSetup {
            memories: self.memories(&journal, &handover),
            journal: journal.clone(),
            handover: handover.clone(),
            kept: legacy.pipes(self.slots),
            call: self.upgrades.blank_call(),
            clock: self.clock,
            counted,
            grace,
            mask: mask.clone(),
        };
        match self.hold(setup) {
            Ok(born) => {
                let split = born.split;
                let link = HolderLink::new(journal, handover, counted, born);
                self.holder = HolderRelation::Parent(Box::new(link));
                Ok(split)
            }
            Err(error) => {
                HOLDER.store(0, Relaxed);
                // OK to ignore: it is a process that gets orphans.
                let _ = nix::sys::prctl::set_child_subreaper(false);
                // OK to ignore: the mask was in force before.
                let _ = mask.restore();
                Err(error)
            }
        }
    }

    /// The holder's part of the split: it returns in each parent, and in the holder if that fails.
    fn hold(&mut self, setup: HolderSetup) -> Result<ParentStart, Error> {
        HOLDER.store(std::process::id(), Relaxed);
        let view = self.board.view().clone();
        let noted = |slot: usize| view.noted_pid(slot);
        let resources = HeldResources {
            death_write: &mut self.death_write,
            control: &mut self.control,
            upgrades: &mut self.upgrades,
        };
        let failed = |error| Error::new(Operation::Start, "the holder", error);
        Holder::new(setup, resources, &noted).map_err(failed)?.run()
    }

    /// What parents own one after the other.
    fn memories(&self, journal: &Journal, handover: &Handover) -> Vec<SharedMemory> {
        let mut stops: Vec<_> = self.earlier_stops.values().collect();
        stops.push(&self.stops);
        stops.sort_unstable_by_key(|board| Rc::as_ptr(board));
        stops.dedup_by_key(|board| Rc::as_ptr(board));
        let own = [journal.memory(), handover.memory(), self.board.memory()];
        let stops = stops.into_iter().map(|board| board.memory());
        own.into_iter().chain(stops).cloned().collect()
    }

    /// Watches the end of the holder, and what it says.
    fn watch_holder(&self, poller: &Poller) -> io::Result<()> {
        let Some(link) = self.holder.link() else {
            return Ok(());
        };
        poller.add_urgent(
            link.channel.as_raw_fd(),
            EventSource::Signals,
            Interest::READABLE,
        )
    }

    /// The children that the parents before this one have left, and what they have noted of the pool.
    pub(crate) fn inherit(&mut self) -> (PoolNote, Vec<u8>, Vec<InheritedProcess>) {
        let HolderRelation::Parent(link) = &mut self.holder else {
            return Default::default();
        };
        self.board.settle();
        let records: Vec<_> = link.journal.records().collect();
        let children = records.into_iter().map(|(slot, record)| {
            let pipes = link.kept.take(slot, record.serial);
            // OK because there are no more slots than 2^32.
            let slot = slot as u32;
            let id = ChildId::new(slot, record.serial);
            InheritedProcess {
                slot,
                record,
                pipes: pipes.map(|fd| u32::try_from(fd).ok()),
                told_to_leave: self
                    .earlier_stops
                    .get(&id)
                    .unwrap_or(&self.stops)
                    .has_told(id),
            }
        });
        let children = children.collect();
        (link.journal.pool(), link.journal.saved(), children)
    }

    /// The process of a child that an earlier parent has forked.
    pub(crate) fn adopt_ward(
        &self,
        child: &ChildState,
        outlived: Option<Collected>,
    ) -> io::Result<ChildProcess> {
        let stops = self.earlier_stops.get(&child.id()).unwrap_or(&self.stops);
        let means = self.means(Some(Rc::clone(stops)));
        let process = ChildProcess::adopted(child, outlived, means);
        let process = process.with_held_child(self.holder.held_child(child.id()));
        process.watch().map(|()| process)
    }

    /// In a parent that has a holder: leaves the poller, which is the holder's as well, for one of its own.
    pub(crate) fn renew_poller(&mut self) -> Result<(), Error> {
        let failed = |error| Error::new(Operation::Start, "the holder", error);
        self.poller = self.poller_of_own().map_err(failed)?;
        Ok(())
    }

    fn poller_of_own(&self) -> io::Result<Poller> {
        let poller = Poller::new()?;
        if let Some(signals) = &self.signals {
            let pipe = signals.as_fd().as_raw_fd();
            poller.add_urgent(pipe, EventSource::Signals, Interest::READABLE)?;
        }
        if let Some(control) = &self.control {
            control.watch(&poller)?;
        }
        self.watches.add_all_to(&poller)?;
        self.watch_holder(&poller)?;
        Ok(poller)
    }

    /// Which signals of the table are handled.
    fn handled(&self) -> [bool; TABLE.len()] {
        self.signals
            .as_ref()
            .map(Subscription::handled)
            .unwrap_or_default()
    }
}

/// How much a pipe holds that is not read yet.
pub(crate) fn pending(fd: u32) -> u64 {
    pipes::pending_in(fd.cast_signed()).unwrap_or(0) as u64
}
