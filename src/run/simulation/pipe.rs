//! A model of a pipe: so many bytes and no more, read in pieces of any length. Knows no words.

use super::random::Random;
use std::collections::VecDeque;

/// How many bytes the kernel takes in one piece or not at all.
const ATOMIC: usize = 4096;

/// What a read has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Left {
    Nothing,
    More,
    End,
}

#[derive(Debug)]
pub(super) struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    closed: bool,
    /// Reading from it fails from now on.
    pub(super) broken: bool,
}

impl Pipe {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity,
            closed: false,
            broken: false,
        }
    }

    /// The last writer has gone.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn is_readable(&self) -> bool {
        !self.bytes.is_empty() || self.closed || self.broken
    }

    /// A short message goes in whole or, for want of room, not at all. False if it did not.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        debug_assert!(bytes.len() <= ATOMIC);
        if self.closed || self.bytes.len() + bytes.len() > self.capacity {
            return false;
        }
        self.bytes.extend(bytes);
        true
    }

    /// As much of a long one as there is room for.
    pub(super) fn flood(&mut self, byte: u8, count: usize) {
        if !self.closed {
            let room = (self.capacity - self.bytes.len()).min(count);
            self.bytes.extend(std::iter::repeat_n(byte, room));
        }
    }

    /// A read returns what it likes: nearly nothing, a part, everything.
    pub(super) fn read(&mut self, random: &mut Random, mut found: impl FnMut(&[u8])) -> Left {
        let all = self.bytes.len();
        let count = match random.below(8) {
            0 => all.min(1 + random.below(3) as usize),
            1 => random.below(1 + all as u64) as usize,
            _ => all,
        };
        let (head, tail) = self.bytes.as_slices();
        let of_head = count.min(head.len());
        found(&head[..of_head]);
        found(&tail[..count - of_head]);
        self.bytes.drain(..count);
        match (self.bytes.is_empty(), self.closed) {
            (false, _) => Left::More,
            (true, true) => Left::End,
            (true, false) => Left::Nothing,
        }
    }

    /// Everything that stands in it.
    pub(super) fn drain(&mut self, mut found: impl FnMut(&[u8])) {
        let (head, tail) = self.bytes.as_slices();
        found(head);
        found(tail);
        self.bytes.clear();
    }
}
