//! Help, completions and man pages: all made from one description of the command line. Parses
//! nothing.

use crate::{args::Cli, exit::CliError};
use clap::{ArgMatches, Command, CommandFactory};
use clap_complete::Shell;
use std::{
    ffi::OsString,
    io::{self, Write},
};

/// The command line, as the parser has it.
pub(crate) fn command() -> Command {
    Cli::command()
}

/// `prefork help run` as the flag that it stands for.
pub(crate) fn as_flag(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_some_and(|word| word == "help") {
        words.remove(1);
        words.push("--help".into());
    }
    words
}

/// The command whose whole help was asked for.
pub(crate) fn wants_all(matches: &ArgMatches) -> Option<&str> {
    let (name, inner) = matches.subcommand()?;
    let all = inner.try_get_one::<bool>("help-all").ok().flatten();
    all.is_some_and(|all| *all).then_some(name)
}

/// The whole description, with the flags that `--help` leaves out.
fn with_all_flags() -> Command {
    command().mut_subcommands(|one| one.mut_args(|arg| arg.hide(false)))
}

/// That of one command.
fn one_with_all_flags(name: &str) -> Command {
    let mut whole = with_all_flags();
    // It gives the command its full name, `prefork run`.
    whole.build();
    whole.find_subcommand(name).cloned().unwrap_or_default()
}

pub(crate) fn print_all(name: &str) -> Result<(), CliError> {
    let help = one_with_all_flags(name).render_help();
    write!(io::stdout(), "{help}")?;
    Ok(())
}

pub(crate) fn completions(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut with_all_flags(), "prefork", &mut script);
    io::stdout().write_all(&script)?;
    Ok(())
}

pub(crate) fn man(name: Option<&str>) -> Result<(), CliError> {
    let command = name.map_or_else(command, one_with_all_flags);
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    io::stdout().write_all(&page)?;
    Ok(())
}
