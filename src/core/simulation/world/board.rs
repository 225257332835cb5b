//! The board of the model world: what children have noted, and whether the parent looks.

use super::*;

/// What the children note, by slot, and the parent's word that it will look.
#[derive(Debug)]
pub(super) struct ModelBoard {
    pub(super) entries: Vec<BoardEntry>,
    /// When the connections in hand began, and how many there were.
    pub(super) since: Vec<Option<Time>>,
    pub(super) requests: Vec<u64>,
    pub(super) will_look: bool,
    /// Whether this world's children use it.
    is_used: bool,
}

impl ModelBoard {
    pub(super) fn new(slots: usize, is_used: bool) -> Self {
        Self {
            entries: vec![BoardEntry::default(); slots],
            since: vec![None; slots],
            requests: vec![0; slots],
            will_look: false,
            is_used,
        }
    }

    /// Notes the state. True if the parent will look.
    pub(super) fn note(&mut self, id: ChildId, busy: bool) -> bool {
        let Some(entry) = self.entries.get_mut(id.slot()) else {
            return false;
        };
        if !self.is_used || !entry.is_of(id.serial()) {
            return false;
        }
        *entry = entry.after(busy);
        !entry.is_to_be_printed() && self.will_look
    }

    /// Notes that a connection begins.
    pub(super) fn begin(&mut self, id: ChildId, now: Time) {
        if self.owns_slot(id) {
            self.since[id.slot()] = Some(now);
            self.requests[id.slot()] += 1;
        }
    }

    pub(super) fn end(&mut self, id: ChildId) {
        if self.owns_slot(id) {
            self.since[id.slot()] = None;
        }
    }

    pub(super) fn owns_slot(&self, id: ChildId) -> bool {
        let entry = self.entries.get(id.slot());
        entry.is_some_and(|entry| entry.is_of(id.serial()))
    }

    pub(super) fn in_hand(&self, slot: usize) -> InHand {
        InHand {
            since: self.since.get(slot).copied().flatten(),
            extended_until: None,
        }
    }

    pub(super) fn set(&mut self, slot: usize, entry: BoardEntry) -> bool {
        let place = self.entries.get_mut(slot);
        place.is_some_and(|place| {
            *place = entry;
            self.since[slot] = None;
            self.requests[slot] = 0;
            true
        })
    }
}
