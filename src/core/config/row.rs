//! The description of an attribute: its name, its documentation, its value as text. Made from the
//! table; sets nothing.

use super::{
    Attributes, CommChannel, Config, ThreadCheck,
    text::{self, AsText, Shape},
    with_attributes,
};
use crate::core::wire::CommWords;
use std::{fmt, time::Duration};

/// The description of an attribute: a row of the table of [`Config`].
///
/// For programs that show or document all attributes; [`Config::attributes`] returns them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attribute {
    /// The name of the field of [`Config`] and of the methods.
    pub name: &'static str,
    /// What it is for. The first line is one sentence.
    pub documentation: &'static str,
    /// The type, as it is written in Rust.
    pub type_name: &'static str,
    /// What its values count or are.
    pub unit: &'static str,
    /// Which values are normalised, and what is used instead.
    ///
    /// `never` if every value is valid.
    pub normalised: &'static str,
    /// In which process it is read, and when.
    pub read: &'static str,
    /// When a value that is set while the server runs takes effect.
    pub takes_effect: TakesEffect,
    /// Whether `none` is a value.
    pub is_optional: bool,
    shape: Shape,
    value: fn(&Config) -> String,
    text: fn(&Config) -> String,
    set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Attribute {
    /// Its value in `config`, as text: `10 s`, `none`, `CommChannel::Stdout`.
    pub fn value(&self, config: &Config) -> String {
        (self.value)(config)
    }

    /// Its default, as text.
    pub fn default(&self) -> String {
        self.value(&Config::default())
    }

    /// What its values look like in a file or a flag.
    pub fn shape(&self) -> Shape {
        match (self.shape, self.counts_bytes()) {
            (Shape::Whole, true) => Shape::Size,
            (shape, _) => shape,
        }
    }

    /// Its value in `config` as [`set`](Self::set) reads it: `10s`, `none`, `stdout`.
    ///
    /// [`CommWords`] of one's own have no such text, and come out as in a message.
    pub fn text(&self, config: &Config) -> String {
        (self.text)(config)
    }

    /// Sets it in `config` from text, as in a file or a flag.
    ///
    /// For example `50`, `30s`, `256MiB`, `stdout`.
    ///
    /// ```
    /// use prefork_server::Config;
    ///
    /// let mut config = Config::default();
    /// for attribute in Config::attributes() {
    ///     if attribute.name == "timeout" {
    ///         attribute.set(&mut config, "1m30s")?;
    ///     }
    /// }
    /// assert_eq!(config.timeout.as_secs(), 90);
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The reason, with what to write instead, if the text is no value of this attribute; then
    /// `config` is unchanged.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        let is_size = self.shape() == Shape::Size && !(self.is_optional && text == "none");
        match is_size {
            true => (self.set)(config, &text::size(text)?.to_string()),
            false => (self.set)(config, text),
        }
    }

    fn counts_bytes(&self) -> bool {
        self.unit.starts_with("bytes")
    }
}

/// When a value that is set while the server runs takes effect.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TakesEffect {
    /// The next time that it is read.
    AtOnce,
    /// In children that are forked after that.
    AtNextFork,
    /// Not while the server runs: it is read when the server starts.
    AtStart,
}

impl fmt::Display for TakesEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtOnce => "at once",
            Self::AtNextFork => "at the next fork",
            Self::AtStart => "at the start only",
        })
    }
}

/// Values as text.
trait InWords {
    fn in_words(&self) -> String;
}

impl InWords for bool {
    fn in_words(&self) -> String {
        self.to_string()
    }
}

impl InWords for usize {
    fn in_words(&self) -> String {
        self.to_string()
    }
}

impl InWords for u64 {
    fn in_words(&self) -> String {
        self.to_string()
    }
}

impl InWords for Duration {
    fn in_words(&self) -> String {
        format!("{} s", self.as_secs_f64())
    }
}

impl InWords for String {
    fn in_words(&self) -> String {
        self.clone()
    }
}

impl<T: InWords> InWords for Option<T> {
    fn in_words(&self) -> String {
        self.as_ref().map_or("none".to_owned(), InWords::in_words)
    }
}

impl InWords for CommChannel {
    fn in_words(&self) -> String {
        format!("CommChannel::{self:?}")
    }
}

impl InWords for ThreadCheck {
    fn in_words(&self) -> String {
        format!("ThreadCheck::{self:?}")
    }
}

impl InWords for CommWords {
    fn in_words(&self) -> String {
        match *self {
            Self::CONTROL => "CommWords::CONTROL".to_owned(),
            Self::POE => "CommWords::POE".to_owned(),
            own => format!("{own:?}"),
        }
    }
}

macro_rules! define_rows {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident, $set:ident: $type:ty $(as $read:ty)? = $default:expr => {
            unit: $unit:literal,
            normalised: $normalised:literal,
            read: $reader:literal,
            takes_effect: $effect:ident
        };
    )*) => {
        const ROWS: &[Attribute] = &[$(
            Attribute {
                name: stringify!($name),
                documentation: concat!($($doc, "\n",)*),
                type_name: stringify!($type),
                unit: $unit,
                normalised: $normalised,
                read: $reader,
                takes_effect: TakesEffect::$effect,
                is_optional: <$type as AsText>::OPTIONAL,
                shape: <$type as AsText>::SHAPE,
                value: |config| config.$name.in_words(),
                text: |config| config.$name.write(),
                set: |config, text| {
                    config.$name = AsText::read(text)?;
                    Ok(())
                },
            },
        )*];
    };
}
with_attributes!(define_rows);

impl Config {
    /// The values that a running server has in place of these.
    ///
    /// See [`Attribute::normalised`].
    ///
    /// ```
    /// use prefork_server::Config;
    ///
    /// let config = Config::default().max_clients(20).start_servers(30);
    /// assert_eq!(config.in_force().start_servers, 20);
    /// ```
    pub fn in_force(&self) -> Self {
        let mut attributes = Attributes::from(self.clone());
        attributes.derive_check();
        Self::clone(&attributes)
    }

    /// The descriptions of all attributes.
    pub fn attributes() -> &'static [Attribute] {
        ROWS
    }
}
