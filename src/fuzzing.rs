//! What must hold for any bytes, as functions of bytes: the fuzz targets under `fuzz/` call them with
//! what a fuzzer makes up, and a test with the corpus. Panics where something does not hold; touches
//! no system.

mod framer;
mod listen_fds;

pub use self::{framer::framer, listen_fds::listen_fds};
pub use crate::servers::conn::segmentation::filters;

/// Decisions, and then the bytes that they are about, from one piece of input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// As many as the next byte says, or as there are.
    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.0.len());
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Cuts `bytes` into pieces as long as `lengths` say, over and over; a length of zero is a piece of
/// nothing, and without lengths there is one piece.
pub(crate) fn cut<'a>(bytes: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    cut_by(bytes, lengths, 1)
}

/// The same in another unit of length than a byte.
fn cut_by<'a>(bytes: &'a [u8], lengths: &[u8], unit: usize) -> Vec<&'a [u8]> {
    let progress = lengths.iter().any(|length| *length > 0);
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut lengths = lengths.iter().cycle();
    while progress && !rest.is_empty() {
        let length = unit * usize::from(*lengths.next().unwrap_or(&1));
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Calls `property` with each file of a target's corpus. A package has no corpus in it.
    fn each(target: &str, property: fn(&[u8])) {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        if !fuzz.exists() {
            return;
        }
        let entries = fs::read_dir(fuzz.join("corpus").join(target)).unwrap();
        let mut count = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            property(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count >= 10, "only {count} files in the corpus of {target}");
    }

    #[test]
    fn the_corpus_of_framer_holds() {
        each("framer", super::framer);
    }

    #[test]
    fn the_corpus_of_filters_holds() {
        each("filters", super::filters);
    }

    #[test]
    fn the_corpus_of_listen_fds_holds() {
        each("listen_fds", super::listen_fds);
    }

    #[test]
    fn cutting_loses_nothing() {
        let bytes = b"abcdefg";
        for lengths in [&b""[..], &[0], &[1], &[0, 3], &[2, 1], &[255]] {
            assert_eq!(super::cut(bytes, lengths).concat(), bytes);
        }
        assert_eq!(super::cut_by(bytes, &[0, 3], 2)[..2], [&b""[..], b"abcdef"]);
        assert_eq!(super::cut(bytes, &[0, 3])[..2], [&b""[..], b"abc"]);
    }
}
