//! `prefork run` and `prefork inetd`: builds the server that the settings describe, and runs it to
//! its end.

use crate::{
    args::{Common, InetdArgs, RunArgs},
    exit::Failure,
    flags::{Flags, Takes},
    reload::{Reloads, reloading},
};
use prefork_server::{
    Builder, ChildServer, PreFork, PreForkHooks, StatusAddress, Systemd, settings::Settings,
};
use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
};

/// Settings, and the program that they are for.
struct Job {
    settings: Settings,
    program: OsString,
    args: Vec<OsString>,
}

pub(crate) fn run(given: &RunArgs) -> Result<(), Failure> {
    serve(|| {
        let job = Job::new(&given.common, &given.flags)?;
        let server = job.settings.exec_server(&job.program, &job.args);
        job.check_program(server.program_file())?;
        Ok((job.settings, server))
    })
}

pub(crate) fn inetd(given: &InetdArgs) -> Result<(), Failure> {
    serve(|| {
        let job = Job::new(&given.common, &given.flags)?;
        if job.settings.listen().is_empty() {
            let message =
                "no address to listen on: add --listen 127.0.0.1:7777, or `listen` to the file";
            return Err(Failure::usage(message));
        }
        let server = job.settings.inetd_server(&job.program, &job.args);
        job.check_program(server.program_file())?;
        Ok((job.settings, server))
    })
}

/// Runs the server that `read` makes of the settings, now and at each reload.
fn serve<S: Reloads>(
    mut read: impl FnMut() -> Result<(Settings, S), Failure>,
) -> Result<(), Failure> {
    let (settings, server) = read()?;
    let (config, confinement) = (settings.config(), settings.confinement());
    let sockets = Sockets::of(&settings);
    #[cfg(feature = "holder")]
    let holder = settings.holder();
    let (hooks, server) = reloading(settings, server, Box::new(read));
    let builder = PreFork::builder(server)
        .hooks(hooks)
        .config(config)
        .confinement(confinement)
        .observe(Systemd::from_env());
    let builder = sockets.add_to(builder);
    #[cfg(feature = "holder")]
    let builder = if holder { builder.holder() } else { builder };
    let mut prefork = builder.start()?;
    for listener in prefork.server_mut().listeners() {
        writeln!(io::stdout(), "listening on {}", listener.name)?;
    }
    for address in prefork.status_addresses() {
        writeln!(io::stdout(), "status at {address}")?;
    }
    let report = prefork.run()?;
    // OK to ignore: the reader of the output may have gone since.
    let _ = writeln!(io::stdout(), "{report}");
    Ok(())
}

/// Where the server is asked and tells something.
struct Sockets {
    control: Option<PathBuf>,
    status: Option<StatusAddress>,
    agent_check: Option<StatusAddress>,
}

impl Sockets {
    fn of(settings: &Settings) -> Self {
        Self {
            control: settings.control(),
            status: settings.status(),
            agent_check: settings.agent_check(),
        }
    }

    fn add_to<H: PreForkHooks, S: ChildServer>(self, mut builder: Builder<H, S>) -> Builder<H, S> {
        if let Some(path) = self.control {
            builder = builder.control(path);
        }
        if let Some(address) = self.status {
            builder = builder.status(address);
        }
        if let Some(address) = self.agent_check {
            builder = builder.agent_check(address);
        }
        builder
    }
}

impl Job {
    fn new<T: Takes>(common: &Common, flags: &Flags<T>) -> Result<Self, Failure> {
        let settings = flags.settings(common.config.as_deref(), &common.as_flags())?;
        let mut words = match common.program.is_empty() {
            true => settings.program().into_iter().map(OsString::from).collect(),
            false => common.program.clone(),
        }
        .into_iter();
        let program = words.next();
        let missing = || Failure::usage("no program: write it after --, as in: -- wc -l");
        Ok(Self {
            program: program.ok_or_else(missing)?,
            args: words.collect(),
            settings,
        })
    }

    /// A program inside of a chroot is looked for by each child.
    fn check_program(&self, file: Option<PathBuf>) -> Result<(), Failure> {
        let chroot = self.settings.entry("chroot");
        let is_inside = chroot.is_some_and(|entry| entry.value() != "none");
        match file.is_some() || is_inside {
            true => Ok(()),
            false => Err(Failure::no_program(&self.program.to_string_lossy())),
        }
    }
}

impl Common {
    /// `--spare 2..10` as the flags that it stands for.
    fn as_flags(&self) -> Vec<(&'static str, Vec<String>)> {
        let Some((min, max)) = &self.spare else {
            return Vec::new();
        };
        let min = ("min_spare_servers", vec![min.clone()]);
        vec![min, ("max_spare_servers", vec![max.clone()])]
    }
}
