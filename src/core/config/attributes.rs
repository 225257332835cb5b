//! The attributes of a running server: the values that were asked for and those in force. Logs
//! nothing; returns what is to be logged.

use super::Config;
use crate::core::replacement::Limits;
use std::{ops::Deref, time::Duration};

/// A value that makes no sense, and the value that is in force instead.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Normalised {
    pub(crate) name: &'static str,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Normalised {
    /// Whether it is the default, which gives way without a warning: mostly it was not asked for.
    pub(crate) fn is_of_default(&self) -> bool {
        let mut attributes = Config::attributes().iter();
        let attribute = attributes.find(|attribute| attribute.name == self.name);
        let default = attribute.map(|attribute| attribute.text(&Config::default()));
        default.is_some_and(|default| default == self.from.to_string())
    }
}

/// The values that were asked for, and those in force.
///
/// It dereferences to the [`Config`] in force, which is computed whenever a value is set: reading,
/// which happens at every word, costs nothing. The `Config` in force cannot be written, so it never
/// has a value that makes no sense.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    asked: Config,
    in_force: Config,
    /// Whether the interval of the timeout check, unless it is set, is derived from `timeout`.
    derives_check: bool,
    changes: Vec<Normalised>,
    reported: Vec<Normalised>,
}

impl Deref for Attributes {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.in_force
    }
}

impl Default for Attributes {
    fn default() -> Self {
        Self::from(Config::default())
    }
}

impl From<Config> for Attributes {
    fn from(asked: Config) -> Self {
        let mut attributes = Self {
            in_force: asked.clone(),
            asked,
            derives_check: false,
            changes: Vec::new(),
            reported: Vec::new(),
        };
        attributes.normalise();
        attributes
    }
}

impl Attributes {
    /// What was asked for.
    pub(crate) fn asked(&self) -> &Config {
        &self.asked
    }

    /// Changes the values that are asked for, and computes those in force.
    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.asked);
        self.normalise();
    }

    /// Derives the interval of the timeout check from `timeout`, unless it is set; called when the
    /// server starts.
    pub(crate) fn derive_check(&mut self) {
        self.derives_check = true;
        self.normalise();
    }

    /// The values that make no sense and that the last call has not returned.
    #[must_use = "each change is to be logged"]
    pub(crate) fn take_unreported(&mut self) -> Vec<Normalised> {
        let mut changes = self.changes.clone();
        changes.retain(|change| !self.reported.contains(change));
        self.reported.clone_from(&self.changes);
        changes
    }

    fn normalise(&mut self) {
        self.in_force.clone_from(&self.asked);
        self.changes = normalise_numbers(&mut self.in_force);
        // With zero the loop would check again and again without a pause.
        let check = self.asked.server_check_ack.filter(|check| !check.is_zero());
        self.in_force.server_check_ack = None;
        let derived = self.check_interval().filter(|_| self.derives_check);
        self.in_force.server_check_ack = check.or(derived);
    }

    /// The interval of the timeout check; `None` while there is no timeout.
    pub(crate) fn check_interval(&self) -> Option<Duration> {
        let derived = self.timeout.saturating_mul(3) / 2;
        (self.timeout > Duration::ZERO).then(|| self.server_check_ack.unwrap_or(derived))
    }

    /// The limits that the parent keeps for each child.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            lifetime: self.max_lifetime,
            memory: self.max_memory,
            percent: self.limit_jitter,
        }
    }

    /// How many replacements may be under way in a pool of that many children.
    pub(crate) fn replacements_at_once(&self, children: usize) -> usize {
        match self.replace_at_once {
            0 => (children / 10).max(1),
            some => some,
        }
    }

    /// The interval at which children must send ACKs for the timeout to hold.
    pub(crate) fn ack_interval(&self) -> Option<Duration> {
        (self.timeout > Duration::ZERO).then(|| self.timeout / 2)
    }
}

/// Changes the numbers that make no sense, and returns the changes.
fn normalise_numbers(config: &mut Config) -> Vec<Normalised> {
    // The minimum stays below `usize::MAX`, so that the maximum can be one more.
    let min = config.min_spare_servers.clamp(1, usize::MAX - 1);
    let max = config.max_spare_servers.max(min + 1);
    let clients = or(config.max_clients, 50);
    let start = or(config.start_servers, 5).min(clients);
    let jitter = config.limit_jitter.min(100);
    let numbers = [
        ("min_spare_servers", &mut config.min_spare_servers, min),
        ("max_spare_servers", &mut config.max_spare_servers, max),
        ("max_clients", &mut config.max_clients, clients),
        ("start_servers", &mut config.start_servers, start),
        ("limit_jitter", &mut config.limit_jitter, jitter),
    ];
    numbers
        .into_iter()
        .filter_map(|(name, number, to)| {
            let from = std::mem::replace(number, to);
            (from != to).then_some(Normalised { name, from, to })
        })
        .collect()
}

/// The number, or `instead_of_zero` if it is zero.
fn or(number: usize, instead_of_zero: usize) -> usize {
    if number == 0 { instead_of_zero } else { number }
}
