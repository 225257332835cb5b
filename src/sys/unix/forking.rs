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
        group::ProcessGroup,
        holder::KernelParent,
        pipes::{self, ChildEnds, ParentEnds},
        process::{ChildProcess, Means},
        signals::Mask,
        stop_board::StopBoard,
    },
};
use std::{io, rc::Rc};

/// What a new child knows of its fork.
#[derive(Debug)]
pub(crate) struct NewChild {
    pub(crate) id: ChildId,
    pub(crate) ends: ChildEnds,
    pub(crate) mask: Mask,
}

/// What both processes know of a fork.
struct ForkContext {
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
    ) -> Result<Forked<ChildProcess, NewChild>, Error> {
        let (ends, childs) = pipes::for_child(terms.private)
            .map_err(|error| Error::new(Operation::Pipe, "for a child", error))?;
        let parent = std::process::id();
        let context = self.prepare_fork(terms, &ends).map_err(unforked)?;
        let mask = Mask::block_all().map_err(masked)?;
        let forked = self.holder.fork(&terms, context.is_kept, &mask);
        if !matches!(forked, Ok((Side::Child, _))) {
            self.board.forked();
        }
        match forked {
            Ok((Side::Child, kernel_parent)) => {
                self.set_up_child(&context, kernel_parent, parent);
                Ok(Forked::Child(NewChild {
                    id: terms.id,
                    ends: childs,
                    mask,
                }))
            }
            Ok((Side::Parent(pid), kernel_parent)) => {
                self.note_birth(&context, Some(pid), kernel_parent);
                drop(childs);
                let process = self.process_of(&context, pid, kernel_parent, ends);
                let unmasked = mask.restore();
                Ok(Forked::Parent {
                    pid,
                    watched: process.watch().and(unmasked),
                    process,
                })
            }
            Err(error) => {
                self.note_birth(&context, None, KernelParent::Parent);
                mask.restore().map_err(masked)?;
                Err(unforked(error))
            }
        }
    }

    fn prepare_fork(&mut self, terms: ForkTerms, ends: &ParentEnds) -> io::Result<ForkContext> {
        let has_slot = self.board.is_assigned_to(terms.id);
        let now = self.clock.now();
        Ok(ForkContext {
            terms,
            is_kept: self.holder.before_fork(&terms, ends, has_slot, now)?,
            leads_group: self.adoption.gives_groups(),
        })
    }

    /// Tells the holder which process a child that it keeps has; none if the fork has failed.
    fn note_birth(&mut self, context: &ForkContext, pid: Option<u32>, kernel_parent: KernelParent) {
        if context.is_kept {
            self.holder.forked(context.terms.id, pid, kernel_parent);
        }
    }

    /// In the new child, which `parent` has forked.
    fn set_up_child(&mut self, context: &ForkContext, kernel_parent: KernelParent, parent: u32) {
        if self.holder.has_holder() {
            let slot = self.board.slot(context.terms.id);
            self.holder
                .set_up_child(context.is_kept, kernel_parent, &slot, parent);
        }
        if context.terms.group.is_some() || context.leads_group {
            ProcessGroup::lead();
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
    fn process_of(
        &self,
        context: &ForkContext,
        pid: u32,
        kernel_parent: KernelParent,
        ends: ParentEnds,
    ) -> ChildProcess {
        if context.leads_group {
            ProcessGroup::of_new_child(pid);
        }
        let process = ChildProcess::new(
            context.terms,
            pid,
            ends,
            self.means(Some(Rc::clone(&self.stops))),
        );
        let is_held_child = kernel_parent != KernelParent::Parent;
        let held_child = is_held_child.then(|| self.holder.held_child(context.terms.id));
        process.with_held_child(held_child.flatten())
    }
}
