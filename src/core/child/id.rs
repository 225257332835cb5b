//! The name of a child: a slot, which is used again, and a serial number, which is not.

use std::fmt;

/// Names one child, the original's wheel ID.
///
/// Slots are used again, serials are not: the name of a child that has been reaped finds nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChildId {
    // The order of the fields matters: of children of the same age, the one with the smaller name,
    // which was forked first, counts as the oldest.
    serial: u32,
    slot: u32,
}

impl ChildId {
    pub(crate) const fn new(slot: u32, serial: u32) -> Self {
        Self { serial, slot }
    }

    pub(crate) const fn slot(self) -> usize {
        self.slot as usize
    }

    pub(crate) const fn serial(self) -> u32 {
        self.serial
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot, self.serial)
    }
}
