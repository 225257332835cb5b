//! The command line: its commands and what each takes. The flags of settings are made from the
//! library's keys, in `flags.rs`; performs nothing.

use crate::{
    examples,
    flags::{Check, GivenFlags, Inetd, Run},
};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use prefork_server::{
    Config, StatusAddress,
    settings::{Settings, SettingsError},
};
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// Any program as a preforking server
#[derive(Debug, Parser)]
#[command(name = "prefork", version, before_help = examples::EXAMPLES, help_template = examples::TEMPLATE)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: CliCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CliCommand {
    /// Run a program in each child; it accepts on the sockets that it is given
    #[command(before_help = examples::RUN_EXAMPLES, help_template = examples::TEMPLATE)]
    Run(RunArgs),
    /// Run a program for each connection, which is its stdin and stdout
    #[command(before_help = examples::INETD_EXAMPLES, help_template = examples::TEMPLATE)]
    Inetd(InetdArgs),
    /// Print each setting and where it comes from
    #[command(before_help = examples::CHECK_EXAMPLES, help_template = examples::TEMPLATE)]
    Check(CheckArgs),
    /// Print how a running server is
    #[command(before_help = examples::STATUS_EXAMPLES, help_template = examples::TEMPLATE)]
    Status(StatusArgs),
    /// Watch a running server on the terminal
    #[command(before_help = examples::TOP_EXAMPLES, help_template = examples::TEMPLATE)]
    Top(TopArgs),
    /// Replace every child of a running server, as SIGHUP does
    #[command(before_help = examples::RELOAD_EXAMPLES, help_template = examples::TEMPLATE)]
    Reload(ControlArgs),
    /// Replace the program of a running server, as SIGUSR2 does
    #[command(before_help = examples::UPGRADE_EXAMPLES, help_template = examples::TEMPLATE)]
    Upgrade {
        /// The new program; without it, what the file of the running one is now
        program: Option<PathBuf>,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Shut a running server down
    #[command(before_help = examples::STOP_EXAMPLES, help_template = examples::TEMPLATE)]
    Stop {
        /// With no time limit for children, or by SIGKILL
        #[arg(value_parser = ["graceful", "now"])]
        how: Option<String>,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Tell balancers to send a running server no more clients
    #[command(before_help = examples::DRAIN_EXAMPLES, help_template = examples::TEMPLATE)]
    Drain(ControlArgs),
    /// Tell balancers to send a drained server clients again
    #[command(before_help = examples::READY_EXAMPLES, help_template = examples::TEMPLATE)]
    Ready(ControlArgs),
    /// Replace one child of a running server
    #[command(before_help = examples::RETIRE_EXAMPLES, help_template = examples::TEMPLATE)]
    Retire {
        /// The process id of the child
        pid: u32,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Print where a child of a running server is; the child goes on
    #[command(before_help = examples::STACK_EXAMPLES, help_template = examples::TEMPLATE)]
    Stack {
        /// The process id of the child
        pid: u32,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Set an attribute of a running server
    #[command(before_help = examples::SET_EXAMPLES, help_template = examples::TEMPLATE)]
    Set {
        /// The attribute: max_clients
        name: String,
        /// Its value: 50, 30s, 256MiB
        #[arg(allow_hyphen_values = true)]
        value: String,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Print an attribute of a running server, or all of them
    #[command(before_help = examples::GET_EXAMPLES, help_template = examples::TEMPLATE)]
    Get {
        /// The attribute: max_clients
        name: Option<String>,
        #[command(flatten)]
        control: ControlArgs,
    },
    /// Print a script that completes commands and flags in a shell
    #[command(before_help = examples::COMPLETIONS_EXAMPLES, help_template = examples::TEMPLATE)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print a man page, of one command if it is named
    #[command(before_help = examples::MAN_EXAMPLES, help_template = examples::TEMPLATE)]
    Man {
        /// Any of the commands: run
        #[arg(value_parser = examples::PAGES, hide_possible_values = true)]
        command: Option<String>,
    },
}

/// Which server is asked, and what is printed.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Where it tells its status: a path, HOST:PORT, or a port on 127.0.0.1
    #[arg(long, value_name = "ADDRESS", value_parser = status)]
    pub(crate) status: Option<StatusAddress>,
    /// A file of settings with the key `status`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the whole status, which is JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which server is watched, and how it is told to retire a child or to show its stack.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Where it tells its status: a path, HOST:PORT, or a port on 127.0.0.1
    #[arg(long, value_name = "ADDRESS", value_parser = status)]
    pub(crate) status: Option<StatusAddress>,
    /// A file of settings with the keys `status` and `control`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Its control socket, to retire children and to see where they are
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
}

/// Which server is meant, and what is printed.
#[derive(Args, Debug)]
pub(crate) struct ControlArgs {
    /// The control socket of the server
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// A file of settings with the key `control`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How long to wait for the command to be done: 30s
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) wait: Option<Duration>,
    /// Print the answer of the server, which is JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `run` and `inetd` take besides flags of settings.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// A TOML file with settings; flags and PREFORK_... variables are stronger
    #[arg(long, value_name = "FILE", display_order = 100)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) spare: Spare,
    /// The program and its arguments, after two dashes
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// `--spare 2..10`.
#[derive(Args, Debug)]
pub(crate) struct Spare {
    /// How many children may be idle, at least and at most
    #[arg(long, value_name = "MIN..MAX", value_parser = spare, display_order = 1)]
    spare: Option<(String, String)>,
}

impl Spare {
    /// As the flags that it stands for.
    pub(crate) fn as_flags(&self) -> Vec<(&'static str, Vec<String>)> {
        let Some((min, max)) = &self.spare else {
            return Vec::new();
        };
        let min = ("min_spare_servers", vec![min.clone()]);
        vec![min, ("max_spare_servers", vec![max.clone()])]
    }
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) flags: GivenFlags<Run>,
}

#[derive(Args, Debug)]
pub(crate) struct InetdArgs {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) flags: GivenFlags<Inetd>,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// A TOML file with settings
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) spare: Spare,
    #[command(flatten)]
    pub(crate) flags: GivenFlags<Check>,
}

/// Reads a time as the settings do.
fn time(text: &str) -> Result<Duration, String> {
    let mut config = Config::default();
    let mut attributes = Config::attributes().iter();
    let timeout = attributes.find(|attribute| attribute.name == "timeout");
    timeout.map_or(Ok(()), |timeout| timeout.set(&mut config, text))?;
    match config.timeout.is_zero() {
        true => Err("write it as 30s".to_owned()),
        false => Ok(config.timeout),
    }
}

/// Reads an address as the settings do.
fn status(text: &str) -> Result<StatusAddress, String> {
    let mut settings = Settings::new();
    let reason =
        |error: &SettingsError| error.problems().first().map(|one| one.message().to_owned());
    match settings.set_flag("status", [text]) {
        Ok(()) => settings
            .status()
            .ok_or_else(|| "it is no address".to_owned()),
        Err(error) => Err(reason(&error).unwrap_or_default()),
    }
}

/// Reads `2..10`. What its numbers may be together is the attributes' to say.
fn spare(text: &str) -> Result<(String, String), String> {
    let range = text.split_once("..");
    let (min, max) = range.ok_or("write it as 2..10")?;
    let max = max.strip_prefix('=').unwrap_or(max);
    for number in [min, max] {
        let wrong = |_| format!("{number:?} is not a whole number; write it as 2..10");
        number.parse::<usize>().map_err(wrong)?;
    }
    Ok((min.to_owned(), max.to_owned()))
}
