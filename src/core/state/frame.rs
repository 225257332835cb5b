//! The bytes of a state as a whole: the header with version, length and checksum, and the records.
//! Knows no record's meaning.

use super::encoding::{ByteReader, DecodeError, Field, Fields};
use std::fmt;

/// The version of the format that is written. A reader refuses a later one.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"preforkS";
/// Magic number, format, length, checksum.
const HEADER: usize = 8 + 3 * 4;

/// The flag of a record that a reader must understand.
const MUST: u32 = 1;

/// The kind of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Tag(u32);

impl Tag {
    pub(super) const PROGRAM: Self = Self(1);
    pub(super) const POOL: Self = Self(2);
    pub(super) const CHILD: Self = Self(3);
    pub(super) const DESCRIPTOR: Self = Self(4);
    pub(super) const BOARD: Self = Self(5);
    pub(super) const ATTRIBUTE: Self = Self(6);
    pub(super) const COUNTERS: Self = Self(7);
    pub(super) const HOOKS: Self = Self(8);
    pub(super) const CLIENT: Self = Self(9);
    pub(super) const ORDERS: Self = Self(10);
    pub(super) const BEFORE_RELOAD: Self = Self(11);

    pub(super) fn number(self) -> u32 {
        self.0
    }

    fn flags(self) -> u32 {
        match self {
            Self::PROGRAM | Self::POOL | Self::CHILD | Self::DESCRIPTOR => MUST,
            _ => 0,
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::PROGRAM => "program",
            Self::POOL => "pool",
            Self::CHILD => "child",
            Self::DESCRIPTOR => "descriptor",
            Self::BOARD => "board",
            Self::ATTRIBUTE => "attribute",
            Self::COUNTERS => "counters",
            Self::HOOKS => "hooks",
            Self::CLIENT => "client",
            Self::ORDERS => "orders",
            Self::BEFORE_RELOAD => "before_reload",
            Self(unknown) => return write!(f, "{unknown}"),
        })
    }
}

/// What is wrong with the bytes of a state, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct BadState {
    /// The kind of the record; `None` for the header.
    record: Option<Tag>,
    offset: usize,
    why: DecodeError,
}

impl BadState {
    fn header(offset: usize, why: DecodeError) -> Self {
        Self {
            record: None,
            offset,
            why,
        }
    }

    pub(super) fn missing(tag: Tag, offset: usize) -> Self {
        Self {
            record: Some(tag),
            offset,
            why: DecodeError::Missing,
        }
    }

    pub(super) fn contradiction(tag: Tag, offset: usize) -> Self {
        Self {
            record: Some(tag),
            offset,
            why: DecodeError::Contradiction,
        }
    }

    #[cfg(test)]
    pub(super) fn why(&self) -> &DecodeError {
        &self.why
    }
}

impl fmt::Display for BadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, why, .. } = self;
        match self.record {
            Some(tag) => write!(f, "record {tag} at byte {offset}: {why}"),
            None => write!(f, "header at byte {offset}: {why}"),
        }
    }
}

impl std::error::Error for BadState {}

/// The bytes while they are written.
pub(super) struct StateWriter(Vec<u8>);

impl StateWriter {
    pub(super) fn new() -> Self {
        Self(vec![0; HEADER])
    }

    /// Records as they are.
    #[cfg(any(test, fuzzing))]
    pub(super) fn of(records: &[u8]) -> Self {
        Self([&[0; HEADER], records].concat())
    }

    pub(super) fn record(&mut self, tag: Tag, fields: &impl Payload) {
        self.any_record(tag.0, tag.flags(), &fields.payload());
    }

    fn any_record(&mut self, tag: u32, flags: u32, payload: &[u8]) {
        // OK to cast because a state is far smaller than that.
        for number in [tag, flags, payload.len() as u32] {
            number.put(&mut self.0);
        }
        self.0.extend_from_slice(payload);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        for number in [FORMAT, self.0.len() as u32, checksum(&self.0[HEADER..])] {
            number.put(&mut header);
        }
        self.0[..HEADER].copy_from_slice(&header);
        self.0
    }
}

/// What a record consists of.
pub(super) trait Payload: Sized {
    fn payload(&self) -> Vec<u8>;
    fn parse(input: &mut ByteReader<'_>) -> Result<Self, DecodeError>;
}

impl<F: Fields> Payload for F {
    fn payload(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put_fields(&mut bytes);
        bytes
    }

    fn parse(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        Self::take_fields(input)
    }
}

/// Values that are no records of several fields are records of one.
macro_rules! single {
    ($($type:ty),*) => {$(
        impl Payload for $type {
            fn payload(&self) -> Vec<u8> {
                let mut bytes = Vec::new();
                self.put(&mut bytes);
                bytes
            }

            fn parse(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
                Self::take(input)
            }
        }
    )*};
}
single!(Vec<u8>, (String, String));

/// A record that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateRecord<'a> {
    pub(super) tag: Tag,
    flags: u32,
    payload: &'a [u8],
    offset: usize,
}

