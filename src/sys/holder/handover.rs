//! What a parent and its holder write to each other in an upgrade, for which the holder becomes another
//! program: which descriptors it has got, under which numbers, and the parent's final message. Shared by
//! the two alone. Decides nothing and executes nothing.

use super::messages::{NONE, Pipes};
use crate::{
    core::child::ChildId,
    sys::{shared_memory::SharedMemory, upgrade::LONGEST_INSTRUCTION as LONGEST},
};
use std::{
    io,
    os::fd::RawFd,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

/// How many descriptors can be handed over besides the pipes that the holder keeps anyway.
pub(super) const HANDED: usize = 1024;
const WORD: usize = size_of::<u64>();

// The words.
/// Whether an upgrade is under way: the holder reaps no process but the parent then.
const OPEN_AT: usize = 0;
/// The pid of the parent that has sent its final message.
const GOODBYE_AT: usize = 1;
/// How many descriptors of which attempt the holder has received, or failed to.
const RECEIVED_AT: usize = 2;
const PROGRAM_AT: usize = 3;
const IMAGE_AT: usize = 4;
const STATE_AT: usize = 5;
/// How many descriptors the exec keeps.
const KEEPS_AT: usize = 6;
/// The length of the instruction.
const LENGTH_AT: usize = 7;
/// How often it was tried.
const ATTEMPTS_AT: usize = 8;
const INSTRUCTION_AT: usize = 9;
/// The numbers of what was handed over, each plus one.
const HANDED_AT: usize = INSTRUCTION_AT + LONGEST / WORD;
/// The pipes that the holder keeps: for each slot the child's serial, and their numbers plus one.
const KEPT_AT: usize = HANDED_AT + HANDED;
const KEPT_WORDS: usize = 4;

/// The memory.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    memory: SharedMemory,
    slots: usize,
}

/// What the holder is to do, by the numbers that descriptors have there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct HolderOrders {
    /// The program that it becomes.
    pub(super) program: RawFd,
    /// The program that it is, which it executes again if the other one cannot be executed.
    pub(super) image: RawFd,
    pub(super) state: RawFd,
}

impl Handover {
    pub(super) fn new(slots: usize) -> io::Result<Self> {
        let kept = slots.checked_mul(KEPT_WORDS + super::messages::PIPES);
        let words = kept.and_then(|kept| kept.checked_add(KEPT_AT + HANDED));
        let length = words.and_then(|words| words.checked_mul(WORD));
        let length = length.ok_or(io::ErrorKind::OutOfMemory)?;
        let (memory, _) = SharedMemory::new(c"prefork-handover", length)?;
        Ok(Self { memory, slots })
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.owners_words()[at]
    }

    fn get(&self, at: usize) -> u64 {
        self.word(at).load(SeqCst)
    }

    fn set(&self, at: usize, word: u64) {
        self.word(at).store(word, SeqCst);
    }

    /// The parent begins. Returns the number of its attempt, which no other has: a holder that was
    /// stopped may still be busy with an earlier one.
    pub(super) fn open(&self) -> u32 {
        // OK to cut: no program tries that often.
        let attempt = self.get(ATTEMPTS_AT) as u32 + 1;
        self.set(ATTEMPTS_AT, attempt.into());
        self.set(OPEN_AT, 1);
        attempt
    }

    /// It is over, for either of them.
    pub(super) fn close(&self) {
        self.set(GOODBYE_AT, 0);
        self.set(OPEN_AT, 0);
    }

    pub(super) fn is_open(&self) -> bool {
        self.get(OPEN_AT) != 0
    }

    /// How many descriptors of this attempt the holder has received.
    pub(super) fn received(&self, attempt: u32) -> usize {
        let word = self.get(RECEIVED_AT);
        match word >> 32 == u64::from(attempt) {
            // OK to cut: the number is in the lower half.
            true => word as u32 as usize,
            false => 0,
        }
    }

    /// The holder has received these of an attempt, from the one with this index on.
    pub(super) fn receive(&self, attempt: u32, first: usize, fds: &[RawFd]) {
        for (at, fd) in (first..HANDED).zip(fds) {
            self.set(HANDED_AT + at, word(*fd));
        }
        let received = (first + fds.len()) as u64;
        self.set(RECEIVED_AT, u64::from(attempt) << 32 | received);
    }

    /// The number that the holder has for the descriptor with this index.
    pub(super) fn handed(&self, index: usize) -> Option<RawFd> {
        let known = (index < HANDED).then(|| self.get(HANDED_AT + index));
        known.map(number).filter(|fd| *fd != NONE)
    }

    /// The holder shows which pipes it keeps.
    pub(super) fn show(&self, slot: usize, serial: u32, pipes: Pipes) {
        if slot < self.slots {
            let at = KEPT_AT + slot * KEPT_WORDS;
            self.set(at, serial.into());
            for (at, fd) in (at + 1..).zip(pipes) {
                self.set(at, word(fd));
            }
        }
    }

    /// The pipes of a child that the holder keeps.
    pub(super) fn kept(&self, child: ChildId) -> Pipes {
        let at = KEPT_AT + child.slot() * KEPT_WORDS;
        let is_kept = child.slot() < self.slots && self.get(at) == child.serial().into();
        match is_kept {
            true => [1, 2, 3].map(|pipe| number(self.get(at + pipe))),
            false => [NONE; 3],
        }
    }

