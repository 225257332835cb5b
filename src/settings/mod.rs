//! The settings of a server from a TOML file, the environment and flags, and where each value comes
//! from. Reads and checks; starts nothing.
//!
//! Every attribute of [`Config`] is a key here, like the listeners, the steps of a
//! [`Confinement`](crate::Confinement) and what the command `prefork` needs besides. A flag is
//! stronger than the environment, the environment than a file, a file than the default, in whatever
//! order they are read.
//!
//! ```
//! use prefork_server::{PreFork, TcpServer, settings::Settings};
//!
//! let mut settings = Settings::new();
//! settings.read_text("server.toml", r#"
//!     max_clients = 20
//!     timeout = "30s"
//!
//!     [confinement]
//!     no_new_privs = true
//! "#)?;
//! settings.read_environment(std::env::vars_os())?; // PREFORK_MAX_CLIENTS=40
//! settings.set_flag("max_clients", ["50"])?;
//!
//! assert_eq!(settings.config().max_clients, 50);
//! let builder = PreFork::builder(TcpServer::new(|conn| Ok(())))
//!     .config(settings.config())
//!     .confinement(settings.confinement());
//! # let _ = builder;
//! # Ok::<(), prefork_server::settings::SettingsError>(())
//! ```

mod build;
mod error;
mod file;
mod key;
mod schema;
mod setting;
#[cfg(test)]
mod tests;
mod values;

pub use self::{
    error::{Problem, SettingsError, Source},
    key::Key,
    schema::schema,
    setting::Setting,
};

use self::values::Values;
use crate::core::{
    config::{Config, TakesEffect},
    nearest,
};
use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::Path,
};

/// With this the name of an environment variable begins that sets a key.
const PREFIX: &str = "PREFORK_";

/// Variables with that prefix that mean something else: the name of the file, for the command, and
/// what an `ExecServer` tells its programs.
const NOT_SETTINGS: [&str; 2] = ["PREFORK_CONFIG", "PREFORK_SEND_ACK"];

