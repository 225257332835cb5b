//! Values as people write them, `30s`, `256MiB`, `none`: reads them and writes them back. Knows no
//! file and no flag.

use super::{CommChannel, ThreadCheck};
use crate::core::wire::CommWords;
use std::{path::PathBuf, time::Duration};

/// What values of an attribute look like as text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Whole,
    /// A number that may have a fraction.
    Fraction,
    /// An amount of memory: `4096`, `64KiB`, `256MiB`.
    Size,
    /// A time with a unit: `500ms`, `30s`, `1h30m`; zero needs no unit.
    Time,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// Any number of texts.
    List,
}

impl Shape {
    /// The placeholder of a value in a help text.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Bool => "true|false",
            Self::Whole => "N",
            Self::Fraction => "NUMBER",
            Self::Size => "SIZE",
            Self::Time => "TIME",
            Self::Choice(_) => "WORD",
            Self::Text => "TEXT",
            Self::List => "LIST",
        }
    }
}

/// A type that attributes have: what its values look like, and both directions.
///
/// `read(&value.write())` is `value`.
pub(crate) trait AsText: Sized {
    const SHAPE: Shape;
    /// Whether `none` is a value.
    const OPTIONAL: bool = false;
    /// The reason of a refusal ends a message that names the attribute: `50x is not a number`.
    fn read(text: &str) -> Result<Self, String>;
    fn write(&self) -> String;
}

impl AsText for bool {
    const SHAPE: Shape = Shape::Bool;

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

macro_rules! numbers {
    ($($type:ty: $shape:ident, $what:literal;)*) => {$(
        impl AsText for $type {
            const SHAPE: Shape = Shape::$shape;

            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("{text:?} is not {}", $what))
            }

            fn write(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
numbers! {
    u8: Whole, "a whole number from 0 to 255";
    u32: Whole, "a whole number from 0 on";
    u64: Whole, "a whole number from 0 on";
    usize: Whole, "a whole number from 0 on";
    i32: Whole, "a whole number";
    f64: Fraction, "a number";
}

impl AsText for Duration {
    const SHAPE: Shape = Shape::Time;

    fn read(text: &str) -> Result<Self, String> {
        time(text)
    }

    fn write(&self) -> String {
        match self.is_zero() {
            true => "0s".to_owned(),
            false => format!("{self:?}"),
        }
    }
}

impl AsText for String {
    const SHAPE: Shape = Shape::Text;

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn write(&self) -> String {
        self.clone()
    }
}

impl AsText for PathBuf {
    const SHAPE: Shape = Shape::Text;

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn write(&self) -> String {
        self.display().to_string()
    }
}

impl<T: AsText> AsText for Option<T> {
    const SHAPE: Shape = T::SHAPE;
    const OPTIONAL: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(None),
            _ => T::read(text).map(Some),
        }
    }

    fn write(&self) -> String {
        self.as_ref().map_or("none".to_owned(), T::write)
    }
}

/// Types whose values are words.
macro_rules! choices {
    ($($type:ty { $($word:literal => $value:expr),* $(,)? })*) => {$(
        impl AsText for $type {
            const SHAPE: Shape = Shape::Choice(&[$($word),*]);

            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($value),)*
                    _ => Err(format!("{text:?} is none of {}", [$($word),*].join(", "))),
                }
            }

            fn write(&self) -> String {
                $(if *self == $value {
                    return $word.to_owned();
                })*
                format!("{self:?}")
            }
        }
    )*};
}
choices! {
    CommChannel {
        "stdout" => Self::Stdout,
        "private" => Self::Private,
    }
    CommWords {
        "control" => Self::CONTROL,
        "poe" => Self::POE,
    }
    ThreadCheck {
        "refuse" => Self::Refuse,
        "warn" => Self::Warn,
    }
}