    /// The final message of a parent: from now on the holder goes on. False if it is too long.
    pub(super) fn announce_end(
        &self,
        orders: &HolderOrders,
        keeps: &[RawFd],
        instruction: &str,
    ) -> bool {
        let room = HANDED + self.slots * super::messages::PIPES;
        if keeps.len() > room || instruction.len() > LONGEST {
            return false;
        }
        for (at, fd) in (self.keeps_at()..).zip(keeps) {
            self.set(at, word(*fd));
        }
        for (at, part) in (INSTRUCTION_AT..).zip(instruction.as_bytes().chunks(WORD)) {
            let mut bytes = [0; WORD];
            bytes[..part.len()].copy_from_slice(part);
            self.set(at, u64::from_le_bytes(bytes));
        }
        self.set(PROGRAM_AT, word(orders.program));
        self.set(IMAGE_AT, word(orders.image));
        self.set(STATE_AT, word(orders.state));
        self.set(KEEPS_AT, keeps.len() as u64);
        self.set(LENGTH_AT, instruction.len() as u64);
        // Last: it makes the others valid.
        self.set(GOODBYE_AT, std::process::id().into());
        true
    }

    fn keeps_at(&self) -> usize {
        KEPT_AT + self.slots * KEPT_WORDS
    }

    /// What a parent that is gone has left to the holder to do, if it has sent its final message.
    pub(super) fn orders_of(&self, parent: u32) -> Option<HolderOrders> {
        let said = self.is_open() && self.get(GOODBYE_AT) == u64::from(parent);
        said.then(|| HolderOrders {
            program: number(self.get(PROGRAM_AT)),
            image: number(self.get(IMAGE_AT)),
            state: number(self.get(STATE_AT)),
        })
    }

    /// The descriptors that the exec keeps.
    pub(super) fn keeps(&self) -> impl Iterator<Item = RawFd> {
        let room = HANDED + self.slots * super::messages::PIPES;
        let count = (self.get(KEEPS_AT) as usize).min(room);
        let all = self.keeps_at()..self.keeps_at() + count;
        all.map(|at| number(self.get(at)))
    }

    /// What the program is told.
    pub(super) fn instruction<'b>(&self, buffer: &'b mut [u8; LONGEST]) -> &'b [u8] {
        for (at, part) in (INSTRUCTION_AT..).zip(buffer.chunks_exact_mut(WORD)) {
            part.copy_from_slice(&self.get(at).to_le_bytes());
        }
        &buffer[..(self.get(LENGTH_AT) as usize).min(LONGEST)]
    }
}

/// A number as a word, which is 0 for none.
fn word(fd: RawFd) -> u64 {
    u64::try_from(fd).map_or(0, |fd| fd + 1)
}

fn number(word: u64) -> RawFd {
    // OK to cut: it was made of a number.
    match word {
        0 => NONE,
        _ => (word - 1) as RawFd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reads_what_the_other_has_written() {
        let handover = Handover::new(3).unwrap();
        let child = ChildId::new(2, 9);
        assert!(!handover.is_open());
        let attempt = handover.open();
        assert_eq!(handover.received(attempt), 0);
        handover.receive(attempt, 0, &[7, NONE, 0]);
        handover.receive(attempt, 3, &[12]);
        assert_eq!(handover.received(attempt), 4);
        let all: Vec<_> = (0..5).map(|at| handover.handed(at)).collect();
        assert_eq!(all, [Some(7), None, Some(0), Some(12), None]);
        assert_eq!(handover.kept(child), [NONE; 3]);
        handover.show(2, 9, [20, NONE, 21]);
        assert_eq!(handover.kept(child), [20, NONE, 21]);
        for other in [ChildId::new(2, 10), ChildId::new(1, 9), ChildId::new(3, 9)] {
            assert_eq!(handover.kept(other), [NONE; 3], "{other}");
        }
    }

    /// A holder that was stopped receives what an attempt has sent that is long over.
    #[test]
    fn what_an_earlier_attempt_has_sent_is_not_taken_for_that_of_the_next() {
        let handover = Handover::new(1).unwrap();
        let first = handover.open();
        handover.receive(first, 0, &[7, 8]);
        handover.close();
        let second = handover.open();
        assert_eq!(handover.received(second), 0);
        handover.receive(first, 2, &[9]);
        assert_eq!(handover.received(second), 0);
        handover.receive(second, 0, &[7]);
        assert_eq!(handover.received(second), 1);
    }

    /// A parent may be killed before its final message, or may not be the one that has sent it.
    #[test]
    fn only_the_final_message_of_the_parent_that_is_gone_counts() {
        let handover = Handover::new(1).unwrap();
        let own = std::process::id();
        let orders = HolderOrders {
            program: 5,
            image: 6,
            state: 7,
        };
        handover.open();
        assert_eq!(handover.orders_of(own), None);
        let text = "forth 1 7 6";
        assert!(handover.announce_end(&orders, &[7, 8, 9], text));
        assert_eq!(handover.orders_of(own), Some(orders));
        assert_eq!(handover.orders_of(own + 1), None);
        assert_eq!(handover.keeps().collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(handover.instruction(&mut [0; LONGEST]), text.as_bytes());
        handover.close();
        assert_eq!(handover.orders_of(own), None, "it is over");
        let longest = "x".repeat(LONGEST);
        handover.open();
        assert!(handover.announce_end(&orders, &[3; HANDED + 3], &longest));
        assert_eq!(handover.instruction(&mut [0; LONGEST]), longest.as_bytes());
        assert_eq!(handover.keeps().count(), HANDED + 3);
        assert!(!handover.announce_end(&orders, &[3; HANDED + 4], ""));
        assert!(!handover.announce_end(&orders, &[], &"x".repeat(LONGEST + 1)));
    }
}
