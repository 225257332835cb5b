//! What the loop notes for the parent after this one, if it has a holder: the pool at the end of each
//! turn, and now and then the counters, the attributes and what the hooks hand on. Reads no journal.

use super::{child::ChildSide, parent::ParentState, turn::Loop};
use crate::{
    core::{
        child::{Child, ChildId},
        config::Config,
        journal::ROOM,
        notes::{FailureNote, WordNotes},
        say::say,
        state::{BeforeReload, EncodedList, Snapshot},
        system::System,
        time::Time,
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::time::Duration;

/// How often, at most, the state is saved that is not noted at once.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What was noted last.
#[derive(Debug, Default)]
pub(super) struct Journaled {
    save_at: Time,
    /// The epoch, and whether a reload was under way.
    reload: (u32, bool),
    /// Whether the settings were read again, and the children that have them did not fail.
    pub(super) renewed: bool,
    /// What was in force before the reload that is under way.
    pub(super) before_reload: Option<BeforeReload>,
    config: Option<Config>,
    /// What the hooks have saved last.
    hooks: Vec<u8>,
    warned: bool,
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Notes what has changed. Signals that were acted on in this turn count as taken from here on.
    pub(super) fn keep_journal(&mut self) {
        if self.parent.system.journal().is_none() {
            return;
        }
        let reload_changed = self.note_epochs();
        self.parent.note_retirements();
        self.parent.note_paired();
        let now = self.parent.monitor.now();
        if reload_changed || self.journaled.save_at <= now || self.has_new_attributes() {
            self.journaled.save_at = now + SAVE_EVERY;
            self.save_state();
        }
        let failure = self.failure.as_ref().map(FailureNote::of);
        let note = self
            .parent
            .monitor
            .pool_note(self.journaled.renewed, failure);
        if let Some(journal) = self.parent.system.journal() {
            journal.note_pool(&note);
        }
    }

    /// Keeps what is in force, before the settings are read for a reload. While another one goes on, that
    /// is what was in force before it.
    pub(super) fn keep_before_reload(&mut self) {
        let monitor = &self.parent.monitor;
        if self.parent.system.journal().is_some() && !monitor.is_reloading() {
            let attributes = EncodedList(monitor.changed_attributes());
            self.journaled.before_reload = Some(BeforeReload { attributes });
        }
    }

    /// Notes at once that a reload has begun. A signal that has asked for it would come again after a
    /// kill in this turn; a hook, or a client of the control socket, would have asked in vain.
    pub(super) fn note_reload(&mut self) {
        self.journaled.renewed = true;
        if self.parent.system.journal().is_none() {
            return;
        }
        // First: a parent that goes on with the reload needs what was in force before it.
        self.save_state();
        let epoch = self.parent.monitor.replacement.epoch();
        if let Some(journal) = self.parent.system.journal() {
            journal.note_reload(epoch);
        }
    }

    /// A reload that has failed has changed the epochs of children that live. True if a reload has begun
    /// or ended.
    fn note_epochs(&mut self) -> bool {
        let monitor = &self.parent.monitor;
        let reload = (
            monitor.replacement.epoch(),
            monitor.replacement.is_reloading(),
        );
        if reload == std::mem::replace(&mut self.journaled.reload, reload) {
            return false;
        }
        if let Some(journal) = self.parent.system.journal() {
            let children = self.parent.monitor.children();
            children.for_each(|child| journal.note_epoch(child.id(), child.epoch()));
        }
        true
    }

    /// What a child has said, for the parent after this one, which cannot read it again.
    pub(super) fn note_words(&self, child: ChildId) {
        let ParentState {
            monitor, system, ..
        } = &self.parent;
        if let Some(journal) = system.journal()
            && let Some(record) = monitor.child(child)
        {
            journal.note_words(child, WordNotes::by(record));
        }
    }

    /// The client that has set an attribute was told that it is set.
    fn has_new_attributes(&mut self) -> bool {
        let config = self.parent.monitor.config();
        let is_known = self.journaled.config.as_ref() == Some(config);
        if !is_known {
            self.journaled.config = Some(config.clone());
        }
        !is_known
    }

    fn save_state(&mut self) {
        let state = self.state_to_save();
        if let Some(journal) = self.parent.system.journal() {
            // OK to ignore: it is no longer than what is kept.
            let _ = journal.save_state(&state);
        }
    }

    /// What is saved for the next parent, in bytes: no more than a holder keeps.
    pub(super) fn state_to_save(&mut self) -> Vec<u8> {
        let mut saved = None;
        self.call("save", |own, monitor| saved = Some(own.save(monitor)));
        // After a panic what was saved before is better than nothing.
        if let Some(saved) = saved {
            self.journaled.hooks = saved;
        }
        let monitor = &self.parent.monitor;
        let before_reload = self.journaled.before_reload.clone();
        let mut state = Snapshot {
            hooks: self.journaled.hooks.clone(),
            before_reload: before_reload.filter(|_| monitor.is_reloading()),
            ..monitor.save_pool()
        };
        let bytes = state.encode();
        if bytes.len() <= ROOM {
            return bytes;
        }
        if !std::mem::replace(&mut self.journaled.warned, true) {
            say!(
                Warn,
                "the hooks save {} bytes, which is more than a holder keeps",
                state.hooks.len()
            );
        }
        state.hooks.clear();
        state.encode()
    }
}

impl<Y: System> ParentState<Y> {
    /// Notes why a child is told to stop, before it is: a parent after this one knows by that whether
    /// the child may finish what it has in hand.
    pub(super) fn note_retirement(&self, child: ChildId) {
        if let Some(journal) = self.system.journal()
            && let Some(told) = self.monitor.retirement_note(child)
        {
            // First: after a kill between the two there is a child too many, and not one too few.
            self.note_paired();
            journal.note_retirement(child, told);
        }
    }

    /// The same of those whose time has changed, and of those who are told later.
    fn note_retirements(&self) {
        if self.monitor.pool.census().retiring > 0 {
            let retiring = self.monitor.retiring_servers().map(Child::id);
            retiring.for_each(|child| self.note_retirement(child));
        }
    }

    /// Notes the successors that count for no child any more.
    fn note_paired(&self) {
        if let Some(journal) = self.system.journal() {
            let paired = self.monitor.replacement.paired();
            paired.iter().for_each(|child| journal.note_paired(*child));
        }
    }
}
