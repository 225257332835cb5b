//! The last lines that a child wrote to stderr, cut and counted so that they take little memory.
//! Knows nothing of pipes.

use std::collections::VecDeque;

/// The last lines of one child, the newest last.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct LastLines(VecDeque<Vec<u8>>);

impl LastLines {
    /// A panic takes three lines, and its cause may be in the lines before it.
    const LINES: usize = 8;
    const BYTES_OF_EACH: usize = 256;

    /// Notes one more line. Its beginning is kept.
    pub(crate) fn note(&mut self, line: &[u8]) {
        // The buffer of the oldest line is used again: a child may write very many lines.
        let mut kept = match self.0.len() {
            Self::LINES => self.0.pop_front().unwrap_or_default(),
            _ => Vec::new(),
        };
        kept.clear();
        kept.extend_from_slice(&line[..line.len().min(Self::BYTES_OF_EACH)]);
        self.0.push_back(kept);
    }

    pub(super) fn last(&self) -> &[u8] {
        self.0.back().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// All of them as text, with a newline between two.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<_> = self.iter().map(String::from_utf8_lossy).collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_long_ones_are_cut() {
        let mut lines = LastLines::default();
        assert_eq!((lines.last(), lines.text()), (&b""[..], String::new()));
        for number in 0..20 {
            lines.note(format!("line {number}").as_bytes());
        }
        lines.note(&[b'a'; 1000]);
        lines.note(b"b");
        let kept: Vec<_> = lines.iter().collect();
        assert_eq!(kept.len(), LastLines::LINES);
        assert_eq!(kept[0], b"line 14");
        assert_eq!(kept[6], [b'a'; 256]);
        assert_eq!(lines.last(), b"b");
        assert!(lines.text().starts_with("line 14\nline 15\n"));
    }
}
