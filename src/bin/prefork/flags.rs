//! The flags of settings: one for each of the library's keys, so that a new attribute is a flag by
//! itself. Collects texts; the library reads them.

use crate::exit::CliError;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::Error};
use prefork_server::{
    Shape,
    settings::{Key, Setting, Settings, SettingsError},
};
use std::{ffi::OsStr, marker::PhantomData, path::Path};

/// The flags that `--help` shows; `--help-all` shows all.
const COMMON: [&str; 11] = [
    "listen",
    "max_clients",
    "start_servers",
    "timeout",
    "max_requests",
    "deadline",
    "protocol",
    "stop_signal",
    "user",
    "status",
    "control",
];

/// The variable that names the file of settings.
const CONFIG: &str = "PREFORK_CONFIG";

/// A command that takes flags of settings.
pub(crate) trait AcceptsFlags: std::fmt::Debug {
    /// Its name.
    const NAME: &'static str;
    /// Keys that mean nothing to it, but for the program, which is no flag.
    const WITHOUT: &'static [&'static str];
    /// The command that has a use for those keys.
    const OTHER: &'static str;
}

#[derive(Debug)]
pub(crate) struct Run;
#[derive(Debug)]
pub(crate) struct Inetd;
#[derive(Debug)]
pub(crate) struct Check;

impl AcceptsFlags for Run {
    const NAME: &'static str = "run";
    const OTHER: &'static str = "inetd";
    const WITHOUT: &'static [&'static str] = &[
        "max_requests",
        "max_per_peer",
        "max_queue_age",
        "allow",
        "deny",
        "deadline",
        "access_log",
        "access_log_format",
    ];
}

impl AcceptsFlags for Inetd {
    const NAME: &'static str = "inetd";
    const OTHER: &'static str = "run";
    const WITHOUT: &'static [&'static str] =
        &["protocol", "stop_signal", "reopen_signal", "comm_words"];
}

/// It is for the files of both.
impl AcceptsFlags for Check {
    const NAME: &'static str = "check";
    const OTHER: &'static str = "";
    const WITHOUT: &'static [&'static str] = &[];
}

/// The flags that were given, each with its texts.
#[derive(Debug)]
pub(crate) struct GivenFlags<T> {
    given: Vec<(&'static str, Vec<String>)>,
    command: PhantomData<T>,
}

fn keys<T: AcceptsFlags>() -> impl Iterator<Item = Key> {
    let keys = Settings::keys().into_iter();
    keys.filter(|key| key.name != "program" && !T::WITHOUT.contains(&key.name))
}

fn flag(key: &Key) -> Arg {
    let flag = Arg::new(key.name)
        .long(key.flag())
        .value_name(value_name(key))
        .help(help(key))
        .action(ArgAction::Append)
        .hide(!COMMON.contains(&key.name))
        .display_order(
            COMMON
                .iter()
                .position(|name| *name == key.name)
                .unwrap_or(50),
        );
    let flag = match key.section {
        Some("confinement") => flag.help_heading("What children may do"),
        _ => flag,
    };
    match key.shape {
        Shape::Bool => flag.num_args(0..=1).default_missing_value("true"),
        _ => flag.num_args(1).allow_hyphen_values(true),
    }
}

fn value_name(key: &Key) -> String {
    match (key.shape, key.name) {
        (_, "listen" | "address" | "agent") => "ADDRESS".to_owned(),
        (Shape::Choice(words), _) if words.len() <= 4 => words.join("|"),
        (Shape::List, _) => "TEXT".to_owned(),
        (shape, _) => shape.placeholder().to_owned(),
    }
}

fn help(key: &Key) -> String {
    match key.default().as_str() {
        "" | "none" => key.summary.to_owned(),
        default => format!("{} ({default})", key.summary),
    }
}

impl<T: AcceptsFlags> Args for GivenFlags<T> {
    fn augment_args(command: Command) -> Command {
        let all = Arg::new("help-all")
            .long("help-all")
            .help("Print help with all flags")
            .action(ArgAction::SetTrue)
            .display_order(1000);
        command.args(keys::<T>().map(|key| flag(&key))).arg(all)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: AcceptsFlags> FromArgMatches for GivenFlags<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let texts = |key: Key| {
            let texts = matches.get_many::<String>(key.name)?;
            Some((key.name, texts.cloned().collect()))
        };
        Ok(Self {
            given: keys::<T>().filter_map(texts).collect(),
            command: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: AcceptsFlags> GivenFlags<T> {
    /// The settings: of the file, of the environment, and of these flags and `more`.
    pub(crate) fn settings(
        &self,
        file: Option<&Path>,
        more: &[(&'static str, Vec<String>)],
    ) -> Result<Settings, CliError> {
        let mut settings = without_flags(file)?;
        for (name, texts) in more.iter().chain(&self.given) {
            set(&mut settings, name, texts)?;
        }
        refuse_useless::<T>(&settings)?;
        Ok(settings)
    }
}

/// What the command has no use for is refused: who writes `deny` relies on it.
fn refuse_useless<T: AcceptsFlags>(settings: &Settings) -> Result<(), CliError> {
    let useless = |entry: &&Setting| T::WITHOUT.contains(&entry.key().name) && is_set(entry);
    let lines: Vec<String> = settings
        .entries()
        .filter(useless)
        .map(|entry| {
            let (source, name) = (entry.source(), entry.key().name);
            let (command, other) = (T::NAME, T::OTHER);
            format!("{source}: prefork {command} has no use for {name}; it is for prefork {other}")
        })
        .collect();
    match lines.is_empty() {
        true => Ok(()),
        false => Err(CliError::config(lines.join("\n"))),
    }
}

/// Whether its value is another than if it had not been set.
fn is_set(entry: &Setting) -> bool {
    let value = entry.value();
    value != "none" && value != entry.key().default()
}

/// The entry of a key, if it was given a value.
pub(crate) fn given<'a>(settings: &'a Settings, name: &str) -> Option<&'a Setting> {
    settings.entry(name).filter(|entry| is_set(entry))
}

/// The settings of the file, or of that which a variable names, and of the environment.
pub(crate) fn without_flags(file: Option<&Path>) -> Result<Settings, SettingsError> {
    let mut settings = Settings::new();
    let variable = std::env::var_os(CONFIG);
    if let Some(file) = file.or(variable.as_deref().map(<OsStr as AsRef<Path>>::as_ref)) {
        settings.read_file(file)?;
    }
    settings.read_environment(std::env::vars_os())?;
    Ok(settings)
}

/// A flag that is given twice and takes one value has the last one.
fn set(settings: &mut Settings, name: &str, texts: &[String]) -> Result<(), SettingsError> {
    let is_list = settings
        .entry(name)
        .is_some_and(|entry| entry.key().is_list());
    let last = texts.len().saturating_sub(1);
    let from = if is_list { 0 } else { last };
    settings.set_flag(name, texts.iter().skip(from))
}
