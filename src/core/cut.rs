//! Cuts bytes into pieces, as reads do, for tests and for fuzzing. Does not interpret them.

/// Cuts `bytes` into pieces of the given `lengths`, which are used again and again.
///
/// A length of zero gives an empty piece; without lengths there is one piece.
pub(crate) fn cut<'a>(bytes: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    cut_by(bytes, lengths, 1)
}

/// Does the same with lengths counted in units of `unit` bytes.
pub(crate) fn cut_by<'a>(bytes: &'a [u8], lengths: &[u8], unit: usize) -> Vec<&'a [u8]> {
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
    use super::*;

    #[test]
    fn cutting_loses_nothing() {
        let bytes = b"abcdefg";
        for lengths in [&b""[..], &[0], &[1], &[0, 3], &[2, 1], &[255]] {
            assert_eq!(cut(bytes, lengths).concat(), bytes);
        }
        assert_eq!(cut_by(bytes, &[0, 3], 2)[..2], [&b""[..], b"abcdef"]);
        assert_eq!(cut(bytes, &[0, 3])[..2], [&b""[..], b"abc"]);
    }
}
