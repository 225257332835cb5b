//! The output of one connection: what waits for the client, and how much may. Writes nothing itself.

use crate::servers::conn::filter::Filter;
use std::io;

/// What is to be written to the client.
#[derive(Debug)]
pub(in crate::servers::conn) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    /// Bytes in posted puts: they count as output.
    posted: usize,
    pub(super) limit: usize,
    /// Whether anything can be put and written.
    pub(super) is_open: bool,
}

/// Why a record is not sent.
pub(super) enum Unsent {
    /// The filter refuses it.
    Refused(io::Error),
    /// More would wait than may.
    TooMuch,
}

impl Outgoing {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            written: 0,
            posted: 0,
            limit,
            is_open: true,
        }
    }

    /// What is to be written next.
    pub(in crate::servers::conn) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// How many bytes wait for the client, posted ones included.
    pub(super) fn pending(&self) -> usize {
        self.bytes.len() - self.written + self.posted
    }

    /// Adds a record, or nothing of it.
    pub(super) fn put(&mut self, filter: &mut dyn Filter, record: &[u8]) -> Result<(), Unsent> {
        let before = self.bytes.len();
        let put = match filter.put(record, &mut self.bytes) {
            Err(error) => Err(Unsent::Refused(error)),
            Ok(()) if self.pending() > self.limit => Err(Unsent::TooMuch),
            Ok(()) => Ok(()),
        };
        if put.is_err() {
            self.bytes.truncate(before);
        }
        put
    }

    /// Counts a record of this length that is posted. False if it is too much.
    pub(super) fn promise(&mut self, length: usize) -> bool {
        let fits = self.pending().saturating_add(length) <= self.limit;
        if fits {
            self.posted += length;
        }
        fits
    }

    /// A posted record of this length is put now.
    pub(in crate::servers::conn) fn redeem(&mut self, length: usize) {
        self.posted -= length;
    }

    /// So many bytes have been written. True if they were the last.
    pub(in crate::servers::conn) fn wrote(&mut self, count: usize) -> bool {
        self.written += count;
        if self.written >= self.bytes.len() {
            self.clear();
            return true;
        }
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..std::mem::take(&mut self.written));
        }
        false
    }

    /// Nothing more can be written.
    pub(in crate::servers::conn) fn fail(&mut self) {
        self.is_open = false;
        self.clear();
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }
}
