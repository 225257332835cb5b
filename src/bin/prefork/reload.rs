//! SIGHUP for `prefork run` and `prefork inetd`: the file of settings is read again. What can
//! change while the server runs is applied, and what cannot is named. If the new children fail,
//! what was in force before is put back. Replaces no child itself.

use crate::{exit::CliError, kept::InForce, progress::say, serve::Job};
use prefork_server::{
    ChildServer, Comm, Config, Error, ExecServer, InetdServer, Monitor, PreForkHooks, TakesEffect,
    defaults,
    settings::{Setting, Settings},
};
use std::{cell::RefCell, fmt, io, rc::Rc};

/// A server of the command, which can run another program from the next fork on.
pub(crate) trait Reloadable: ChildServer + Sized {
    fn of(job: &Job) -> Self;

    fn set_program_of(&mut self, other: Self);
}

impl Reloadable for ExecServer {
    fn of(job: &Job) -> Self {
        job.settings.exec_server(&job.program, &job.args)
    }

    fn set_program_of(&mut self, other: Self) {
        self.set_program_of(other);
    }
}

impl Reloadable for InetdServer {
    fn of(job: &Job) -> Self {
        job.settings.inetd_server(&job.program, &job.args)
    }

    fn set_program_of(&mut self, other: Self) {
        self.set_program_of(other);
    }
}

/// What a reload has found, on its way from the hooks to the server.
type NextProgram<S> = Rc<RefCell<Option<S>>>;

/// Reads the settings and the program, as at the start.
pub(crate) type ReadSettings<'a> = Box<dyn FnMut() -> Result<Job, CliError> + 'a>;

/// The hooks and the server for a reload.
pub(crate) fn reloading<S: Reloadable>(
    job: Job,
    read: ReadSettings<'_>,
) -> (ReloadHooks<'_, S>, ReloadingServer<S>) {
    let next = NextProgram::default();
    let server = ReloadingServer {
        server: S::of(&job),
        next: Rc::clone(&next),
    };
    let hooks = ReloadHooks {
        started: job.settings.clone(),
        job,
        before: None,
        is_reading: false,
        has_started: false,
        is_renewed: false,
        taken_over: None,
        read,
        next,
    };
    (hooks, server)
}

/// Applies new settings to the running server.
pub(crate) struct ReloadHooks<'a, S> {
    /// Those of the start, which some keys keep.
    started: Settings,
    /// What was read last.
    job: Job,
    /// What was in force before the reload that goes on, or that was the last.
    before: Option<PreviousSettings>,
    /// True from the start of a reload until all that it needs was read.
    is_reading: bool,
    /// True in a parent that takes over from one that was killed, before it is told what that one had.
    has_started: bool,
    /// Whether a reload has read what is in force.
    is_renewed: bool,
    /// What the parent before has read: the file may be another by now.
    taken_over: Option<Job>,
    read: ReadSettings<'a>,
    next: NextProgram<S>,
}

/// What a failed reload puts back.
struct PreviousSettings {
    job: Job,
    config: Config,
}

impl<S: Reloadable> PreForkHooks for ReloadHooks<'_, S> {
    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        self.has_started = true;
        defaults::handler_start(self, monitor, server)
    }

    fn save(&mut self, monitor: &mut Monitor) -> Vec<u8> {
        // A parent that works has taken over: the next reload is another one.
        self.taken_over = None;
        let before = self.before.as_ref().filter(|_| monitor.is_reloading());
        let in_force = InForce {
            job: before.map_or(&self.job, |before| &before.job).clone(),
            read: self.is_renewed.then(|| self.job.clone()),
        };
        in_force.bytes()
    }

    /// The program of an upgrade has read its own settings. A parent that takes over has those of the
    /// start; if a reload has read others, it is told to reload after this.
    fn restore(&mut self, saved: &[u8]) -> io::Result<()> {
        if self.has_started {
            let InForce { job, read } = InForce::of(saved)?;
            self.run_next(job);
            self.taken_over = read;
        }
        Ok(())
    }

    fn handler_reload(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        let job = self.next_job()?;
        self.keep(monitor);
        let mut config = monitor.config().clone();
        job.settings.apply_changes(&self.job.settings, &mut config);
        monitor.set_config(config);
        self.print_changes(&job.settings);
        self.run_next(job);
        self.is_renewed = true;
        defaults::handler_reload(self, monitor, server)
    }

    /// After an error in what was read, nothing has changed.
    fn reload_failed(&mut self, monitor: &mut Monitor, _: &Error) {
        if std::mem::take(&mut self.is_reading) {
            return;
        }
        self.is_renewed = false;
        if let Some(before) = self.before.take() {
            monitor.set_config(self.put_back(&before, monitor));
            self.run_next(before.job);
            say("reload: the program and the settings from before are in force again");
        }
    }
}

