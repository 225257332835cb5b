//! What the examples share: flags and a logger. Not a part of the framework.

#![allow(dead_code, unreachable_pub, reason = "each example uses a part of it")]

use lexopt::prelude::*;
use prefork_server::{Builder, ChildServer, PreFork, PreForkHooks, servers::AccessLog};
use std::{
    error::Error, ffi::OsString, io::Write, path::PathBuf, process::ExitCode, time::Duration,
};

pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Any error.
#[derive(Debug)]
pub struct Failure(Box<dyn Error>);

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl Failure {
    /// As sysexits has it, so that a supervisor does not start again what can never start.
    fn exit_code(&self) -> ExitCode {
        const USAGE: u8 = 64;
        let code = self.of_the_server().map(prefork_server::Error::exit_code);
        ExitCode::from(code.unwrap_or(USAGE))
    }

    /// The framework's error; a hook has it in one of std.
    fn of_the_server(&self) -> Option<&prefork_server::Error> {
        let of_std = || self.0.downcast_ref::<std::io::Error>()?.get_ref();
        let whole = self.0.downcast_ref();
        whole.or_else(|| of_std()?.downcast_ref())
    }
}

/// Tells an error, and gives the exit code for it.
pub fn ended(result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("Error: {}", failure.0);
            failure.exit_code()
        }
    }
}

/// For examples that listen on a UNIX socket if `--path` is given.
pub const PATH_FLAG: &str =
    "  --path PATH              listen on a UNIX socket there, not on TCP\n";

/// What `--help` says of an example, and its defaults.
#[derive(Debug)]
pub struct Usage {
    pub about: &'static str,
    pub port: u16,
    /// Lines about its own flags, each with its end of line.
    pub own_flags: &'static str,
    /// Whether it accepts `--path`.
    pub takes_path: bool,
    pub max_requests: u64,
    pub start_servers: usize,
    pub min_spare_servers: usize,
    pub max_spare_servers: usize,
    pub max_clients: usize,
    pub timeout: Duration,
}

impl Usage {
    /// An example with the defaults of the framework.
    pub const fn new(about: &'static str, port: u16) -> Self {
        Self {
            about,
            port,
            own_flags: "",
            takes_path: false,
            max_requests: 25,
            start_servers: 5,
            min_spare_servers: 1,
            max_spare_servers: 2,
            max_clients: 50,
            timeout: Duration::ZERO,
        }
    }

    /// Prints the help. OK to ignore errors: a reader like `head` may have gone.
    fn print_help(&self) {
        let Self {
            about,
            port,
            own_flags,
            max_requests,
            start_servers,
            min_spare_servers,
            max_spare_servers,
            max_clients,
            timeout,
            ..
        } = self;
        let timeout = timeout.as_secs_f64();
        let _ = writeln!(
            std::io::stdout(),
            "{about}

{own_flags}  --address ADDRESS        listen on this address or host name (127.0.0.1)
  --port PORT              listen on this port, 0 for any ({port})
  --start-servers N        children to begin with ({start_servers})
  --min-spare-servers N    fewest idle children ({min_spare_servers})
  --max-spare-servers N    most idle children ({max_spare_servers})
  --max-clients N          most children ({max_clients})
  --timeout SECONDS        how long a child may be stuck, 0 for ever ({timeout})
  --max-requests N         connections a child serves before it is replaced, 0 for no limit
                           ({max_requests})
  --status ADDRESS:PORT    tell the status there by HTTP, or at a PATH; with --features status
  --holder                 a process above the parent keeps the children when that is killed, and
                           starts another; with --features holder"
        );
    }
}

/// The flags that every example takes.
#[derive(Debug)]
pub struct Flags {
    pub address: String,
    pub port: u16,
    pub path: Option<PathBuf>,
    pub max_requests: u64,
    start_servers: usize,
    min_spare_servers: usize,
    max_spare_servers: usize,
    max_clients: usize,
    timeout: Duration,
    status: Option<String>,
    holder: bool,
}

impl Flags {
    /// Reads the command line.
    pub fn parse(usage: &Usage) -> Result<Self> {
        Self::parse_from(usage, std::env::args_os().skip(1))
    }

