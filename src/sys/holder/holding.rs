//! What a process knows of its holder: nothing, as a parent, or as a child. Has a parent's forks noted
//! before and after them, and tells a new child whose it is. Decides nothing.

use super::{
    channel::{self, Message},
    held::Held,
    holder, process,
    sibling::SiblingFork,
    ward::Ward,
};
use crate::{
    core::{
        child::ChildId,
        journal::{Phase, Record, StopBy},
        signal_policy::Arrived,
        system::{ForkTerms, PoolJournal},
        time::Time,
    },
    sys::{
        board::Slot,
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
pub(crate) enum Holding {
    #[default]
    None,
    /// A parent.
    Parent(Box<Held>),
    /// A child that its holder keeps when the parent is gone.
    Child { holder: u32 },
    /// A child that has been the holder's from the first moment.
    Sibling { holder: u32 },
}

/// Whose a new child is for the kernel: who waits for it, and at whose end it is sent a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kin {
    /// The parent's; the holder gets it when that is gone.
    Parents,
    /// The holder's.
    Holders,
}

impl Holding {
    pub(super) fn held(&self) -> Option<&Held> {
        match self {
            Self::Parent(held) => Some(held),
            _ => None,
        }
    }

    /// Where a parent that has a holder notes what the next one is to know.
    pub(crate) fn journal(&self) -> Option<&dyn PoolJournal> {
        self.held().map(|held| held as &dyn PoolJournal)
    }

    pub(super) fn held_mut(&mut self) -> Option<&mut Held> {
        match self {
            Self::Parent(held) => Some(held),
            _ => None,
        }
    }

    /// Whether this process is a parent that has a holder.
    pub(crate) fn is_held(&self) -> bool {
        self.held().is_some()
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
        let Some(held) = self.held().filter(|_| has_slot) else {
            return Ok(false);
        };
        let [stdout, stderr] = [&ends.stdout, &ends.stderr].map(|end| end.as_raw_fd());
        let keep = |pipes: &[RawFd]| channel::send(&held.channel, Message::Keep(terms.id), pipes);
        match &ends.comm {
            Some(comm) => keep(&[stdout, stderr, comm.as_raw_fd()]),
            None => keep(&[stdout, stderr]),
        }?;
        let stop_by = StopBy {
            signal: terms.stop_signal,
            group: terms.group,
        };
        let record = Record {
            successor: terms.successor,
            stop_by,
            ..Record::forking(terms.id, terms.epoch, terms.reserved, now)
        };
        held.journal.note_serial(terms.id.serial());
        held.journal.put(terms.id.slot(), &record);
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
    ) -> io::Result<(Side, Kin)> {
        let held = self.held().filter(|_| is_kept && terms.execs);
        if let Some(held) = held
            && let Some(sibling) = SiblingFork::find()
        {
            match sibling.fork(blocked, held.journal.pid_at(terms.id.slot())) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                forked => return Ok((forked?, Kin::Holders)),
            }
        }
        Ok((fork::fork(blocked)?, Kin::Parents))
    }

    /// After the fork of a child that the holder keeps: this is its pid, or there is none.
    pub(in crate::sys) fn forked(&mut self, id: ChildId, pid: Option<u32>, kin: Kin) {
        match (self.held(), pid, kin) {
            // The kernel has written it, and the holder may have written since how the child has ended.
            (_, Some(_), Kin::Holders) | (None, ..) => {}
            (Some(held), Some(pid), Kin::Parents) => {
                let record = Record {
                    phase: Phase::Lives,
                    pid,
                    ..held.journal.record(id.slot())
                };
                held.journal.put(id.slot(), &record);
            }
            (Some(_), None, _) => self.forget(id.slot()),
        }
    }

    /// In a new child, before anything else. One that is kept notes who it is, and ends at once if its
    /// parent is gone: that parent may not have known of it. The kernel has noted those of the holder.
    pub(in crate::sys) fn be_born(&mut self, is_kept: bool, kin: Kin, slot: &Slot, parent: u32) {
        // The journal is not mapped here.
        let held = std::mem::take(self);
        let holder = holder().filter(|_| is_kept && held.is_held());
        // Its descriptors are closed by number.
        std::mem::forget(held);
        match (holder, kin) {
            (None, _) => {}
            (Some(holder), Kin::Holders) => *self = Self::Sibling { holder },
            (Some(holder), Kin::Parents) => {
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
        let Some(held) = self.held() else { return };
        if slot >= held.journal.slots() {
            return;
        }
        let serial = held.journal.record(slot).serial;
        held.journal.vacate(slot);
        // OK because there are no more slots than 2^32.
        let id = ChildId::new(slot as u32, serial);
        held.say(Message::Drop(id));
    }

    /// The children are to see that their parent leaves.
    pub(in crate::sys) fn end_death_watch(&self) {
        if let Some(held) = self.held() {
            held.say(Message::EndDeathWatch);
        }
    }

    /// The program before this one is not needed any more.
    pub(in crate::sys) fn say_proved(&self) {
        if let Some(held) = self.held() {
            held.say(Message::Proved);
        }
    }

    /// The server has ended. This is no message, since it must not be lost.
    pub(in crate::sys) fn say_goodbye(&mut self) {
        if let Self::Parent(held) = std::mem::take(self) {
            held.journal.end();
        }
    }

    /// What has arrived, if this is a parent that has a holder: see [`Held::arrived`].
    pub(in crate::sys) fn arrived(&mut self, own: Arrived, woken: bool) -> Arrived {
        match self.held_mut() {
            Some(held) => held.arrived(own, woken),
            None => own,
        }
    }

    /// The pid of a child that the holder has reaped, each once.
    pub(in crate::sys) fn peek(&mut self) -> Option<u32> {
        self.held_mut()?.learn_of_a_death()
    }

    /// By which a child is reached that is the holder's. `None` if the holder does not keep it.
    pub(in crate::sys) fn ward(&self, child: ChildId) -> Option<Ward> {
        let held = self.held()?;
        let is_kept = child.slot() < held.journal.slots();
        is_kept.then(|| Ward::new(held.journal.clone(), child))
    }
}
