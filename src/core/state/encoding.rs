//! How values are written as bytes and read back: numbers little-endian, everything of variable
//! length after its length. Reading is total: it ends with a value or with a reason for any bytes.

use crate::core::time::Time;
use std::{fmt, time::Duration};

/// Why bytes are not what they should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum DecodeError {
    /// They do not begin like a state.
    NoState,
    /// They are of this version of the format, which is later than the newest that is known.
    Future(u32),
    /// The header tells another length.
    Length,
    /// They have been changed since they were written.
    Checksum,
    CutOff,
    /// A record that is not known says that it must be understood.
    NotUnderstood,
    /// A value that the field cannot have.
    Value,
    /// A record that there can be one of.
    Twice,
    Missing,
    /// Records contradict each other.
    Contradiction,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoState => f.write_str("this is not the state of a server"),
            Self::Future(format) => write!(f, "it is written in format {format}, a later one"),
            Self::Length => f.write_str("it has another length than its header tells"),
            Self::Checksum => f.write_str("the checksum is wrong"),
            Self::CutOff => f.write_str("it is cut off"),
            Self::NotUnderstood => f.write_str("it must be understood and is not known here"),
            Self::Value => f.write_str("it has a value that is not allowed"),
            Self::Twice => f.write_str("there is a second one"),
            Self::Missing => f.write_str("it is missing"),
            Self::Contradiction => f.write_str("two of them contradict each other"),
        }
    }
}

/// Bytes that are being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteReader<'a> {
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::CutOff)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.bytes(N)?;
        bytes.try_into().map_err(|_| DecodeError::CutOff)
    }

    /// What follows its length.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = u32::take(self)?;
        self.bytes(usize::try_from(length).map_err(|_| DecodeError::CutOff)?)
    }

    /// The next field of a record; the default if the writer did not know it.
    pub(super) fn next<F: Field + Default>(&mut self) -> Result<F, DecodeError> {
        match self.is_empty() {
            true => Ok(F::default()),
            false => F::take(self),
        }
    }
}

/// A value that can be a field of a record.
pub(super) trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError>;
}

/// A record, or a part of one that may grow: its fields, without its length.
pub(super) trait Fields: Sized {
    fn put_fields(&self, out: &mut Vec<u8>);
    fn take_fields(input: &mut ByteReader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
                input.array().map(Self::from_le_bytes)
            }
        }
    )*};
}
numbers!(u8, u32, u64, i32);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Value),
        }
    }
}

/// In nanoseconds. What is longer than 584 years stays without an end.
impl Field for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        let nanoseconds = u64::try_from(self.as_nanos()).unwrap_or(u64::MAX);
        nanoseconds.put(out);
    }

    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        Ok(match u64::take(input)? {
            u64::MAX => Self::MAX,
            nanoseconds => Self::from_nanos(nanoseconds),
        })
    }
}

impl Field for Time {
    fn put(&self, out: &mut Vec<u8>) {
        self.since_start().put(out);
    }

    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        Duration::take(input).map(Self::at)
    }
}

impl<F: Field> Field for Option<F> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        bool::take(input)?.then(|| F::take(input)).transpose()
    }
}

fn put_sized(bytes: &[u8], out: &mut Vec<u8>) {
    // OK because a state is far smaller: no child leaves so much unread.
    (bytes.len() as u32).put(out);
    out.extend_from_slice(bytes);
}

impl Field for Vec<u8> {
    fn put(&self, out: &mut Vec<u8>) {
        put_sized(self, out);
    }

    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        input.sized().map(<[u8]>::to_vec)
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_sized(self.as_bytes(), out);
    }

    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        Self::from_utf8(Vec::take(input)?).map_err(|_| DecodeError::Value)
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        Ok((A::take(input)?, B::take(input)?))
    }
}

/// Several values of one kind: their number, then each after its length.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct EncodedList<F>(pub(crate) Vec<F>);

impl<F> Default for EncodedList<F> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F: Field> Field for EncodedList<F> {
    fn put(&self, out: &mut Vec<u8>) {
        // OK because they all fit into memory, and none is smaller than its length.
        (self.0.len() as u32).put(out);
        for value in &self.0 {
            let mut bytes = Vec::new();
            value.put(&mut bytes);
            put_sized(&bytes, out);
        }
    }

    fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
        let count = u32::take(input)?;
        // Each takes four bytes at least, so that a wrong number reserves no memory.
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(F::take(&mut ByteReader::new(input.sized()?))?);
        }
        Ok(Self(values))
    }
}

/// Defines a part of the state. Its fields are written in this order; later versions add theirs at
/// the end.
macro_rules! record {
    ($(
        $(#[$about:meta])*
        $name:ident {
            $($(#[$field_about:meta])* $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        pub(crate) struct $name {
            $($(#[$field_about])* pub(crate) $field: $type,)*
        }

        impl Fields for $name {
            fn put_fields(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take_fields(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: input.next()?,)* })
            }
        }

        /// Within another record it follows its length, so that it may grow.
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let mut fields = Vec::new();
                self.put_fields(&mut fields);
                fields.put(out);
            }

            fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
                Self::take_fields(&mut ByteReader::new(input.sized()?))
            }
        }
    )*};
}
pub(super) use record;