/// The settings of one server: see the [module](self).
#[derive(Clone, Debug)]
pub struct Settings {
    /// One for each key, in the order of the keys.
    entries: Vec<Setting>,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl Settings {
    /// All defaults.
    pub fn new() -> Self {
        let entry = |key: Key| Setting {
            texts: key.default_texts(),
            key,
            source: Source::Default,
        };
        Self {
            entries: key::keys().into_iter().map(entry).collect(),
        }
    }

    /// Every key, in the order of the documentation.
    pub fn keys() -> Vec<Key> {
        key::keys()
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no TOML, for each unknown key (with the nearest known
    /// one), and for each value that is none. Then the settings may have some values of the file.
    pub fn read_file(&mut self, path: impl AsRef<Path>) -> Result<(), SettingsError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        self.read_text(path, &text)
    }

    /// Reads the text of a TOML file that is called `path` in messages.
    ///
    /// # Errors
    ///
    /// As [`read_file`](Self::read_file).
    pub fn read_text(&mut self, path: impl AsRef<Path>, text: &str) -> Result<(), SettingsError> {
        let mut problems = Vec::new();
        for found in file::read(path.as_ref(), text)? {
            match self.position(found.section.as_deref(), &found.name) {
                Some(at) => problems.extend(self.set(at, found.texts, found.source)),
                None => problems.push(unknown(&found)),
            }
        }
        SettingsError::of(problems)
    }

    /// Reads environment variables: `PREFORK_MAX_CLIENTS` sets `max_clients`.
    ///
    /// Items of a list are separated by spaces. A variable with that prefix that is nearly a known
    /// one is an error; others are ignored, since a container's manager sets variables for services
    /// of that name too.
    ///
    /// # Errors
    ///
    /// For each variable with a value that is none, and for each that is nearly a known one.
    pub fn read_environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), SettingsError> {
        let mut problems = Vec::new();
        for (name, value) in variables {
            problems.extend(self.read_variable(&name, &value));
        }
        SettingsError::of(problems)
    }

    fn read_variable(&mut self, name: &OsStr, value: &OsStr) -> Option<Problem> {
        let name = name.to_str().filter(|name| name.starts_with(PREFIX))?;
        if NOT_SETTINGS.contains(&name) {
            return None;
        }
        let source = Source::Environment(name.to_owned());
        let found = self.entries.iter();
        let Some(at) = found.clone().position(|entry| entry.key.variable() == name) else {
            let names = found.map(|entry| entry.key.variable());
            let nearest = nearest::typo(name, names)?;
            let message = format!("no such variable; did you mean {nearest}?");
            return Some(Problem::new(source, message));
        };
        let Some(text) = value.to_str() else {
            return Some(Problem::new(source, "the value is not UTF-8".to_owned()));
        };
        let texts = match self.entries.get(at)?.key.is_list() {
            true => text.split_whitespace().map(str::to_owned).collect(),
            false => vec![text.to_owned()],
        };
        self.set(at, texts, source)
    }

    /// Sets a key as a flag does: a list from any number of texts, any other from one.
    ///
    /// `name` is that of the key: `max_clients`.
    ///
    /// # Errors
    ///
    /// When there is no such key, or the value is none of it.
    pub fn set_flag<T: Into<String>>(
        &mut self,
        name: &str,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<(), SettingsError> {
        let texts = texts.into_iter().map(Into::into).collect();
        let source = Source::Flag(format!("--{}", name.replace('_', "-")));
        let mut entries = self.entries.iter();
        let problem = match entries.position(|entry| entry.key.name == name) {
            Some(at) => self.set(at, texts, source),
            None => Some(Problem::new(source, "no such flag".to_owned())),
        };
        SettingsError::of(problem)
    }

    /// Sets the entry at `at`, unless what it has is from a stronger source. The value is checked in
    /// any case.
    fn set(&mut self, at: usize, texts: Vec<String>, source: Source) -> Option<Problem> {
        let entry = self.entries.get_mut(at)?;
        if let Err(reason) = entry.key.apply(&mut Values::default(), &texts) {
            let message = match source {
                // A flag and a variable have the name already.
                Source::Flag(_) | Source::Environment(_) => reason,
                _ => format!("{}: {reason}", entry.key.name),
            };
            return Some(Problem::new(source, message));
        }
        if source.strength() >= entry.source.strength() {
            // An empty list is one text less than `none`.
            entry.texts = match entry.key.is_list() && entry.key.is_none(&texts) {
                true => entry.key.default_texts(),
                false => texts,
            };
            entry.source = source;
        }
        None
    }

    fn position(&self, section: Option<&str>, name: &str) -> Option<usize> {
        let is_it = |entry: &Setting| entry.key.section == section && entry.key.name == name;
        self.entries.iter().position(is_it)
    }

    /// The value of each key, and where it comes from.
    pub fn entries(&self) -> impl Iterator<Item = &Setting> {
        self.entries.iter()
    }

    /// The value of one key; `None` if there is no such key.
    pub fn entry(&self, name: &str) -> Option<&Setting> {
        self.entries.iter().find(|entry| entry.key.name == name)
    }

    /// What is another value in `newer`: the old entry and the new one.
    ///
    /// They come in the order of the keys.
    ///
    /// ```
    /// # use prefork_server::settings::Settings;
    /// let (old, mut new) = (Settings::new(), Settings::new());
    /// new.set_flag("max_clients", ["60"])?;
    /// let changes: Vec<_> = old.changes(&new).collect();
    /// let [(before, after)] = changes[..] else { panic!() };
    /// assert_eq!((before.value(), after.value()), ("50".to_owned(), "60".to_owned()));
    /// # Ok::<(), prefork_server::settings::SettingsError>(())
    /// ```
    pub fn changes<'a>(
        &'a self,
        newer: &'a Self,
    ) -> impl Iterator<Item = (&'a Setting, &'a Setting)> {
        let both = self.entries.iter().zip(&newer.entries);
        both.filter(|(old, new)| old.texts != new.texts)
    }

    /// Sets the attributes that have changed since `older` in `config`.
    ///
    /// It is the configuration of a running server, so those that are read at its start only are
    /// left out. What the program has set itself stays.
    pub fn apply_changes(&self, older: &Self, config: &mut Config) {
        for (_, new) in older.changes(self) {
            if let Some(attribute) = new.key.attribute()
                && attribute.takes_effect != TakesEffect::AtStart
            {
                // OK to ignore: each value was checked when it was set.
                let _ = attribute.set(config, &new.value());
            }
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> SettingsError {
    let message = format!("cannot read it: {error}");
    Problem::new(Source::file(path, None), message).into()
}

fn unknown(found: &file::FileValue) -> Problem {
    let full = |section: Option<&str>, name: &str| match section {
        Some(section) => format!("{section}.{name}"),
        None => name.to_owned(),
    };
    let name = full(found.section.as_deref(), &found.name);
    let far = |key: &Key| {
        let elsewhere = usize::from(key.section != found.section.as_deref());
        nearest::distance(&found.name, key.name) + elsewhere
    };
    let nearest = key::keys().into_iter().min_by_key(far);
    let nearest = nearest
        .map(|key| full(key.section, key.name))
        .unwrap_or_default();
    let message = format!("there is no key {name}; the nearest is {nearest}");
    Problem::new(found.source.clone(), message)
}
