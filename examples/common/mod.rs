//! What the examples have in common: the flags, and a logger. No part of the framework.

#![allow(dead_code, unreachable_pub, reason = "each example uses a part of it")]

use lexopt::prelude::*;
use prefork_server::{Builder, ChildServer, PreFork, PreForkHooks};
use std::{error::Error, ffi::OsString, fmt, io::Write, path::PathBuf, time::Duration};

pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Any error. What `main` returns is shown as `Debug` has it, and that is to be fit for a reader.
pub struct Failure(Box<dyn Error>);

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The flags that every example takes.
#[derive(Debug)]
pub struct Flags {
    pub address: String,
    pub port: u16,
    pub path: Option<PathBuf>,
    pub max_requests: u64,
    start_servers: Option<usize>,
    min_spare_servers: Option<usize>,
    max_spare_servers: Option<usize>,
    max_clients: Option<usize>,
    timeout: Option<Duration>,
}

impl Flags {
    /// Reads the command line; `about` is what `--help` says before the flags.
    pub fn parse(about: &str, default_port: u16) -> Result<Self> {
        Self::read(about, default_port, 25, std::env::args_os().skip(1))
    }

    /// The same for an example that has taken flags of its own from the command line.
    pub fn parse_from(
        about: &str,
        default_port: u16,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Self> {
        Self::read(about, default_port, 25, args)
    }

    /// The same, with a limit of requests of the example's own.
    pub fn parse_with(about: &str, default_port: u16, max_requests: u64) -> Result<Self> {
        let args = std::env::args_os().skip(1);
        Self::read(about, default_port, max_requests, args)
    }

    /// The same, with both.
    pub fn read(
        about: &str,
        default_port: u16,
        max_requests: u64,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Self> {
        let mut flags = Self {
            address: "127.0.0.1".to_owned(),
            port: default_port,
            path: None,
            max_requests,
            start_servers: None,
            min_spare_servers: None,
            max_spare_servers: None,
            max_clients: None,
            timeout: None,
        };
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(flag) = parser.next()? {
            match flag {
                Long("address") => flags.address = parser.value()?.string()?,
                Long("port") => flags.port = parser.value()?.parse()?,
                Long("path") => flags.path = Some(parser.value()?.into()),
                Long("max-requests") => flags.max_requests = parser.value()?.parse()?,
                Long("start-servers") => flags.start_servers = Some(parser.value()?.parse()?),
                Long("min-spare-servers") => {
                    flags.min_spare_servers = Some(parser.value()?.parse()?);
                }
                Long("max-spare-servers") => {
                    flags.max_spare_servers = Some(parser.value()?.parse()?);
                }
                Long("max-clients") => flags.max_clients = Some(parser.value()?.parse()?),
                Long("timeout") => {
                    let seconds = parser.value()?.parse()?;
                    flags.timeout = Some(Duration::try_from_secs_f64(seconds)?);
                }
                Long("help") | Short('h') => {
                    print_help(about, default_port, max_requests);
                    std::process::exit(0);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(flags)
    }

    /// The timeout, if one was given.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// A builder with the attributes that were given.
    pub fn builder<S: ChildServer>(&self, server: S) -> Builder<prefork_server::DefaultHooks, S> {
        self.apply(PreFork::builder(server))
    }

    /// `builder`, with the attributes that were given.
    pub fn apply<H: PreForkHooks, S: ChildServer>(
        &self,
        mut builder: Builder<H, S>,
    ) -> Builder<H, S> {
        if let Some(servers) = self.start_servers {
            builder = builder.start_servers(servers);
        }
        if let Some(servers) = self.min_spare_servers {
            builder = builder.min_spare_servers(servers);
        }
        if let Some(servers) = self.max_spare_servers {
            builder = builder.max_spare_servers(servers);
        }
        if let Some(clients) = self.max_clients {
            builder = builder.max_clients(clients);
        }
        if let Some(timeout) = self.timeout {
            builder = builder.timeout(timeout);
        }
        builder
    }
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

fn print_help(about: &str, default_port: u16, max_requests: u64) {
    println!(
        "{about}

  --address ADDRESS        listen on this address or host name (127.0.0.1)
  --port PORT              listen on this port, 0 for any ({default_port})
  --start-servers N        children to begin with (5)
  --min-spare-servers N    fewest idle children (1)
  --max-spare-servers N    most idle children (2)
  --max-clients N          most children (50)
  --timeout SECONDS        how long a child may be stuck, 0 for ever (0)
  --max-requests N         connections a child serves before it is replaced, 0 for no limit
                           ({max_requests})"
    );
}

/// Logs warnings to stderr, or what RUST_LOG asks for.
pub fn init_log() {
    let env = env_logger::Env::default().default_filter_or("warn");
    env_logger::Builder::from_env(env)
        .format_timestamp(None)
        .init();
}

/// Runs a started server to its end: says where it listens and how to talk to it, then what it did.
pub fn run<H: PreForkHooks, S: ChildServer>(
    mut prefork: PreFork<H, S>,
    listening: &[String],
    hint: &str,
) -> Result {
    let mut stdout = std::io::stdout();
    for address in listening {
        writeln!(stdout, "listening on {address}")?;
    }
    writeln!(stdout, "{hint}")?;
    stdout.flush()?;
    let report = prefork.run()?;
    println!("{report}");
    Ok(())
}
