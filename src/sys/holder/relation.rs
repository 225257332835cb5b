//! What a process knows of its holder: nothing, as a parent, or as a child. Has a parent's forks noted
//! before and after them, and tells a new child whose it is. Decides nothing.

use super::{
    held_child::HeldChild,
    holder,
    link::HolderLink,
    messages::{self, Message},
    process,
    sibling::SiblingFork,
};
use crate::{
    core::{
        child::ChildId,
        journal::{JournalRecord, LifePhase, StopBy},
        signal_policy::Arrived,
        system::{ForkTerms, PoolJournal},
        time::Time,
    },
    sys::{
        board::BoardSlot,
        fork::{self, Side, Tie},
        pipes::ParentEnds,
        signals::Mask,
    },
};
use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

/// What a process knows of its holder.
#[derive(Debug, Default)]
pub(crate) enum HolderRelation {
    #[default]
    None,
    /// A parent.
    Parent(Box<HolderLink>),
    /// A child that its holder keeps when the parent is gone.
    Child { holder: u32 },
    /// A child that has been the holder's from the first moment.
    Sibling { holder: u32 },
}

/// Whose a new child is for the kernel: who waits for it, and at whose end it is sent a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KernelParent {
    /// The parent's; the holder gets it when that is gone.
    Parent,
    /// The holder's.
    Holder,
}

impl HolderRelation {
    pub(super) fn link(&self) -> Option<&HolderLink> {
        match self {
            Self::Parent(link) => Some(link),
            _ => None,
        }
    }

    /// Where a parent that has a holder notes what the next one is to know.
    pub(crate) fn journal(&self) -> Option<&dyn PoolJournal> {
        self.link().map(|link| link as &dyn PoolJournal)
    }

    pub(super) fn link_mut(&mut self) -> Option<&mut HolderLink> {
        match self {
            Self::Parent(link) => Some(link),
            _ => None,
        }
    }

    /// Whether this process is a parent that has a holder.
    pub(crate) fn has_holder(&self) -> bool {
        self.link().is_some()
    }

    /// To whose lives a child of `parent` is tied.
    pub(crate) fn tie_of_child(&self, parent: u32) -> Tie {
        let (parent, holder) = match self {
            Self::Child { holder } => (parent, Some(*holder)),
            Self::Sibling { holder } => (*holder, None),
            _ => (parent, None),
        };
        Tie { parent, holder }
    }

    /// Before a fork: the holder keeps the pipes, and the journal says that there may be a child. True if
    /// the holder keeps the child; one without a slot ends with its parent.
    pub(in crate::sys) fn before_fork(
        &mut self,
        terms: &ForkTerms,
        ends: &ParentEnds,
        has_slot: bool,
        now: Time,
    ) -> io::Result<bool> {
        let Some(link) = self.link().filter(|_| has_slot) else {
            return Ok(false);
        };
        let [stdout, stderr] = [&ends.stdout, &ends.stderr].map(|end| end.as_raw_fd());
        let keep = |pipes: &[RawFd]| messages::send(&link.channel, Message::Keep(terms.id), pipes);
        match &ends.comm {
            Some(comm) => keep(&[stdout, stderr, comm.as_raw_fd()]),
            None => keep(&[stdout, stderr]),
        }?;
        let stop_by = StopBy {
            signal: terms.stop_signal,
            group: terms.group,
        };
        let record = JournalRecord {
            successor: terms.successor,
            stop_by,
            ..JournalRecord::forking(terms.id, terms.epoch, terms.reserved, now)
        };
        link.journal.note_serial(terms.id.serial());
        link.journal.put(terms.id.slot(), &record);
        Ok(true)
    }

