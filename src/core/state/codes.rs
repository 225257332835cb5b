//! The numbers that stand for names in a state. A number is never given another meaning.

use super::encoding::{ByteReader, DecodeError, Field};
use crate::core::child::{Reason, Signal, State, with_signals};

/// A name that has a number.
pub(crate) trait Coded: Sized {
    fn code(&self) -> u8;
    /// What an earlier version takes a number for that it does not know.
    fn of_code(code: u8) -> Self;
}

macro_rules! codes {
    ($($type:ident or $instead:ident { $($name:ident = $code:literal,)* })*) => {$(
        impl Coded for $type {
            fn code(&self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }

            fn of_code(code: u8) -> Self {
                match code {
                    $($code => Self::$name,)*
                    _ => Self::$instead,
                }
            }
        }

        impl Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                self.code().put(out);
            }

            fn take(input: &mut ByteReader<'_>) -> Result<Self, DecodeError> {
                u8::take(input).map(Self::of_code)
            }
        }
    )*};
}

// A name that only a later version knows is read by an earlier one as the name after `or`.
codes! {
    State or Free {
        Starting = 0,
        Free = 1,
        Busy = 2,
        Retiring = 3,
        Reserved = 4,
    }
    Reason or Asked {
        Culled = 0,
        TimedOut = 1,
        Closed = 2,
        Faulty = 3,
        Recycled = 4,
        Reloaded = 5,
        Shutdown = 6,
        Asked = 7,
        Overtime = 8,
        StartTimeout = 9,
    }
}

macro_rules! signal_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $native:ident;)*) => {
        codes! { Signal or Interrupt { $($name = $code,)* } }
    };
}
with_signals!(signal_codes);
