//! The command `prefork`: any program, in any language, as a preforking server. Reads the command
//! line and builds servers of the library; serves nothing itself.

mod args;
mod check;
mod control;
mod examples;
mod exit;
mod fetch;
mod flags;
mod help;
mod kept;
mod misplaced;
mod progress;
mod reload;
mod serve;
mod snapshot;
mod startable;
mod status;
mod top;

use args::{Cli, CliCommand};
use clap::{ArgMatches, FromArgMatches};
use exit::CliError;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<(), CliError> {
    let words = help::as_flag(std::env::args_os().collect());
    let matches = help::command().try_get_matches_from(&words);
    let matches = matches.map_err(|error| misplaced::explained(error, &words))?;
    if let Some(name) = help::wants_all(&matches) {
        return help::print_all(name);
    }
    perform(&matches)
}

fn perform(matches: &ArgMatches) -> Result<(), CliError> {
    match Cli::from_arg_matches(matches)?.command {
        CliCommand::Run(run) => serve::run(&run),
        CliCommand::Inetd(inetd) => serve::inetd(&inetd),
        CliCommand::Check(check) => check::check(&check),
        CliCommand::Status(of) => status::status(&of),
        CliCommand::Top(of) => top::top(&of),
        CliCommand::Reload(to) => control::reload(&to),
        CliCommand::Upgrade { program, control } => control::upgrade(&control, program.as_deref()),
        CliCommand::Stop { how, control } => control::stop(&control, how.as_deref()),
        CliCommand::Drain(to) => control::drain(&to),
        CliCommand::Ready(to) => control::ready(&to),
        CliCommand::Retire { pid, control } => control::retire(&control, pid),
        CliCommand::Stack { pid, control } => control::stack(&control, pid),
        CliCommand::Set {
            name,
            value,
            control,
        } => control::set(&control, &name, &value),
        CliCommand::Get { name, control } => control::get(&control, name.as_deref()),
        CliCommand::Completions { shell } => help::completions(shell),
        CliCommand::Man { command } => help::man(command.as_deref()),
    }
}