impl<S: Reloadable> ReloadHooks<'_, S> {
    /// What is to be in force.
    fn next_job(&mut self) -> io::Result<Job> {
        if let Some(job) = self.taken_over.take() {
            return Ok(job);
        }
        self.is_reading = true;
        let job = (self.read)()?;
        self.is_reading = false;
        Ok(job)
    }

    /// Keeps what is in force. While a reload goes on, that is what was in force before it.
    fn keep(&mut self, monitor: &Monitor) {
        let before = self.before.take().filter(|_| monitor.is_reloading());
        self.before = Some(before.unwrap_or_else(|| PreviousSettings {
            job: self.job.clone(),
            config: monitor.config().clone(),
        }));
    }

    /// Says what is applied, and what needs a restart.
    fn print_changes(&self, settings: &Settings) {
        for (old, new) in self.job.settings.changes(settings) {
            if !is_fixed(new) {
                say(&applied(old, new));
            }
        }
        for (old, new) in self.started.changes(settings) {
            if is_fixed(new) {
                say(&not_applied(old, new));
            }
        }
    }

    /// The configuration with the attributes from before that the reload has changed. What was set
    /// by other means meanwhile stays.
    fn put_back(&self, before: &PreviousSettings, monitor: &Monitor) -> Config {
        let mut config = monitor.config().clone();
        for (old, new) in before.job.settings.changes(&self.job.settings) {
            if let (Some(attribute), false) = (old.key().attribute(), is_fixed(new)) {
                // OK to ignore: it is the text of a value.
                let _ = attribute.set(&mut config, &attribute.text(&before.config));
            }
        }
        config
    }

    /// Has the children run this program from the next fork on.
    fn run_next(&mut self, job: Job) {
        *self.next.borrow_mut() = Some(S::of(&job));
        self.job = job;
    }
}

/// Whether the server keeps the value of its start.
fn is_fixed(entry: &Setting) -> bool {
    entry.key().takes_effect == TakesEffect::AtStart
}

fn applied(old: &Setting, new: &Setting) -> String {
    let (name, source) = (name(new), new.source());
    format!(
        "reload: {name} is {} ({source}), was {}",
        shown(new),
        shown(old)
    )
}

fn not_applied(started: &Setting, new: &Setting) -> String {
    let (name, source) = (name(new), new.source());
    format!(
        "reload: {name} stays {}: {} ({source}) needs a restart",
        shown(started),
        shown(new)
    )
}

fn name(entry: &Setting) -> String {
    let key = entry.key();
    match key.section {
        Some(section) => format!("{section}.{}", key.name),
        None => key.name.to_owned(),
    }
}

fn shown(entry: &Setting) -> String {
    let value = entry.value();
    if value.is_empty() {
        "none".to_owned()
    } else {
        value
    }
}

/// The server of the command, with its next program.
pub(crate) struct ReloadingServer<S> {
    server: S,
    next: NextProgram<S>,
}

impl<S: Reloadable> ReloadingServer<S> {
    /// The server with the program that is to run from now on.
    fn current(&mut self) -> &mut S {
        if let Some(next) = self.next.take() {
            self.server.set_program_of(next);
        }
        &mut self.server
    }
}

impl<S: Reloadable> ChildServer for ReloadingServer<S> {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        Some(self.current())
    }

    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        self.current().resume_accept(comm)
    }
}

impl<S> fmt::Debug for ReloadingServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for ReloadHooks<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}
