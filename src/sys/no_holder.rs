//! In place of `holder` without that feature, and on systems without pidfds and subreapers: a parent
//! has no holder.

use super::{board::Slot, pipes::ParentEnds};
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
pub(crate) struct Holding(());

/// Never made: no child has had another parent.
#[derive(Clone, Debug)]
pub(crate) struct Ward(Infallible);

impl Ward {
    pub(crate) fn is_there(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn signal(&self, _: libc::pid_t, _: libc::c_int) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn reap(&self) -> Reaped {
        match self.0 {}
    }
}

impl Holding {
    pub(crate) fn is_held(&self) -> bool {
        false
    }

    pub(crate) fn childs_holder(&self) -> Option<u32> {
        None
    }

    pub(super) fn ward(&self, _: ChildId) -> Option<Ward> {
        None
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

    pub(super) fn forked(&mut self, _: ChildId, _: Option<u32>) {}

    pub(super) fn be_born(&mut self, _: bool, _: &Slot, _: u32) {}

    pub(super) fn forget(&mut self, _: usize) {}

    pub(super) fn end_death_watch(&self) {}

    pub(super) fn say_goodbye(&mut self) {}

    pub(super) fn say_proved(&self) {}

    pub(super) fn arrived(&mut self, own: Arrived, _woken: bool) -> Arrived {
        own
    }

    pub(super) fn peek(&mut self) -> Option<u32> {
        None
    }
}
