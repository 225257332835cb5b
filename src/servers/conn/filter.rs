//! Filters: where in a stream of bytes a record ends, and how a record is written. Bytes that a
//! filter has not taken stay with the session, so another filter can replace it in mid-stream.
//! Never reads, writes or waits.

use std::{fmt, io, ops::Range};

/// Finds records in the input and encodes them into the output.
///
/// The original's POE::Filter.
///
/// Input stays with the [`Session`](super::Session) until a record has been found in it. So a
/// filter needs no buffer of its own and can be exchanged during a connection without loss. A
/// filter that decodes returns bytes of its own: [`Record::made`]. Runs in the child.
///
/// ```
/// use prefork_server::servers::conn::{Filter, Input, Record};
/// use std::io;
///
/// /// Records that begin with a byte that says how long they are.
/// struct Netstring;
///
/// impl Filter for Netstring {
///     fn next(&mut self, input: &Input<'_>) -> io::Result<Option<Record>> {
///         let Some(&length) = input.bytes().first() else {
///             return Ok(None);
///         };
///         let end = 1 + usize::from(length);
///         Ok((input.bytes().len() >= end).then(|| Record::new(1..end, end)))
///     }
///
///     fn put(&mut self, record: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
///         let length = u8::try_from(record.len())
///             .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "longer than 255 bytes"))?;
///         output.push(length);
///         output.extend_from_slice(record);
///         Ok(())
///     }
/// }
/// ```
pub trait Filter {
    /// Finds the record at the head of the input. `None` if it is not complete.
    ///
    /// After `None` this is called again when more has arrived, with the same bytes at the head.
    ///
    /// # Errors
    ///
    /// When the input is not valid for this filter. The error goes to
    /// [`handler_error`](super::ConnClass::handler_error) as a read error, and the filter is not
    /// called again unless the handler sets another one.
    fn next(&mut self, input: &Input<'_>) -> io::Result<Option<Record>>;

    /// Appends `record` to `output`, encoded.
    ///
    /// # Errors
    ///
    /// When the record cannot be written by this filter. The error goes to
    /// [`handler_error`](super::ConnClass::handler_error) as a write error, and nothing of the
    /// record is written.
    fn put(&mut self, record: &[u8], output: &mut Vec<u8>) -> io::Result<()>;
}

impl<F: Filter + ?Sized> Filter for Box<F> {
    fn next(&mut self, input: &Input<'_>) -> io::Result<Option<Record>> {
        (**self).next(input)
    }

    fn put(&mut self, record: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        (**self).put(record, output)
    }
}

/// The input of a filter: everything that has arrived and was not taken yet.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
    seen: usize,
    limit: usize,
}

impl<'a> Input<'a> {
    /// New bytes without a limit: for a filter's tests.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::part(bytes, 0, usize::MAX)
    }

    pub(super) fn part(bytes: &'a [u8], seen: usize, limit: usize) -> Self {
        Self { bytes, seen, limit }
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes, from the head, this filter was shown before.
    ///
    /// It has found no record in them, so there is no need to search them again.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// How many bytes of input a record may take: a longer one is an error.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

/// A record, and how much of the input it takes.
///
/// It is a part of the input, or bytes that the filter has made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    content: Content,
    consumed: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Content {
    /// A part of the input.
    Part(Range<usize>),
    /// Other bytes.
    Made(Vec<u8>),
    /// There is no record yet.
    Nothing,
}

impl Record {
    /// The record that is in `range`.
    ///
    /// The next begins after `consumed` bytes, which must be at least one, must cover the range and
    /// must be there.
    pub fn new(range: Range<usize>, consumed: usize) -> Self {
        Self {
            content: Content::Part(range),
            consumed,
        }
    }

    /// A record of other bytes than those in the input.
    ///
    /// For a filter that decodes or decompresses. The next begins after `consumed` bytes.
    ///
    /// `consumed` may be 0 where the same input yields several records: after a record that was
    /// made, the filter is called again, even with empty input, until it returns `None`. Such a
    /// record may not be longer than the [input limit](super::Session::input_limit) either, which
    /// bounds what a client can send compressed; an empty one must take some of the input.
    pub fn made(bytes: impl Into<Vec<u8>>, consumed: usize) -> Self {
        Self {
            content: Content::Made(bytes.into()),
            consumed,
        }
    }

    /// No record yet, but `consumed` bytes of the input were processed, at least one.
    ///
    /// The filter is called again with what follows.
    pub fn nothing(consumed: usize) -> Self {
        Self {
            content: Content::Nothing,
            consumed,
        }
    }

    /// The bytes of the record, if it was found in `input`.
    ///
    /// `None` if there is none yet, or the record is not within the input.
    pub fn bytes<'a>(&'a self, input: &'a [u8]) -> Option<&'a [u8]> {
        match &self.content {
            Content::Part(range) => input.get(range.clone()),
            Content::Made(bytes) => Some(bytes),
            Content::Nothing => None,
        }
    }

    /// How much of the input it takes, with its delimiters.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// Whether the filter may find another record in the same input, or in empty input.
    pub(super) fn is_made(&self) -> bool {
        matches!(self.content, Content::Made(_))
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.content == Content::Nothing
    }

    /// How much counts for the input limit.
    pub(super) fn size(&self) -> usize {
        match &self.content {
            Content::Made(bytes) => bytes.len().max(self.consumed),
            Content::Part(_) => self.consumed,
            // Processed input takes no room.
            Content::Nothing => 0,
        }
    }

    /// Whether it lies within `length` bytes of input and makes progress.
    pub(super) fn fits(&self, length: usize) -> bool {
        let is_there = match &self.content {
            Content::Part(range) => range.start <= range.end && range.end <= self.consumed,
            Content::Made(_) | Content::Nothing => true,
        };
        let is_progress = match &self.content {
            Content::Made(bytes) => self.consumed > 0 || !bytes.is_empty(),
            Content::Part(_) | Content::Nothing => self.consumed > 0,
        };
        is_there && is_progress && self.consumed <= length
    }
}

/// What ends a line.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum LineEnd {
    /// A line feed alone.
    #[default]
    Lf,
    /// Carriage return and line feed.
    CrLf,
    /// A carriage return alone.
    Cr,
}

