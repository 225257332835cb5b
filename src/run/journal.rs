//! What the loop notes for the parent after this one, if it has a holder: the pool at the end of each
//! turn, and now and then the counters, the attributes and what the hooks hand on. Reads no journal.

use super::{child::ChildSide, parent::Parent, turn::Loop};
use crate::{
    core::{child::ChildId, config::Config, journal::Said, say::say, state::Snapshot, time::Time},
    hooks::{ChildServer, PreForkHooks},
};
use std::time::Duration;

/// How often, at the most, the state is saved that is not noted at once.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What was noted last.
#[derive(Debug, Default)]
pub(super) struct Journaled {
    save_at: Time,
    /// The epoch, and whether a reload was under way.
    reload: (u32, bool),
    /// Whether the settings were read anew, and the children that have them did not fail.
    pub(super) renewed: bool,
    config: Option<Config>,
    warned: bool,
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Notes what has changed. Signals that were acted on in this turn count as taken from here on.
    pub(super) fn keep_journal(&mut self) {
        if !self.parent.system.is_held() {
            return;
        }
        self.note_epochs();
        let now = self.parent.monitor.now();
        if self.journaled.save_at <= now || self.has_new_attributes() {
            self.journaled.save_at = now + SAVE_EVERY;
            self.save_state();
        }
        let note = self.parent.monitor.pool_note(self.journaled.renewed);
        self.parent.system.note_pool(&note);
    }

    /// A reload that has failed has changed the epochs of children that live.
    fn note_epochs(&mut self) {
        let monitor = &self.parent.monitor;
        let reload = (
            monitor.replacement.epoch(),
            monitor.replacement.is_reloading(),
        );
        if reload == std::mem::replace(&mut self.journaled.reload, reload) {
            return;
        }
        for child in self.parent.monitor.children() {
            self.parent.system.note_epoch(child.id(), child.epoch());
        }
    }

    /// What a child has said, for the parent after this one, which cannot read it again.
    pub(super) fn note_said(&mut self, child: ChildId) {
        let Parent {
            monitor, system, ..
        } = &mut self.parent;
        if system.is_held()
            && let Some(record) = monitor.child(child)
        {
            system.note_said(child, Said::by(record));
        }
    }

    /// Whoever has set an attribute has been told that it is set.
    fn has_new_attributes(&mut self) -> bool {
        let config = self.parent.monitor.config();
        let is_known = self.journaled.config.as_ref() == Some(config);
        if !is_known {
            self.journaled.config = Some(config.clone());
        }
        !is_known
    }

    fn save_state(&mut self) {
        let mut hooks = Vec::new();
        self.call("save", |own, monitor| hooks = own.save(monitor));
        let mut state = Snapshot {
            hooks,
            ..self.parent.monitor.save_pool()
        };
        if self.parent.system.save_state(&state.encode()) {
            return;
        }
        if !std::mem::replace(&mut self.journaled.warned, true) {
            say!(
                Warn,
                "the hooks save {} bytes, which is more than a holder keeps",
                state.hooks.len()
            );
        }
        state.hooks.clear();
        self.parent.system.save_state(&state.encode());
    }
}
