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
mod notes;
mod reload;
mod serve;
mod snapshot;
mod startable;
mod status;
mod top;

use args::{Cli, Command};
use clap::{ArgMatches, FromArgMatches};
use exit::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<(), Failure> {
    let words = help::as_flag(std::env::args_os().collect());
    let matches = help::command().try_get_matches_from(&words);
    let matches = matches.map_err(|error| misplaced::explained(error, &words))?;
    if let Some(name) = help::wants_all(&matches) {
        return help::print_all(name);
    }
    perform(&matches)
}

fn perform(matches: &ArgMatches) -> Result<(), Failure> {
    match Cli::from_arg_matches(matches)?.command {
        Command::Run(run) => serve::run(&run),
        Command::Inetd(inetd) => serve::inetd(&inetd),
        Command::Check(check) => check::check(&check),
        Command::Status(of) => status::status(&of),
        Command::Top(of) => top::top(&of),
        Command::Reload(to) => control::reload(&to),
        Command::Upgrade { program, control } => control::upgrade(&control, program.as_deref()),
        Command::Stop { how, control } => control::stop(&control, how.as_deref()),
        Command::Drain(to) => control::drain(&to),
        Command::Ready(to) => control::ready(&to),
        Command::Retire { pid, control } => control::retire(&control, pid),
        Command::Stack { pid, control } => control::stack(&control, pid),
        Command::Set {
            name,
            value,
            control,
        } => control::set(&control, &name, &value),
        Command::Get { name, control } => control::get(&control, name.as_deref()),
        Command::Completions { shell } => help::completions(shell),
        Command::Man { command } => help::man(command.as_deref()),
    }
}
