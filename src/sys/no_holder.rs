//! In place of `holder` without that feature, and on systems without pidfds and subreapers: a parent
//! has no holder.

use super::{
    board::BoardSlot,
    fork::{self, Side, Tie},
    pipes::ParentEnds,
    signals::Mask,
};
use crate::core::{
    child::ChildId,
    signal_policy::Arrived,
    system::{ForkTerms, Reaped},
    time::Time,
};
use nix::libc;
use std::{convert::Infallible, io};

/// None.
#[cfg(feature = "systemd")]
pub(crate) fn holder() -> Option<u32> {
    None
}

/// Nothing.
#[derive(Debug, Default)]
pub(crate) struct HolderRelation(());

/// Whose a new child is for the kernel: the parent's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KernelParent {
    Parent,
}

/// Never made: no child has had another parent.
#[derive(Clone, Debug)]
pub(crate) struct HeldChild(Infallible);

impl HeldChild {
    pub(crate) fn is_there(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn signal(&self, _: libc::pid_t, _: libc::c_int) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn signal_group(&self, _: libc::pid_t, _: libc::c_int) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn reap(&self) -> Reaped {
        match self.0 {}
    }
}

impl HolderRelation {
    pub(crate) fn has_holder(&self) -> bool {
        false
    }

    pub(crate) fn tie_of_child(&self, parent: u32) -> Tie {
        Tie {
            parent,
            holder: None,
        }
    }

    pub(crate) fn held_child(&self, _: ChildId) -> Option<HeldChild> {
        None
    }

    pub(super) fn fork(
        &self,
        _: &ForkTerms,
        _: bool,
        blocked: &Mask,
    ) -> io::Result<(Side, KernelParent)> {
        Ok((fork::fork(blocked)?, KernelParent::Parent))
    }

    pub(super) fn before_fork(
        &mut self,
        _: &ForkTerms,
        _: &ParentEnds,
        _: bool,
        _: Time,
    ) -> io::Result<bool> {
        Ok(false)
    }

    pub(super) fn forked(&mut self, _: ChildId, _: Option<u32>, _: KernelParent) {}

    pub(super) fn set_up_child(&mut self, _: bool, _: KernelParent, _: &BoardSlot, _: u32) {}

    pub(super) fn forget(&mut self, _: usize) {}

    pub(super) fn end_death_watch(&self) {}

    pub(super) fn announce_end(&mut self) {}

    pub(super) fn say_proved(&self) {}

    pub(super) fn arrived(&mut self, own: Arrived, _woken: bool) -> Arrived {
        own
    }

    pub(super) fn peek(&mut self) -> Option<u32> {
        None
    }
}
