//! Cuts what a client sends into lines, of which each is a command. Holds one line at most beyond
//! those that are complete; understands none of them.

/// The longest line that is a command, in bytes, without its newline.
pub(crate) const LONGEST: usize = 8 * 1024;

/// A line, or what is wrong with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum LineResult {
    /// A line without its end: a newline, or a carriage return and a newline.
    Line(String),
    /// It is longer than [`LONGEST`]. The rest of it is dropped.
    TooLong,
    /// It is not UTF-8.
    NoText,
}

/// What a client has sent and was not cut yet. The result does not depend on how reads split it.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    /// The rest of a line that is too long is being dropped.
    skips: bool,
}

impl LineBuffer {
    /// What another program has left of a stream, and whether the rest of a line is being dropped.
    pub(super) fn restored(bytes: Vec<u8>, skips: bool) -> Self {
        Self { bytes, skips }
    }

    /// What [`restored`](Self::restored) takes.
    pub(super) fn left(&self) -> (Vec<u8>, bool) {
        (self.bytes.clone(), self.skips)
    }

    /// How many bytes it takes now.
    pub(crate) fn room(&self) -> usize {
        // One more than a line shows that the line is too long.
        (LONGEST + 1).saturating_sub(self.bytes.len())
    }

    /// Takes what was read: at most [`room`](Self::room) bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        if self.skips {
            let Some(end) = newline(bytes) else {
                return;
            };
            self.skips = false;
            bytes = &bytes[end + 1..];
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether [`next`](Self::next) has something. `ended` says that nothing more comes.
    pub(crate) fn is_ready(&self, ended: bool) -> bool {
        let unfinished = ended && !self.bytes.is_empty();
        unfinished || self.bytes.len() > LONGEST || newline(&self.bytes).is_some()
    }

    /// The next line. At the end, what has no newline is a line as well.
    pub(crate) fn next(&mut self, ended: bool) -> Option<LineResult> {
        if let Some(end) = newline(&self.bytes) {
            let line = self.bytes.drain(..=end).collect();
            return Some(text(line));
        }
        if self.bytes.len() > LONGEST {
            self.bytes.clear();
            self.skips = true;
            return Some(LineResult::TooLong);
        }
        let unfinished = ended && !self.bytes.is_empty();
        unfinished.then(|| text(std::mem::take(&mut self.bytes)))
    }
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

pub(super) fn text(line: Vec<u8>) -> LineResult {
    match String::from_utf8(line) {
        Ok(mut line) => {
            line.truncate(line.trim_end_matches(['\n', '\r']).len());
            LineResult::Line(line)
        }
        Err(_) => LineResult::NoText,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All lines of a stream that is read in pieces of these sizes, in turn.
    fn cut(stream: &[u8], sizes: &[usize]) -> Vec<LineResult> {
        let (mut lines, mut found) = (LineBuffer::default(), Vec::new());
        let mut sizes = sizes.iter().cycle();
        let mut rest = stream;
        while !rest.is_empty() {
            let size = sizes.next().copied().unwrap_or(1).max(1);
            let (head, tail) = rest.split_at(size.min(lines.room()).min(rest.len()));
            lines.push(head);
            assert!(lines.bytes.len() <= LONGEST + 1);
            while lines.is_ready(false) {
                found.extend(lines.next(false));
            }
            assert_eq!(lines.next(false), None);
            rest = tail;
        }
        found.extend(lines.next(true));
        assert_eq!((lines.is_ready(true), lines.next(true)), (false, None));
        found
    }

    fn line(text: &str) -> LineResult {
        LineResult::Line(text.to_owned())
    }

    #[test]
    fn a_stream_is_cut_at_its_newlines() {
        let found = cut(b"reload\r\n\nget x\n\xff\nshow", &[1000]);
        let expected = [
            line("reload"),
            line(""),
            line("get x"),
            LineResult::NoText,
            line("show"),
        ];
        assert_eq!(found, expected);
        assert_eq!(cut(b"", &[1]), []);
    }

    /// A command that is longer than any is refused once, and the next one is read.
    #[test]
    fn n03_a_line_that_is_too_long_is_one_refusal() {
        let long = |length| [vec![b'x'; length], b"\nshow\n".to_vec()].concat();
        let found = cut(&long(LONGEST), &[3000]);
        assert_eq!(found, [line(&"x".repeat(LONGEST)), line("show")]);
        for length in [LONGEST + 1, LONGEST + 2, 10 * LONGEST] {
            assert_eq!(
                cut(&long(length), &[3000]),
                [LineResult::TooLong, line("show")]
            );
        }
        assert_eq!(cut(&vec![b'x'; 3 * LONGEST], &[100]), [LineResult::TooLong]);
    }

    proptest! {
        #[test]
        fn reads_change_nothing(
            pieces in proptest::collection::vec((any::<u8>(), 1..6000usize), 0..12),
            sizes in proptest::collection::vec(1..9000usize, 1..5),
        ) {
            // Runs of one byte, every third of them a newline.
            let runs = pieces.iter().map(|&(byte, count)| match byte % 3 {
                0 => vec![b'\n'; count % 3 + 1],
                _ => vec![byte; count],
            });
            let stream: Vec<u8> = runs.flatten().collect();
            prop_assert_eq!(cut(&stream, &sizes), cut(&stream, &[LONGEST + 1]));
        }
    }
}
