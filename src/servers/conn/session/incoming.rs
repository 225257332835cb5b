//! The input of one connection: what has arrived, what was taken of it, and what the filter finds in the
//! rest. Reads nothing itself.

use crate::servers::conn::{
    filter::{Filter, Input, Record},
    limit::Limit,
};
use std::io;

/// What the client has sent.
#[derive(Debug)]
pub(in crate::servers::conn) struct Incoming {
    bytes: Vec<u8>,
    /// How many bytes at its head have been taken.
    taken: usize,
    /// How many bytes of the rest the filter has searched without finding a record.
    seen: usize,
    /// The filter may have more records from input that it has taken.
    decoding: bool,
    pub(super) limit: usize,
    /// The filter cannot continue with this input; another filter or limit may.
    stuck: bool,
    /// Whether more can arrive.
    is_open: bool,
    /// Why no more can arrive: the object is told after the last record.
    ending: Option<io::Error>,
}

impl Incoming {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            taken: 0,
            seen: 0,
            decoding: false,
            limit,
            stuck: false,
            is_open: true,
            ending: None,
        }
    }

    pub(in crate::servers::conn) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(in crate::servers::conn) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// What was not taken yet.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Removes what was not taken yet.
    pub(super) fn take_all(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..std::mem::take(&mut self.taken));
        self.look_again();
        bytes
    }

    /// The filter or its limit is another one.
    pub(super) fn look_again(&mut self) {
        self.seen = 0;
        self.stuck = false;
    }

    pub(in crate::servers::conn) fn receive(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        self.bytes.extend_from_slice(bytes);
    }

    /// No more can arrive.
    pub(in crate::servers::conn) fn end(&mut self, why: io::Error) {
        self.is_open = false;
        self.ending = Some(why);
    }

    /// Why no more can arrive, once, unless the filter cannot continue.
    pub(in crate::servers::conn) fn take_ending(&mut self) -> Option<io::Error> {
        if self.stuck {
            return None;
        }
        self.ending.take()
    }

    /// Takes the next record into `buffer`. False if there is none, which is so after an error as well.
    pub(in crate::servers::conn) fn take_record(
        &mut self,
        filter: &mut dyn Filter,
        buffer: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if self.stuck {
            return Ok(false);
        }
        let found = self.try_find(filter, buffer);
        self.stuck = found.is_err();
        found
    }

    fn try_find(&mut self, filter: &mut dyn Filter, buffer: &mut Vec<u8>) -> io::Result<bool> {
        while let Some(record) = self.ask(filter)? {
            let pending = &self.bytes[self.taken..];
            buffer.clear();
            buffer.extend_from_slice(record.bytes(pending).unwrap_or_default());
            self.taken += record.consumed();
            self.seen = 0;
            self.decoding = record.is_made();
            if !record.is_nothing() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks the filter for a record in the input that was not taken yet.
    fn ask(&mut self, filter: &mut dyn Filter) -> io::Result<Option<Record>> {
        let pending = &self.bytes[self.taken..];
        if pending.is_empty() && !self.decoding {
            return Ok(None);
        }
        let input = Input::part(pending, self.seen, self.limit);
        let found = filter.next(&input)?;
        let needed = found.as_ref().map_or(pending.len(), Record::size);
        if needed > self.limit {
            return Err(Limit::Input(self.limit).into());
        }
        if found.as_ref().is_some_and(|it| !it.fits(pending.len())) {
            let reason = "the filter found a record that is not in the input";
            return Err(io::Error::other(reason));
        }
        if found.is_none() {
            self.seen = pending.len();
            self.decoding = false;
        }
        Ok(found)
    }
}
