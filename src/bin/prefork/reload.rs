//! SIGHUP for `prefork run` and `prefork inetd`: the file of settings is read anew. What can change
//! while the server runs is applied, and what cannot is named. Replaces no child itself.

use crate::exit::Failure;
use prefork_server::{
    ChildServer, Comm, ExecServer, InetdServer, Monitor, PreForkHooks, TakesEffect, defaults,
    settings::{Entry, Settings},
};
use std::{
    cell::RefCell,
    fmt,
    io::{self, Write},
    rc::Rc,
};

/// A server of the command, which can run another program from the next fork on.
pub(crate) trait Reloads: ChildServer + Sized {
    fn set_program_of(&mut self, other: Self);
}

impl Reloads for ExecServer {
    fn set_program_of(&mut self, other: Self) {
        self.set_program_of(other);
    }
}

impl Reloads for InetdServer {
    fn set_program_of(&mut self, other: Self) {
        self.set_program_of(other);
    }
}

/// What a reload has found, on its way from the hooks to the server.
type Next<S> = Rc<RefCell<Option<S>>>;

/// Reads the settings and makes a server of them, as at the start.
pub(crate) type Read<'a, S> = Box<dyn FnMut() -> Result<(Settings, S), Failure> + 'a>;

/// The hooks and the server for a reload.
pub(crate) fn reloading<S: Reloads>(
    settings: Settings,
    server: S,
    read: Read<'_, S>,
) -> (Hooks<'_, S>, Server<S>) {
    let next = Next::default();
    let hooks = Hooks {
        started: settings.clone(),
        settings,
        read,
        next: Rc::clone(&next),
    };
    (hooks, Server { server, next })
}

/// Applies new settings to the running server.
pub(crate) struct Hooks<'a, S> {
    /// Those of the start, which some keys keep.
    started: Settings,
    /// Those that were read last.
    settings: Settings,
    read: Read<'a, S>,
    next: Next<S>,
}

impl<S: Reloads> PreForkHooks for Hooks<'_, S> {
    fn handler_reload(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        let (settings, next) = (self.read)().map_err(|failure| io::Error::other(failure.text()))?;
        let mut config = monitor.config().clone();
        settings.apply_changes(&self.settings, &mut config);
        monitor.set_config(config);
        for (old, new) in self
            .settings
            .changes(&settings)
            .filter(|(_, new)| !is_fixed(new))
        {
            say(&applied(old, new));
        }
        for (old, new) in self
            .started
            .changes(&settings)
            .filter(|(_, new)| is_fixed(new))
        {
            say(&not_applied(old, new));
        }
        self.settings = settings;
        *self.next.borrow_mut() = Some(next);
        defaults::handler_reload(self, monitor, server)
    }
}

/// Whether the server keeps the value of its start.
fn is_fixed(entry: &Entry) -> bool {
    entry.key().takes_effect == TakesEffect::AtStart
}

fn applied(old: &Entry, new: &Entry) -> String {
    let (name, source) = (name(new), new.source());
    format!(
        "reload: {name} is {} ({source}), was {}",
        shown(new),
        shown(old)
    )
}

fn not_applied(started: &Entry, new: &Entry) -> String {
    let (name, source) = (name(new), new.source());
    format!(
        "reload: {name} stays {}: {} ({source}) needs a restart",
        shown(started),
        shown(new)
    )
}

fn name(entry: &Entry) -> String {
    let key = entry.key();
    match key.section {
        Some(section) => format!("{section}.{}", key.name),
        None => key.name.to_owned(),
    }
}

fn shown(entry: &Entry) -> String {
    let value = entry.value();
    if value.is_empty() {
        "none".to_owned()
    } else {
        value
    }
}

/// OK to ignore errors: there is no other place to report it.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "prefork: {line}");
}

/// The server of the command, with its next program.
pub(crate) struct Server<S> {
    server: S,
    next: Next<S>,
}

impl<S: Reloads> ChildServer for Server<S> {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        Some(&mut self.server)
    }

    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        self.server.resume_accept(comm)
    }

    fn reload(&mut self) -> io::Result<()> {
        self.server.reload()?;
        if let Some(next) = self.next.take() {
            self.server.set_program_of(next);
        }
        Ok(())
    }
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Hooks<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}
