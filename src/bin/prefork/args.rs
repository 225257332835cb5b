//! The command line: its commands and what each takes. The flags of settings are made from the
//! library's keys, in `flags.rs`; performs nothing.

use crate::{
    flags::{Check, Flags, Inetd, Run},
    help,
};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::{ffi::OsString, path::PathBuf};

/// Any program as a preforking server
#[derive(Debug, Parser)]
#[command(name = "prefork", version, before_help = help::EXAMPLES, help_template = help::TEMPLATE)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program in each child; it accepts on the sockets that it is given
    #[command(before_help = help::RUN_EXAMPLES, help_template = help::TEMPLATE)]
    Run(RunArgs),
    /// Run a program for each connection, which is its stdin and stdout
    #[command(before_help = help::INETD_EXAMPLES, help_template = help::TEMPLATE)]
    Inetd(InetdArgs),
    /// Print each setting and where it comes from
    #[command(before_help = help::CHECK_EXAMPLES, help_template = help::TEMPLATE)]
    Check(CheckArgs),
    /// Print a script that completes commands and flags in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a man page, of one command if it is named
    Man {
        /// run, inetd or check
        #[arg(value_parser = ["run", "inetd", "check"])]
        command: Option<String>,
    },
}

/// What `run` and `inetd` take besides flags of settings.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// A TOML file with settings; flags and PREFORK_... variables are stronger
    #[arg(long, value_name = "FILE", display_order = 100)]
    pub(crate) config: Option<PathBuf>,
    /// How many children may be idle, at least and at most
    #[arg(long, value_name = "MIN..MAX", value_parser = spare, display_order = 1)]
    pub(crate) spare: Option<(String, String)>,
    /// The program and its arguments, after two dashes
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) flags: Flags<Run>,
}

#[derive(Args, Debug)]
pub(crate) struct InetdArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) flags: Flags<Inetd>,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// A TOML file with settings
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) flags: Flags<Check>,
}

/// Reads `2..10`. What its numbers may be is the attributes' to say.
fn spare(text: &str) -> Result<(String, String), String> {
    let range = text.split_once("..");
    let (min, max) = range.ok_or("write it as 2..10")?;
    let max = max.strip_prefix('=').unwrap_or(max);
    Ok((min.to_owned(), max.to_owned()))
}
