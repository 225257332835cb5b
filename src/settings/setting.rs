//! The value of one key, and where it comes from. Checks nothing.

use super::{Key, Source};

/// The value of a key, and where it comes from.
#[derive(Clone, Debug)]
pub struct Setting {
    pub(super) key: Key,
    pub(super) texts: Vec<String>,
    pub(super) source: Source,
}

impl Setting {
    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The value as it was written; that of a list separated by spaces.
    pub fn value(&self) -> String {
        self.texts.join(" ")
    }

    /// The value as texts: one, or one for each item of a list.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Where the value comes from.
    pub fn source(&self) -> &Source {
        &self.source
    }
}
