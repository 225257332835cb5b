//! The text in which the process that reads stacks tells the parent what it found: a line for each
//! stack, each frame, each end. Bounded, and takes any bytes: the process may be cut off at any time.

use super::Frame;
use std::fmt::Write;

/// How many frames of a stack are told, inlined ones included.
pub(crate) const MOST_FRAMES: usize = 256;
/// How long a line may be; a longer one is dropped.
const LONGEST: usize = 8192;
/// How many bytes of a name are told.
const LONGEST_NAME: usize = 1024;
/// Between the fields of a line.
const SEPARATOR: char = '\t';

/// The complete stack of the child with this slot and serial.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ChildStack {
    pub(crate) slot: u32,
    pub(crate) serial: u32,
    pub(crate) frames: Vec<Frame>,
}

impl ChildStack {
    /// Its text.
    pub(crate) fn lines(&self) -> String {
        let mut text = format!("child{SEPARATOR}{}{SEPARATOR}{}\n", self.slot, self.serial);
        for frame in self.frames.iter().take(MOST_FRAMES) {
            write_frame(&mut text, frame);
        }
        text.push_str("end\n");
        text
    }

    fn begin(line: &str) -> Option<Self> {
        let (slot, serial) = line.strip_prefix("child\t")?.split_once(SEPARATOR)?;
        Some(Self {
            slot: slot.parse().ok()?,
            serial: serial.parse().ok()?,
            frames: Vec::new(),
        })
    }
}

fn write_frame(text: &mut String, frame: &Frame) {
    let function = cleaned(frame.function().unwrap_or_default());
    let file = cleaned(frame.file().unwrap_or_default());
    let line = frame.line().unwrap_or(0);
    // OK to ignore: writing to a string cannot fail.
    let _ = writeln!(text, "{:x}\t{function}\t{file}\t{line}", frame.address);
}

/// A name from debug information may be anything.
fn cleaned(name: &str) -> String {
    let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut cut = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    name[..cut].chars().map(printable).collect()
}

fn frame(line: &str) -> Option<Frame> {
    let mut fields = line.split(SEPARATOR);
    let mut next = || fields.next();
    let (address, function, file, number) = (next()?, next()?, next()?, next()?);
    let known = |text: &str| (!text.is_empty()).then(|| cleaned(text));
    Some(Frame {
        address: u64::from_str_radix(address, 16).ok()?,
        function: known(function),
        file: known(file),
        line: number.parse().ok().filter(|line| *line > 0),
    })
}

/// Takes the text in pieces.
#[derive(Debug, Default)]
pub(crate) struct StackParser {
    line: Vec<u8>,
    /// The line is too long and is left out.
    too_long: bool,
    current: Option<ChildStack>,
}

impl StackParser {
    /// Takes a piece, and passes each stack that is complete to `found`.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(ChildStack)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (body, ends) = match piece.split_last() {
                Some((b'\n', body)) => (body, true),
                _ => (piece, false),
            };
            self.add(body);
            if ends && let Some(told) = self.end_line() {
                found(told);
            }
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.too_long |= self.line.len() + bytes.len() > LONGEST;
        if !self.too_long {
            self.line.extend_from_slice(bytes);
        }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.line.len()
    }

    fn end_line(&mut self) -> Option<ChildStack> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            return None;
        }
        let line = String::from_utf8_lossy(&line);
        if line == "end" {
            return self.current.take();
        }
        if let Some(told) = ChildStack::begin(&line) {
            self.current = Some(told);
        } else if let (Some(told), Some(frame)) = (&mut self.current, frame(&line))
            && told.frames.len() < MOST_FRAMES
        {
            told.frames.push(frame);
        }
        None
    }
}