impl StateRecord<'_> {
    pub(super) fn bad(&self, why: DecodeError) -> BadState {
        BadState {
            record: Some(self.tag),
            offset: self.offset,
            why,
        }
    }

    pub(super) fn read<P: Payload>(&self) -> Result<P, BadState> {
        let mut input = ByteReader::new(self.payload);
        P::parse(&mut input).map_err(|why| BadState {
            offset: self.offset + self.payload.len() - input.len(),
            ..self.bad(why)
        })
    }

    /// Passes over a record that is not known.
    pub(super) fn skip(&self) -> Result<(), BadState> {
        match self.flags & MUST {
            0 => Ok(()),
            _ => Err(self.bad(DecodeError::NotUnderstood)),
        }
    }
}

/// The records of a state whose header and checksum are right.
pub(super) fn records(
    bytes: &[u8],
) -> Result<impl Iterator<Item = Result<StateRecord<'_>, BadState>>, BadState> {
    let mut rest = check_header(bytes)?;
    Ok(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let offset = bytes.len() - rest.len();
        let record = next_record(&mut rest, offset);
        if record.is_err() {
            rest = ByteReader::new(&[]);
        }
        Some(record)
    }))
}

fn check_header(bytes: &[u8]) -> Result<ByteReader<'_>, BadState> {
    let mut input = ByteReader::new(bytes);
    let mut next = || -> Result<(&[u8], u32, u32, u32), DecodeError> {
        let magic = input.bytes(MAGIC.len())?;
        let mut number = || u32::take(&mut input);
        Ok((magic, number()?, number()?, number()?))
    };
    let (magic, format, length, sum) =
        next().map_err(|_| BadState::header(bytes.len(), DecodeError::NoState))?;
    if magic != MAGIC {
        return Err(BadState::header(0, DecodeError::NoState));
    }
    if format == 0 || format > FORMAT {
        return Err(BadState::header(8, DecodeError::Future(format)));
    }
    if usize::try_from(length) != Ok(bytes.len()) {
        return Err(BadState::header(12, DecodeError::Length));
    }
    if checksum(&bytes[HEADER..]) != sum {
        return Err(BadState::header(16, DecodeError::Checksum));
    }
    Ok(input)
}

fn next_record<'a>(rest: &mut ByteReader<'a>, offset: usize) -> Result<StateRecord<'a>, BadState> {
    let mut next = || -> Result<StateRecord<'a>, DecodeError> {
        let (tag, flags) = (u32::take(rest)?, u32::take(rest)?);
        let length = usize::try_from(u32::take(rest)?).map_err(|_| DecodeError::CutOff)?;
        Ok(StateRecord {
            tag: Tag(tag),
            flags,
            payload: rest.bytes(length)?,
            offset,
        })
    };
    next().map_err(|why| BadState::header(offset, why))
}

/// CRC-32, as in zlib.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| TABLE[(crc as u8 ^ byte) as usize] ^ (crc >> 8);
    !bytes.iter().fold(u32::MAX, step)
}

const TABLE: [u32; 256] = {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

#[cfg(test)]
pub(super) mod testing {
    //! States that this version does not write.

    use super::*;

    /// A state with one more record.
    pub(crate) fn with_record(bytes: &[u8], tag: u32, must: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = StateWriter(bytes.to_vec());
        frame.any_record(tag, u32::from(must), payload);
        frame.finish()
    }

    /// The same with one record longer or shorter, as a later or earlier version would write it.
    pub(crate) fn resized(bytes: &[u8], tag: u32, resize: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = StateWriter::new();
        for record in records(bytes).expect("a header") {
            let record = record.expect("a record");
            let mut payload = record.payload.to_vec();
            if record.tag == Tag(tag) {
                resize(&mut payload);
            }
            frame.any_record(record.tag.0, record.flags, &payload);
        }
        frame.finish()
    }

    /// The records: the tag, whether it must be understood, and the fields.
    pub(crate) fn taken_apart(bytes: &[u8]) -> Vec<(u32, bool, Vec<u8>)> {
        let records = records(bytes).expect("a header");
        let records = records.map(|record| record.expect("a record"));
        let parts = |record: StateRecord<'_>| {
            let must = record.flags & MUST != 0;
            (record.tag.0, must, record.payload.to_vec())
        };
        records.map(parts).collect()
    }

    /// Makes the checksum and the length right again.
    pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
        StateWriter(bytes.to_vec()).finish()
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }
}
