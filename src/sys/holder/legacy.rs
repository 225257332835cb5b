//! What a holder has from the beginning, if an earlier program has left a pool to the process: it notes
//! that for parents after the first. Adopts nothing.

use super::{journal_memory::Journal, kept::KeptPipes, messages::NONE};
use crate::core::{
    journal::JournalRecord, notes::PoolNote, signal_policy::Arrived, state::ChildState,
};

/// What a holder has from the beginning of an earlier program's pool.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    pub(crate) note: PoolNote,
    /// A state for the second parent, if the first saves none.
    pub(crate) saved: Vec<u8>,
    pub(crate) children: Vec<ChildState>,
}

impl Legacy {
    pub(super) fn note_in(&self, journal: &Journal) {
        journal.note_pool(&self.note, &Arrived::default());
        if !self.saved.is_empty() {
            // OK to ignore: the one that has made this has made it fit.
            journal.save(&self.saved);
        }
        for child in &self.children {
            journal.put(child.slot as usize, &JournalRecord::adopted(child));
        }
    }

    pub(super) fn pipes(&self, slots: usize) -> KeptPipes {
        let mut kept = KeptPipes::new(slots);
        for child in &self.children {
            let pipe = |at| child.pipe(at).fd.map_or(NONE, u32::cast_signed);
            kept.put(child.id(), [0, 1, 2].map(pipe));
        }
        kept
    }
}