/// The units of time, in nanoseconds.
const TIMES: [(&str, u64); 10] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("sec", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The units of memory, in bytes: those with an `i` count by 1024, the others by 1000.
const SIZES: [(&str, u64); 12] = [
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("TiB", 1 << 40),
];

/// Reads a time: `30s`, `1h 30m`, `1.5 s`, `0`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let refusal = |reason: &str| format!("{text:?} is not a time: {reason}");
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total: u128 = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (amount, after) = Decimal::split(rest).ok_or_else(|| refusal("write it as \"30s\""))?;
        let (unit, after) = word(after);
        let known = TIMES.iter().find(|(name, _)| *name == unit);
        let (_, nanoseconds) = known.ok_or_else(|| match unit {
            "" => refusal(&format!("it has no unit; write \"{}s\"", text.trim())),
            _ => refusal(&format!("the unit {unit:?} is none of ms, s, m, h, d")),
        })?;
        let part = amount.times(*nanoseconds);
        total += part.ok_or_else(|| refusal("it has too many digits"))?;
        rest = after.trim_start();
    }
    match (u64::try_from(total), text.trim()) {
        (_, "") => Err(refusal("write it as \"30s\"")),
        (Ok(nanoseconds), _) => Ok(Duration::from_nanos(nanoseconds)),
        (Err(_), _) => Err(refusal("it is longer than 500 years")),
    }
}

/// Reads an amount of memory in bytes: `4096`, `256MiB`, `1.5 GiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let refusal = |reason: &str| format!("{text:?} is not a size: {reason}");
    let (amount, unit) =
        Decimal::split(text.trim()).ok_or_else(|| refusal("write it as \"256MiB\""))?;
    let mut units = SIZES.iter();
    let (_, bytes) = units
        .find(|(name, _)| *name == unit.trim())
        .ok_or_else(|| refusal("its unit is none of KiB, MiB, GiB, TiB, kB, MB, GB"))?;
    let bytes = amount.times(*bytes);
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(|| refusal("it is too large"))
}

/// A decimal number: its digits without the point, and how many of them follow the point.
struct Decimal {
    digits: u64,
    fraction: u32,
}

impl Decimal {
    /// The number at the beginning of a text, and what follows it.
    fn split(text: &str) -> Option<(Self, &str)> {
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (number, rest) = text.split_at(end.unwrap_or(text.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = !whole.is_empty() && !fraction.is_empty() && !fraction.contains('.');
        let digits = is_number.then(|| format!("{whole}{fraction}").parse().ok())??;
        let fraction = u32::try_from(fraction.len()).ok()?;
        Some((Self { digits, fraction }, rest))
    }

    /// The number of units of this length, in its parts; the rest below one part is dropped.
    fn times(&self, unit: u64) -> Option<u128> {
        let scale = 10_u128.checked_pow(self.fraction)?;
        Some(u128::from(self.digits) * u128::from(unit) / scale)
    }
}

/// The unit at the beginning of a text, after spaces, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphabetic());
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000),
            (" 30 s ", 30_000),
            ("1.5s", 1_500),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1h 30min 5s", 5_405_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(
                time(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        assert_eq!(time("7ns"), Ok(Duration::from_nanos(7)));
        assert_eq!(time("1.000000001s"), Ok(Duration::new(1, 1)));
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_way_to_write_it() {
        let refused = |text: &str| time(text).expect_err("a refusal");
        assert_eq!(
            refused("30"),
            "\"30\" is not a time: it has no unit; write \"30s\""
        );
        assert!(refused("30 parsecs").ends_with("the unit \"parsecs\" is none of ms, s, m, h, d"));
        for bad in ["", " ", "s", "-1s", "1..5s", ".5s", "5.s", "1s!", "1e3s"] {
            refused(bad);
        }
        assert!(refused("999999999999d").ends_with("longer than 500 years"));
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("256 MiB", 268_435_456),
            ("1.5G", 1_610_612_736),
            ("2MB", 2_000_000),
            ("1TiB", 1_099_511_627_776),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "1 mib", "-1", "99999999999GiB", "1MiB5"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_refused_with_those_there_are() {
        let error = CommChannel::read("stdot").expect_err("a refusal");
        assert_eq!(error, "\"stdot\" is none of stdout, private");
        assert_eq!(CommWords::read("poe"), Ok(CommWords::POE));
        assert_eq!(Option::<Duration>::read("none"), Ok(None));
        assert_eq!(
            Option::<Duration>::read("1s"),
            Ok(Some(Duration::from_secs(1)))
        );
        assert!(bool::read("maybe").is_err());
        assert!(usize::read("-1").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanoseconds in any::<u64>(), number in any::<usize>()) {
            let time = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(Duration::read(&time.write()), Ok(time));
            prop_assert_eq!(usize::read(&number.write()), Ok(number));
        }

        #[test]
        fn nothing_that_is_written_panics(text in "\\PC*") {
            let _ = (time(&text), size(&text));
        }
    }
}