    /// Forks. A child that is to become a program is the holder's, if the holder keeps it and this
    /// process can fork such a child.
    ///
    /// A program knows of no holder, so the kernel's signal at the end of its parent would end it. Other
    /// children ignore that one, and are forked by the C library, of whose forks much code is told.
    pub(in crate::sys) fn fork(
        &self,
        terms: &ForkTerms,
        is_kept: bool,
        blocked: &Mask,
    ) -> io::Result<(Side, KernelParent)> {
        let link = self.link().filter(|_| is_kept && terms.execs);
        if let Some(link) = link
            && let Some(sibling) = SiblingFork::find()
        {
            match sibling.fork(blocked, link.journal.pid_at(terms.id.slot())) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                forked => return Ok((forked?, KernelParent::Holder)),
            }
        }
        Ok((fork::fork(blocked)?, KernelParent::Parent))
    }

    /// After the fork of a child that the holder keeps: this is its pid, or there is none.
    pub(in crate::sys) fn forked(
        &mut self,
        id: ChildId,
        pid: Option<u32>,
        kernel_parent: KernelParent,
    ) {
        match (self.link(), pid, kernel_parent) {
            // The kernel has written it, and the holder may have written since how the child has ended.
            (_, Some(_), KernelParent::Holder) | (None, ..) => {}
            (Some(link), Some(pid), KernelParent::Parent) => {
                let record = JournalRecord {
                    phase: LifePhase::Lives,
                    pid,
                    ..link.journal.record(id.slot())
                };
                link.journal.put(id.slot(), &record);
            }
            (Some(_), None, _) => self.forget(id.slot()),
        }
    }

    /// In a new child, before anything else. One that is kept notes who it is, and ends at once if its
    /// parent is gone: that parent may not have known of it. The kernel has noted those of the holder.
    pub(in crate::sys) fn set_up_child(
        &mut self,
        is_kept: bool,
        kernel_parent: KernelParent,
        slot: &BoardSlot,
        parent: u32,
    ) {
        // The journal is not mapped here.
        let link = std::mem::take(self);
        let holder = holder().filter(|_| is_kept && link.has_holder());
        // Its descriptors are closed by number.
        std::mem::forget(link);
        match (holder, kernel_parent) {
            (None, _) => {}
            (Some(holder), KernelParent::Holder) => *self = Self::Sibling { holder },
            (Some(holder), KernelParent::Parent) => {
                *self = Self::Child { holder };
                slot.note_pid();
                if nix::unistd::getppid().as_raw().cast_unsigned() != parent {
                    // Nothing of this process is to be flushed.
                    process::exit(0);
                }
            }
        }
    }

    /// The record of a child has ended.
    pub(in crate::sys) fn forget(&mut self, slot: usize) {
        let Some(link) = self.link() else { return };
        if slot >= link.journal.slots() {
            return;
        }
        let serial = link.journal.record(slot).serial;
        link.journal.vacate(slot);
        // OK because there are no more slots than 2^32.
        let id = ChildId::new(slot as u32, serial);
        link.say(Message::Drop(id));
    }

    /// The children are to see that their parent leaves.
    pub(in crate::sys) fn end_death_watch(&self) {
        if let Some(link) = self.link() {
            link.say(Message::EndDeathWatch);
        }
    }

    /// The program before this one is not needed any more.
    pub(in crate::sys) fn say_proved(&self) {
        if let Some(link) = self.link() {
            link.say(Message::Proved);
        }
    }

    /// The server has ended. This is no message, since it must not be lost.
    pub(in crate::sys) fn announce_end(&mut self) {
        if let Self::Parent(link) = std::mem::take(self) {
            link.journal.end();
        }
    }

    /// What has arrived, if this is a parent that has a holder: see [`HolderLink::arrived`].
    pub(in crate::sys) fn arrived(&mut self, own: Arrived, woken: bool) -> Arrived {
        match self.link_mut() {
            Some(link) => link.arrived(own, woken),
            None => own,
        }
    }

    /// The pid of a child that the holder has reaped, each once.
    pub(in crate::sys) fn peek(&mut self) -> Option<u32> {
        self.link_mut()?.learn_of_a_death()
    }

    /// By which a child is reached that is the holder's. `None` if the holder does not keep it.
    pub(in crate::sys) fn held_child(&self, child: ChildId) -> Option<HeldChild> {
        let link = self.link()?;
        let is_kept = child.slot() < link.journal.slots();
        is_kept.then(|| HeldChild::new(link.journal.clone(), child))
    }
}
