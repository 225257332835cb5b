//! The status without the feature `status`: none. Keeps nothing and starts nothing.

use crate::{
    core::{
        child::ChildId, error::Error, event::Event, monitor::Monitor, state::Descriptor, time::Time,
    },
    listeners::ListenerStatus,
    sys::{clock::Clock, confine::ConfinementPlan},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct StatusConfig(());

#[derive(Debug, Default)]
pub(crate) struct Status(());

impl Status {
    pub(crate) fn open(_: &StatusConfig, _slots: usize) -> Result<Self, Error> {
        Ok(Self(()))
    }

    pub(crate) fn is_on(&self) -> bool {
        false
    }

    pub(crate) fn event(&mut self, _: &Monitor, _: &Event<'_>) {}

    pub(crate) fn note_last_lines(&mut self, _: ChildId, _: &Monitor) {}

    pub(crate) fn note_drain(&mut self, _: &Monitor) {}

    pub(crate) fn wants_listeners(&self, _: Time) -> bool {
        false
    }

    pub(crate) fn note_listeners(&mut self, _: Vec<ListenerStatus>) {}

    pub(crate) fn wake_at(&self) -> Option<Time> {
        None
    }

    pub(crate) fn wants_fork(&self, _: Time) -> bool {
        false
    }

    pub(crate) fn fork(&mut self, _: &mut Monitor, _: Clock, _: &ConfinementPlan) {}

    pub(crate) fn reap(&mut self, _: &mut Monitor) {}

    pub(crate) fn descriptors(&self) -> Vec<Descriptor> {
        Vec::new()
    }

    pub(crate) fn process(&self) -> Option<u32> {
        None
    }

    pub(crate) fn end(&mut self) {}
}
