//! The checksum that a header of version 2 may carry, which a receiver must refuse if it is wrong.

use super::{V2_FIXED, length_of_addresses};

/// The type of the note that holds it.
const CRC32C: u8 = 0x03;
/// A note's type and length.
const NOTE_HEAD: usize = 3;

/// Whether the checksum of a whole header is right. True if it has none.
pub(crate) fn holds(header: &[u8]) -> bool {
    let Some(at) = place(header) else {
        return true;
    };
    let (before, rest) = header.split_at(at);
    let (stated, after) = rest.split_at(4);
    // It is computed over the header with zeros in its own place.
    crc32c([before, &[0; 4], after].into_iter().flatten()).to_be_bytes() == stated
}

/// Where the four bytes of the checksum are.
fn place(header: &[u8]) -> Option<usize> {
    let mut at = V2_FIXED + length_of_addresses(*header.get(13)?);
    while let Some(&[kind, high, low]) = header.get(at..at + NOTE_HEAD) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = at + NOTE_HEAD;
        if kind == CRC32C && length == 4 && value + length <= header.len() {
            return Some(value);
        }
        at = value + length;
    }
    None
}

/// The CRC of Castagnoli, as in RFC 4960, bit by bit: headers are short.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const REVERSED: u32 = 0x82F6_3B78;
    !bytes.fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (REVERSED & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::proxy::V2_SIGNATURE;

    #[test]
    fn the_crc_is_that_of_the_standard() {
        assert_eq!(crc32c(b"123456789".iter()), 0xE306_9283);
        assert_eq!(crc32c([0; 32].iter()), 0x8A91_36AA);
    }

    /// A header of IPv4 with a note of padding before the checksum.
    fn header(checksum: [u8; 4]) -> Vec<u8> {
        let notes = [&[4, 0, 2, 9, 9, CRC32C, 0, 4][..], &checksum].concat();
        let length = (12 + notes.len()) as u8;
        let fixed = [0x21, 0x11, 0, length];
        [V2_SIGNATURE, &fixed, &[7; 12], &notes].concat()
    }

    #[test]
    fn one_wrong_bit_anywhere_is_found() {
        let checksum = crc32c(header([0; 4]).iter()).to_be_bytes();
        let right = header(checksum);
        assert!(holds(&right));
        for bit in 16 * 8..(16 + 12 + 5) * 8 {
            let mut wrong = right.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            // A note that became shorter or longer may hide the checksum.
            let hides = place(&wrong) != place(&right);
            assert!(hides || !holds(&wrong), "bit {bit}");
        }
        for bit in right.len() * 8 - 32..right.len() * 8 {
            let mut wrong = right.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!holds(&wrong), "bit {bit}");
        }
    }

    #[test]
    fn a_header_without_a_checksum_holds() {
        let right = header([0; 4]);
        for end in 0..right.len() {
            assert!(holds(&right[..end]), "{end} bytes");
        }
    }
}
