//! `prefork check`: prints each setting, the value in force where that is another, and where it comes
//! from. Then it says what keeps a server with these settings from its start.

use crate::{args::CheckArgs, exit::CliError, startable};
use prefork_server::{
    Config,
    settings::{Setting, Settings},
};
use std::io::{self, Write};

pub(crate) fn check(given: &CheckArgs) -> Result<(), CliError> {
    let spare = given.spare.as_flags();
    let settings = given.flags.settings(given.file.as_deref(), &spare)?;
    let rows: Vec<[String; 3]> = settings
        .entries()
        .map(|entry| row(&settings, entry))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let (first, second) = (width(0).unwrap_or(0), width(1).unwrap_or(0).min(40));
    let mut stdout = io::stdout().lock();
    for [name, value, source] in &rows {
        writeln!(stdout, "{name:first$}  {value:second$}  {source}")?;
    }
    startable::check(&settings)
}

fn row(settings: &Settings, entry: &Setting) -> [String; 3] {
    let key = entry.key();
    let name = match key.section {
        Some(section) => format!("{section}.{}", key.name),
        None => key.name.to_owned(),
    };
    let value = match entry.value().as_str() {
        "" => "none".to_owned(),
        value => match in_force(&settings.config(), key.name) {
            Some(other) => format!("{value} (in force: {other})"),
            None => value.to_owned(),
        },
    };
    [name, value, entry.source().to_string()]
}

/// What a running server makes of an attribute that makes no sense.
fn in_force(config: &Config, name: &str) -> Option<String> {
    let mut attributes = Config::attributes().iter();
    let attribute = attributes.find(|attribute| attribute.name == name)?;
    let in_force = attribute.text(&config.in_force());
    (in_force != attribute.text(config)).then_some(in_force)
}
