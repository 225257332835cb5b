//! What a parent notes for the one after it, which is told no more than this. Only a trait.

use crate::core::{
    child::ChildId,
    notes::{PoolNote, RetirementNote, WordNotes},
};

/// What a parent notes for the one after it. That one is told no more than this.
pub(crate) trait PoolJournal {
    /// Notes what the pool is like, at the end of a turn.
    fn note_pool(&self, note: &PoolNote);
    /// Notes that the settings were read for a reload, whose children are of this epoch.
    fn note_reload(&self, epoch: u32);
    /// Notes the epoch of a child.
    fn note_epoch(&self, child: ChildId, epoch: u32);
    /// Notes what a child has said in words.
    fn note_words(&self, child: ChildId, said: WordNotes);
    /// Notes that a successor has had its effect: a child was told to stop for it.
    fn note_paired(&self, child: ChildId);
    /// Notes why a child is told to stop.
    fn note_retirement(&self, child: ChildId, told: RetirementNote);
    /// Keeps a state. False if it is too long.
    fn save_state(&self, state: &[u8]) -> bool;
}
