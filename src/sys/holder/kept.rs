//! The children's pipes that a holder keeps: copies of the parent's ends, so that no child finds a
//! pipe without a reader while there is no parent. Reads none of them.

use super::{
    handover::Handover,
    messages::{self, NONE, Pipes},
};
use crate::core::child::ChildId;

/// The pipes of one child.
#[derive(Clone, Copy, Debug)]
struct KeptSlot {
    serial: u32,
    pipes: Pipes,
}

/// The pipes, by slot. Its memory is taken when it is made.
#[derive(Debug, Default)]
pub(super) struct KeptPipes {
    slots: Vec<KeptSlot>,
}

impl KeptPipes {
    pub(super) fn new(slots: usize) -> Self {
        let none = KeptSlot {
            serial: 0,
            pipes: [NONE; 3],
        };
        Self {
            slots: vec![none; slots],
        }
    }

    /// Keeps the pipes of a child in place of those of an earlier one in its slot.
    pub(super) fn put(&mut self, child: ChildId, pipes: Pipes) {
        let Some(slot) = self.slots.get_mut(child.slot()) else {
            return pipes.into_iter().for_each(messages::close);
        };
        let serial = child.serial();
        let earlier = std::mem::replace(slot, KeptSlot { serial, pipes });
        earlier.pipes.into_iter().for_each(messages::close);
    }

    /// Closes the pipes of a child.
    pub(super) fn close(&mut self, slot: usize, serial: u32) {
        self.take(slot, serial)
            .into_iter()
            .for_each(messages::close);
    }

    /// Closes what is kept for a slot.
    pub(super) fn clear(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            let pipes = std::mem::replace(&mut slot.pipes, [NONE; 3]);
            pipes.into_iter().for_each(messages::close);
        }
    }

    /// Shows their numbers.
    pub(super) fn show(&self, handover: &Handover) {
        for (slot, kept) in self.slots.iter().enumerate() {
            handover.show(slot, kept.serial, kept.pipes);
        }
    }

    /// The pipes of a child, for the parent that asks; they are kept no longer.
    pub(super) fn take(&mut self, slot: usize, serial: u32) -> Pipes {
        let kept = self.slots.get_mut(slot);
        let kept = kept.filter(|slot| slot.serial == serial);
        kept.map_or([NONE; 3], |slot| {
            std::mem::replace(&mut slot.pipes, [NONE; 3])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{ErrorKind, Write, pipe},
        os::fd::{IntoRawFd, RawFd},
    };

    /// The number of a read end, and the write end, by which is seen whether that is open.
    fn kept() -> (RawFd, std::io::PipeWriter) {
        let (read, write) = pipe().unwrap();
        (read.into_raw_fd(), write)
    }

    fn is_open(mut write: &std::io::PipeWriter) -> bool {
        let written = write.write_all(b"x");
        written.map_or_else(|error| error.kind() != ErrorKind::BrokenPipe, |()| true)
    }

    #[test]
    fn pipes_are_kept_until_they_are_dropped_or_the_slot_is_used_again() {
        let mut all = KeptPipes::new(2);
        let [first, second, third] = [1, 2, 3].map(|serial| ChildId::new(1, serial));
        let ((one, one_end), (two, two_end)) = (kept(), kept());
        all.put(first, [one, NONE, NONE]);
        assert!(is_open(&one_end));
        all.close(1, 9);
        assert!(is_open(&one_end), "that was another child");
        all.put(second, [two, NONE, NONE]);
        assert!(!is_open(&one_end) && is_open(&two_end));
        all.close(1, 2);
        assert!(!is_open(&two_end));
        let (three, three_end) = kept();
        all.put(third, [three, NONE, NONE]);
        assert_eq!(all.take(1, 3), [three, NONE, NONE]);
        assert_eq!(all.take(1, 3), [NONE; 3]);
        assert!(is_open(&three_end));
        all.put(third, [three, NONE, NONE]);
        all.clear(0);
        assert!(is_open(&three_end));
        all.clear(1);
        assert!(!is_open(&three_end));
    }

    #[test]
    fn a_child_without_a_slot_is_not_kept() {
        let (read, end) = kept();
        KeptPipes::new(1).put(ChildId::new(1, 1), [read, NONE, NONE]);
        assert!(!is_open(&end));
    }
}
