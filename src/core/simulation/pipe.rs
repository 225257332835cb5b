//! A model of a pipe with a fixed capacity. Knows no words.

use crate::core::system::PipeRead;
use std::{collections::VecDeque, io};

/// Up to this many bytes the kernel writes all or nothing (PIPE_BUF).
const ATOMIC: usize = 4096;

#[derive(Debug)]
pub(super) struct ModelPipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    closed: bool,
    /// Something has arrived that the parent's edge-triggered poller has not reported.
    edge: bool,
    /// Reading from it fails from now on.
    broken: bool,
}

impl ModelPipe {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity,
            closed: false,
            edge: false,
            broken: false,
        }
    }

    /// The last writer has gone.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.edge = true;
    }

    /// Reading fails from now on.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
        self.edge = true;
    }

    /// What the poller reports, once: `None` if nothing has arrived, and whether it is the end.
    pub(super) fn take_edge(&mut self) -> Option<bool> {
        std::mem::take(&mut self.edge).then_some(self.closed || self.broken)
    }

    pub(super) fn has_edge(&self) -> bool {
        self.edge
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes a short message whole, or, without room, not at all. False if it did not.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        debug_assert!(bytes.len() <= ATOMIC);
        if self.closed || self.bytes.len() + bytes.len() > self.capacity {
            return false;
        }
        self.bytes.extend(bytes);
        self.edge = true;
        true
    }

    /// Writes as much of a long message as there is room for.
    pub(super) fn flood(&mut self, byte: u8, count: usize) {
        if !self.closed {
            let room = (self.capacity - self.bytes.len()).min(count);
            self.bytes.extend(std::iter::repeat_n(byte, room));
            self.edge = true;
        }
    }

    /// Reads like read(2): what is there, as far as the buffer has room.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<PipeRead> {
        if self.broken {
            return Err(io::Error::from_raw_os_error(5));
        }
        let count = self.bytes.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.bytes.drain(..count)) {
            *to = from;
        }
        Ok(match (count, self.closed) {
            (0, true) => PipeRead::End,
            (0, false) => PipeRead::Nothing,
            (count, _) => PipeRead::Bytes(count),
        })
    }
}
