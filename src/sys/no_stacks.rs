//! In place of `stacks` without the feature of this name, and on systems where it does nothing: no
//! child is asked for its stack.

use super::poller::Poller;
use crate::core::{child::ChildId, stack::Frame};
use std::io;

/// The signal that asks for a stack.
pub(crate) const QUESTION: Option<nix::sys::signal::Signal> = None;

/// Nothing.
#[derive(Debug)]
pub(crate) struct Stacks;

impl Stacks {
    pub(crate) fn new(_children: usize) -> Self {
        Self
    }

    pub(crate) fn are_collected(&self) -> bool {
        false
    }

    pub(crate) fn answer_from_now_on(&self, _: ChildId) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn ask(
        &mut self,
        _: ChildId,
        _pid: u32,
        _: Option<&super::holder::HeldChild>,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn begin_reading(&mut self, _: &Poller) {}

    pub(crate) fn read(&mut self, _: &Poller) -> Vec<(ChildId, Vec<Frame>)> {
        Vec::new()
    }

    pub(crate) fn has_left(&self, _: ChildId) -> bool {
        false
    }

    pub(crate) fn clear(&mut self, _: ChildId) {}

    pub(crate) fn reap(&mut self) {}

    pub(crate) fn close(&mut self, _: &Poller) {}
}