    /// The same for an example that has taken flags of its own from the command line.
    pub fn parse_from(usage: &Usage, args: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut flags = Self {
            address: "127.0.0.1".to_owned(),
            port: usage.port,
            path: None,
            max_requests: usage.max_requests,
            start_servers: usage.start_servers,
            min_spare_servers: usage.min_spare_servers,
            max_spare_servers: usage.max_spare_servers,
            max_clients: usage.max_clients,
            timeout: usage.timeout,
            status: None,
            holder: false,
        };
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(flag) = parser.next()? {
            match flag {
                Long("address") => flags.address = parser.value()?.string()?,
                Long("port") => flags.port = parser.value()?.parse()?,
                Long("path") if usage.takes_path => flags.path = Some(parser.value()?.into()),
                Long("path") => {
                    let refusal = "--path: this example listens at an address and a port only";
                    return Err(std::io::Error::other(refusal).into());
                }
                Long("max-requests") => flags.max_requests = parser.value()?.parse()?,
                Long("start-servers") => flags.start_servers = parser.value()?.parse()?,
                Long("min-spare-servers") => flags.min_spare_servers = parser.value()?.parse()?,
                Long("max-spare-servers") => flags.max_spare_servers = parser.value()?.parse()?,
                Long("max-clients") => flags.max_clients = parser.value()?.parse()?,
                Long("timeout") => {
                    let seconds = parser.value()?.parse()?;
                    flags.timeout = Duration::try_from_secs_f64(seconds)?;
                }
                Long("status") => flags.status = Some(check_status(parser.value()?.string()?)?),
                Long("holder") => flags.holder = check_holder()?,
                Long("help") | Short('h') => {
                    usage.print_help();
                    std::process::exit(0);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(flags)
    }

    /// A builder with these attributes.
    pub fn builder<S: ChildServer>(&self, server: S) -> Builder<prefork_server::DefaultHooks, S> {
        let builder = PreFork::builder(server)
            .start_servers(self.start_servers)
            .min_spare_servers(self.min_spare_servers)
            .max_spare_servers(self.max_spare_servers)
            .max_clients(self.max_clients)
            .timeout(self.timeout);
        let builder = with_holder(builder, self.holder);
        with_systemd(with_status(builder, self.status.as_deref()))
    }
}

/// The address, if it is one.
#[cfg(feature = "status")]
fn check_status(address: String) -> Result<String> {
    match address.parse::<prefork_server::StatusAddress>() {
        Ok(_) => Ok(address),
        Err(reason) => Err(std::io::Error::other(format!("--status: {reason}")).into()),
    }
}

#[cfg(not(feature = "status"))]
fn check_status(_: String) -> Result<String> {
    let refusal = "--status: build the example with --features status";
    Err(std::io::Error::other(refusal).into())
}

/// The builder of a server that tells its status there.
#[cfg(feature = "status")]
fn with_status<H: PreForkHooks, S: ChildServer>(
    builder: Builder<H, S>,
    address: Option<&str>,
) -> Builder<H, S> {
    match address.and_then(|address| address.parse().ok()) {
        Some(address) => builder.status(address),
        None => builder,
    }
}

#[cfg(not(feature = "status"))]
fn with_status<B>(builder: B, _: Option<&str>) -> B {
    builder
}

/// Whether there can be a holder.
fn check_holder() -> Result<bool> {
    match cfg!(feature = "holder") {
        true => Ok(true),
        false => {
            let refusal = "--holder: build the example with --features holder";
            Err(std::io::Error::other(refusal).into())
        }
    }
}

/// The builder of a server that has a holder.
#[cfg(feature = "holder")]
fn with_holder<H: PreForkHooks, S: ChildServer>(
    builder: Builder<H, S>,
    wanted: bool,
) -> Builder<H, S> {
    if wanted { builder.holder() } else { builder }
}

#[cfg(not(feature = "holder"))]
fn with_holder<B>(builder: B, _: bool) -> B {
    builder
}

/// The builder of a server that tells systemd how it is.
#[cfg(feature = "systemd")]
fn with_systemd<H: PreForkHooks, S: ChildServer>(builder: Builder<H, S>) -> Builder<H, S> {
    builder.observe(prefork_server::Systemd::from_env())
}

#[cfg(not(feature = "systemd"))]
fn with_systemd<B>(builder: B) -> B {
    builder
}

/// Where a started server tells its status.
#[cfg(feature = "status")]
fn status_addresses<H: PreForkHooks, S: ChildServer>(prefork: &PreFork<H, S>) -> Vec<String> {
    prefork.status_addresses()
}

#[cfg(not(feature = "status"))]
fn status_addresses<P>(_: &P) -> Vec<String> {
    Vec::new()
}

/// Takes a flag of the example's own and its value from the command line.
pub fn take_value(args: &mut Vec<OsString>, flag: &str) -> Result<Option<OsString>> {
    let Some(at) = args.iter().position(|arg| arg == flag) else {
        return Ok(None);
    };
    args.remove(at);
    if at == args.len() {
        return Err(std::io::Error::other(format!("{flag} needs a value")).into());
    }
    Ok(Some(args.remove(at)))
}

/// Takes a flag without a value from the command line. Whether it was there.
pub fn take_flag(args: &mut Vec<OsString>, flag: &str) -> bool {
    let before = args.len();
    args.retain(|arg| arg != flag);
    args.len() < before
}

/// Takes `--access-log` and its value from the command line.
pub fn take_access_log(args: &mut Vec<OsString>) -> Result<Option<AccessLog>> {
    Ok(take_value(args, "--access-log")?.map(AccessLog::named))
}

/// Logs warnings to stderr, or what RUST_LOG asks for.
pub fn init_log() {
    let env = env_logger::Env::default().default_filter_or("warn");
    env_logger::Builder::from_env(env)
        .format_timestamp(None)
        .init();
}

/// Runs a started server to its end: prints where it listens and how to talk to it, then its
/// report.
pub fn run<H: PreForkHooks, S: ChildServer>(
    mut prefork: PreFork<H, S>,
    listening: &[String],
    hint: &str,
) -> Result {
    let mut stdout = std::io::stdout();
    for address in listening {
        writeln!(stdout, "listening on {address}")?;
    }
    for address in status_addresses(&prefork) {
        writeln!(stdout, "status at {address}")?;
    }
    writeln!(stdout, "{hint}")?;
    stdout.flush()?;
    let report = prefork.run()?;
    // OK to ignore: the reader of the address may have gone since.
    let _ = writeln!(stdout, "{report}");
    Ok(())
}
