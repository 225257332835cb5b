//! Where a PROXY protocol header ends, and whether it follows the specification exactly. Looks at
//! bytes that were received; reads none, and interprets no address.

pub(crate) mod checksum;
pub(crate) mod line;
#[cfg(test)]
mod tests;

/// What every header of version 2 begins with.
pub(crate) const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, a byte for version and command, one for the family, two for the length.
pub(crate) const V2_FIXED: usize = 16;
/// The longest header of version 2 that is taken. What is longer is no address and no note, and a
/// child would have to hold it in memory.
pub(crate) const V2_LONGEST: usize = 16 * 1024;
/// What every header of version 1 begins with.
const V1_PREFIX: &[u8] = b"PROXY ";
/// The longest header of version 1, its end included: so says the specification.
pub(crate) const V1_LONGEST: usize = 107;

/// Bytes that are no PROXY protocol header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

/// A header that is being received, up to its last byte and never beyond it.
#[derive(Debug, Default)]
pub(crate) struct HeaderReader {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl HeaderReader {
    /// Takes what belongs to the header from the beginning of `seen`, and says how many bytes.
    ///
    /// The rest is the client's. Unless the header is whole now, all of `seen` belonged to it.
    pub(crate) fn take(&mut self, seen: &[u8]) -> Result<usize, Malformed> {
        let before = self.bytes.len();
        for &byte in seen {
            if self.is_whole {
                break;
            }
            self.bytes.push(byte);
            self.is_whole = self.check_last()?;
        }
        Ok(self.bytes.len() - before)
    }

    /// Whether the last byte of the header was taken.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The header as far as it was taken.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the byte that was taken last ends the header.
    fn check_last(&self) -> Result<bool, Malformed> {
        match self.bytes.first() {
            Some(b'P') => self.ends_line(),
            Some(b'\r') => self.ends_block(),
            _ => Err(Malformed),
        }
    }

    /// Version 1: a line that ends with CR and LF.
    fn ends_line(&self) -> Result<bool, Malformed> {
        let bytes = &self.bytes;
        let checked = bytes.len().min(V1_PREFIX.len());
        let after_cr = bytes.len() >= 2 && bytes[bytes.len() - 2] == b'\r';
        let ends = bytes.last() == Some(&b'\n');
        let fits = bytes.len() < V1_LONGEST || (ends && bytes.len() == V1_LONGEST);
        if bytes[..checked] != V1_PREFIX[..checked] || after_cr != ends || !fits {
            return Err(Malformed);
        }
        Ok(ends)
    }

    /// Version 2: a block that has its length in it.
    fn ends_block(&self) -> Result<bool, Malformed> {
        let bytes = &self.bytes;
        let checked = bytes.len().min(V2_SIGNATURE.len());
        if bytes[..checked] != V2_SIGNATURE[..checked] {
            return Err(Malformed);
        }
        // The version is 2, the command LOCAL or PROXY.
        if bytes
            .get(12)
            .is_some_and(|byte| !matches!(byte, 0x20 | 0x21))
        {
            return Err(Malformed);
        }
        match length_of_block(bytes) {
            Some(length) if length > V2_LONGEST => Err(Malformed),
            length => Ok(length == Some(bytes.len())),
        }
    }
}

/// The length of a header of version 2, once the bytes that say it are there.
fn length_of_block(bytes: &[u8]) -> Option<usize> {
    let length = [*bytes.get(14)?, *bytes.get(15)?];
    Some(V2_FIXED + usize::from(u16::from_be_bytes(length)))
}

/// How many bytes of a header of version 2 the addresses take; none if the family is unknown.
fn length_of_addresses(family: u8) -> usize {
    match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    }
}
