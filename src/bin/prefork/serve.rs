//! `prefork run` and `prefork inetd`: builds the server that the settings describe, and runs it to
//! its end.

use crate::{
    args::{Common, InetdArgs, RunArgs},
    exit::CliError,
    flags::{AcceptsFlags, GivenFlags, given},
    progress::ProgressNotes,
    reload::{Reloadable, reloading},
};
use prefork_server::{
    Builder, ChildServer, ExecServer, InetdServer, PreFork, PreForkHooks, StatusAddress, Systemd,
    servers, settings::Settings,
};
use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// What to do where sockets were handed over and no address was given.
const SYSTEMD: &str = "LISTEN_FDS has sockets for this server: add --listen systemd, or \
                       --listen systemd:NAME for those of one name";

/// What to do without an address.
const NOWHERE: &str =
    "no address to listen on: add --listen 127.0.0.1:7777, or `listen` to the file";

/// Settings, and the program that they are for.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) settings: Settings,
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
}

pub(crate) fn run(given: &RunArgs) -> Result<(), CliError> {
    serve::<ExecServer>(|| {
        let job = Job::read(&given.common, &given.flags)?;
        // Without a word its programs would not find the sockets.
        match job.settings.listen().is_empty() && servers::has_listen_fds() {
            true => Err(CliError::config(SYSTEMD.to_owned())),
            false => Ok(job),
        }
    })
}

pub(crate) fn inetd(given: &InetdArgs) -> Result<(), CliError> {
    serve::<InetdServer>(|| {
        let job = Job::read(&given.common, &given.flags)?;
        match (job.settings.listen().is_empty(), servers::has_listen_fds()) {
            (false, _) => Ok(job),
            (true, true) => Err(CliError::config(SYSTEMD.to_owned())),
            (true, false) => Err(CliError::usage(NOWHERE)),
        }
    })
}

/// Runs the server of what `read` finds, now and at each reload.
fn serve<S: Reloadable>(mut read: impl FnMut() -> Result<Job, CliError>) -> Result<(), CliError> {
    let job = read()?;
    let (config, confinement) = (job.settings.config(), job.settings.confinement());
    let sockets = Sockets::of(&job.settings);
    #[cfg(feature = "holder")]
    let holder = job.settings.holder();
    let (hooks, server) = reloading::<S>(job, Box::new(read));
    let builder = PreFork::builder(server)
        .hooks(hooks)
        .config(config)
        .confinement(confinement)
        .observe(Systemd::from_env())
        .observe(ProgressNotes);
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
    pub(crate) fn new<A: Into<OsString>>(
        settings: Settings,
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            settings,
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
        }
    }

    fn read<T: AcceptsFlags>(common: &Common, flags: &GivenFlags<T>) -> Result<Self, CliError> {
        let settings = flags.settings(common.config.as_deref(), &common.spare.as_flags())?;
        let mut words = match common.program.is_empty() {
            true => settings.program().into_iter().map(OsString::from).collect(),
            false => common.program.clone(),
        }
        .into_iter();
        let program = words.next();
        let missing = || CliError::usage("no program: write it after --, as in: -- cat");
        let job = Self::new(settings, program.ok_or_else(missing)?, words);
        job.check_program().map(|()| job)
    }

    /// A program inside of a chroot is looked for by each child.
    pub(crate) fn check_program(&self) -> Result<(), CliError> {
        let program = self.program_of_children();
        let server = self.settings.exec_server(&program, &[] as &[&str]);
        match server.program_file().is_some() || given(&self.settings, "chroot").is_some() {
            true => Ok(()),
            false => Err(CliError::no_program(&program.to_string_lossy())),
        }
    }

    /// The program as this process has to look for it: a relative path is one of the children's
    /// directory.
    fn program_of_children(&self) -> OsString {
        let is_path = self.program.as_bytes().contains(&b'/');
        match given(&self.settings, "directory").filter(|_| is_path) {
            Some(directory) => PathBuf::from(directory.value()).join(&self.program).into(),
            None => self.program.clone(),
        }
    }
}