impl LineEnd {
    /// Its bytes.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
            Self::Cr => b"\r",
        }
    }
}

/// Lines.
///
/// A record is a line without its end; `put` adds the end. The original's POE::Filter::Line.
///
/// With a fixed end everything else is content: a line that ends in CR LF has the CR at its end for
/// [`LineFilter::lf`], and a lone LF ends nothing for [`LineFilter::crlf`]. What a record contains is
/// written as it is, so a record with a newline in it is two lines for the client.
///
/// What follows the last line end when the client ends its input is not a record and stays where it
/// is: see [`Session::pending_input`](super::Session::pending_input).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LineFilter {
    end: Option<LineEnd>,
}

impl LineFilter {
    /// Lines that end in `end`, both ways.
    pub fn new(end: LineEnd) -> Self {
        Self { end: Some(end) }
    }

    /// Lines that end in LF, both ways: the default.
    pub fn lf() -> Self {
        Self::new(LineEnd::Lf)
    }

    /// Lines that end in CR LF, both ways.
    pub fn crlf() -> Self {
        Self::new(LineEnd::CrLf)
    }

    /// Lines that end like the client's first line, in LF, CR LF or CR, both ways.
    ///
    /// Lines that are put before it has arrived end in CR LF.
    ///
    /// A first line that ends in CR is delivered when the byte after it has arrived, which may be
    /// the LF.
    pub fn autodetect() -> Self {
        Self { end: None }
    }

    /// What ends the lines; `None` until it has been detected.
    pub fn line_end(&self) -> Option<LineEnd> {
        self.end
    }

    /// The end of the first line, and where it begins.
    fn detect(input: &Input<'_>) -> Option<(usize, LineEnd)> {
        let bytes = input.bytes();
        // The last byte that was seen may have been a CR.
        let from = input.seen().saturating_sub(1);
        let at = position(&bytes[from..], |byte| matches!(byte, b'\n' | b'\r'))? + from;
        match (bytes[at], bytes.get(at + 1)) {
            (b'\n', _) => Some((at, LineEnd::Lf)),
            (_, Some(b'\n')) => Some((at, LineEnd::CrLf)),
            (_, Some(_)) => Some((at, LineEnd::Cr)),
            (_, None) => None,
        }
    }

    fn find(end: LineEnd, input: &Input<'_>) -> Option<usize> {
        let (bytes, seen) = (input.bytes(), input.seen());
        match end {
            LineEnd::Lf => Some(position(&bytes[seen..], |byte| byte == b'\n')? + seen),
            LineEnd::Cr => Some(position(&bytes[seen..], |byte| byte == b'\r')? + seen),
            LineEnd::CrLf => {
                let from = seen.saturating_sub(1);
                let at = bytes[from..].windows(2).position(|pair| pair == b"\r\n")?;
                Some(at + from)
            }
        }
    }
}

fn position(bytes: &[u8], is_it: impl Fn(u8) -> bool) -> Option<usize> {
    bytes.iter().position(|&byte| is_it(byte))
}

impl Default for LineFilter {
    fn default() -> Self {
        Self::lf()
    }
}

impl Filter for LineFilter {
    fn next(&mut self, input: &Input<'_>) -> io::Result<Option<Record>> {
        let found = match self.end {
            Some(end) => Self::find(end, input).map(|at| (at, end)),
            None => Self::detect(input),
        };
        Ok(found.map(|(at, end)| {
            self.end = Some(end);
            Record::new(0..at, at + end.bytes().len())
        }))
    }

    fn put(&mut self, record: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        output.extend_from_slice(record);
        output.extend_from_slice(self.end.unwrap_or(LineEnd::CrLf).bytes());
        Ok(())
    }
}

/// Input as it arrives: a record is whatever one read has returned.
///
/// The original's POE::Filter::Stream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StreamFilter;

impl Filter for StreamFilter {
    fn next(&mut self, input: &Input<'_>) -> io::Result<Option<Record>> {
        let length = input.bytes().len().min(input.limit());
        Ok((length > 0).then(|| Record::new(0..length, length)))
    }

    fn put(&mut self, record: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        output.extend_from_slice(record);
        Ok(())
    }
}

/// Blocks of a fixed size, without delimiters.
///
/// What is put is written as it is, whatever its length. The original's POE::Filter::Block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockFilter {
    size: usize,
}

impl BlockFilter {
    /// Blocks of `size` bytes; 0 counts as 1.
    ///
    /// A size above the session's input limit makes every block too long.
    pub fn new(size: usize) -> Self {
        Self { size: size.max(1) }
    }

    /// The size of a block, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl Filter for BlockFilter {
    fn next(&mut self, input: &Input<'_>) -> io::Result<Option<Record>> {
        let whole = input.bytes().len() >= self.size;
        Ok(whole.then(|| Record::new(0..self.size, self.size)))
    }

    fn put(&mut self, record: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        output.extend_from_slice(record);
        Ok(())
    }
}

impl fmt::Debug for dyn Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}
