//! The fork of a child: its pipes and its record are there before, and both processes know whose it is
//! after. Runs no code of the user's.

use super::UnixSystem;
use crate::{
    core::{
        child::ChildId,
        error::{Error, Operation},
        system::{ForkTerms, Forked},
    },
    sys::{
        fork::Side,
        group::Group,
        holder::Kin,
        pipes::{self, ChildEnds, ParentEnds},
        process::{ChildProcess, Means},
        signals::Mask,
        stop_board::StopBoard,
    },
};
use std::{io, rc::Rc};

/// What a new child knows of its fork.
#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) id: ChildId,
    pub(crate) ends: ChildEnds,
    pub(crate) mask: Mask,
}

/// What both processes know of a fork.
struct Birth {
    terms: ForkTerms,
    /// Whether the holder keeps the child.
    is_kept: bool,
    /// Whether it leads a group by which what it leaves behind is told from what the program has
    /// started.
    leads_group: bool,
}

fn masked(error: io::Error) -> Error {
    Error::new(Operation::Signal, "mask", error)
}

fn unforked(error: io::Error) -> Error {
    Error::new(Operation::Fork, "a child", error)
}

impl UnixSystem {
    pub(super) fn fork_child(
        &mut self,
        terms: ForkTerms,
    ) -> Result<Forked<ChildProcess, Newborn>, Error> {
        let (ends, childs) = pipes::for_child(terms.private)
            .map_err(|error| Error::new(Operation::Pipe, "for a child", error))?;
        let parent = std::process::id();
        let birth = self.prepare_birth(terms, &ends).map_err(unforked)?;
        let mask = Mask::block_all().map_err(masked)?;
        let forked = self.holding.fork(&terms, birth.is_kept, &mask);
        if !matches!(forked, Ok((Side::Child, _))) {
            self.board.forked();
        }
        match forked {
            Ok((Side::Child, kin)) => {
                self.be_born(&birth, kin, parent);
                Ok(Forked::Child(Newborn {
                    id: terms.id,
                    ends: childs,
                    mask,
                }))
            }
            Ok((Side::Parent(pid), kin)) => {
                self.note_birth(&birth, Some(pid), kin);
                drop(childs);
                let process = self.process_of(&birth, pid, kin, ends);
                let unmasked = mask.restore();
                Ok(Forked::Parent {
                    pid,
                    watched: process.watch().and(unmasked),
                    process,
                })
            }
            Err(error) => {
                self.note_birth(&birth, None, Kin::Parents);
                mask.restore().map_err(masked)?;
                Err(unforked(error))
            }
        }
    }

    fn prepare_birth(&mut self, terms: ForkTerms, ends: &ParentEnds) -> io::Result<Birth> {
        let has_slot = self.board.is_lent_to(terms.id);
        let now = self.clock.now();
        Ok(Birth {
            terms,
            is_kept: self.holding.before_fork(&terms, ends, has_slot, now)?,
            leads_group: self.adoption.gives_groups(),
        })
    }

    /// Tells the holder which process a child that it keeps has; none if the fork has failed.
    fn note_birth(&mut self, birth: &Birth, pid: Option<u32>, kin: Kin) {
        if birth.is_kept {
            self.holding.forked(birth.terms.id, pid, kin);
        }
    }

    /// In the new child, which `parent` has forked.
    fn be_born(&mut self, birth: &Birth, kin: Kin, parent: u32) {
        if self.holding.is_held() {
            let slot = self.board.slot(birth.terms.id);
            self.holding.be_born(birth.is_kept, kin, &slot, parent);
        }
        if birth.terms.group.is_some() || birth.leads_group {
            Group::lead();
        }
    }

    /// What a child's process has from the parent, told to stop there if anywhere.
    pub(in crate::sys) fn means(&self, stops: Option<Rc<StopBoard>>) -> Means {
        Means {
            watch: self.poller.outputs(),
            stops,
            out_of_memory: Rc::clone(&self.out_of_memory),
        }
    }

    /// In the parent: the process of the new child.
    fn process_of(&self, birth: &Birth, pid: u32, kin: Kin, ends: ParentEnds) -> ChildProcess {
        if birth.leads_group {
            Group::of_new_child(pid);
        }
        let process = ChildProcess::new(
            birth.terms,
            pid,
            ends,
            self.means(Some(Rc::clone(&self.stops))),
        );
        let is_ward = kin != Kin::Parents;
        let ward = is_ward.then(|| self.holding.ward(birth.terms.id));
        process.with_ward(ward.flatten())
    }
}
