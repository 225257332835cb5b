//! The state of a server as operators see it: what the parent records of itself, and the texts that
//! the status helper makes of the record and of the board. No system call and no clock.
//!
//! The parent writes a [record](record) into memory that the helper reads: it never waits for the
//! helper, and the helper answers while the parent and all children are busy. What children do now
//! is on the board, which the helper reads too, so the parent writes nothing for a connection of a
//! child that notes its state there.

pub(crate) mod agent;
pub(crate) mod death;
pub(crate) mod document;
pub(crate) mod figures;
pub(crate) mod history;
pub(crate) mod names;
pub(crate) mod openmetrics;
pub(crate) mod pack;
pub(crate) mod picture;
pub(crate) mod record;
pub(crate) mod table;
pub(crate) mod texts;

#[cfg(test)]
mod tests;

/// How far a server is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Stage {
    /// No child has been ready yet.
    #[default]
    Starting,
    Serving,
    /// A stop was announced, and has not begun.
    Leaving,
    Stopping,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Starting, Self::Serving, Self::Leaving, Self::Stopping];

    /// As a number of the record; the place in [`ALL`](Self::ALL).
    pub(crate) fn word(self) -> u64 {
        self as u64
    }

    pub(crate) fn from_word(word: u64) -> Self {
        let found = Self::ALL.into_iter().find(|stage| stage.word() == word);
        found.unwrap_or_default()
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Leaving => "leaving",
            Self::Stopping => "stopping",
        }
    }
}
