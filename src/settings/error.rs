//! Where a value comes from, and what is wrong with it. Formats; reads nothing.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// It was not set.
    Default,
    /// A file, and the line if it is known, counted from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line.
        line: Option<usize>,
    },
    /// The environment variable of this name.
    Environment(String),
    /// This flag: `--max-clients`.
    Flag(String),
}

impl Source {
    pub(super) fn file(path: &Path, line: Option<usize>) -> Self {
        Self::File {
            path: path.to_owned(),
            line,
        }
    }

    /// A value replaces those of sources that are not stronger.
    pub(super) fn strength(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: None } => path.display().fmt(f),
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong: where, and what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    source: Source,
    message: String,
}

impl Problem {
    pub(super) fn new(source: Source, message: String) -> Self {
        Self { source, message }
    }

    /// Where it is.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What is wrong, and what to write instead.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.message)
    }
}

/// All that is wrong in one source: a line for each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettingsError {
    problems: Vec<Problem>,
}

impl SettingsError {
    /// An error if there are problems.
    pub(super) fn of(problems: impl IntoIterator<Item = Problem>) -> Result<(), Self> {
        let problems: Vec<Problem> = problems.into_iter().collect();
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self { problems }),
        }
    }

    /// What is wrong, in the order of the source.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for SettingsError {
    fn from(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for SettingsError {}
