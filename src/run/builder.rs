//! The description of a server before it starts, and the start.

use super::{PreFork, hooked::Hooked};
use crate::{
    core::{
        config::{Attributes, CommChannel, ThreadCheck, with_attributes},
        error::{Error, Operation},
        monitor::Monitor,
        report::Report,
        wire::CommWords,
    },
    hooks::{
        DefaultHooks, PreForkHooks,
        server::{ChildServer, check_channel},
    },
    sys::{
        fd_registry::{self, PreForkId},
        limits::{self, Threads},
        shell::Shell,
    },
};
use std::time::Duration;

/// Descriptors that the parent holds for each child: two outputs and a pidfd.
const DESCRIPTORS_A_CHILD: usize = 3;

/// A server that is being described: set attributes, then [`start`](Self::start) or
/// [`run`](Self::run) it.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder<H, S> {
    hooks: H,
    server: S,
    attributes: Attributes,
}

macro_rules! attribute_setters {
    ($($(#[$doc:meta])* $name:ident, $set:ident: $type:ty = $default:expr;)*) => {
        /// The attributes. They can be changed later through the [`Monitor`].
        impl<H, S> Builder<H, S> {
            $(
                $(#[$doc])*
                pub fn $name(mut self, value: $type) -> Self {
                    self.attributes.$name = value;
                    self
                }
            )*
        }
    };
}

with_attributes!(attribute_setters);

impl<S: ChildServer> Builder<DefaultHooks, S> {
    pub(super) fn new(server: S) -> Self {
        Self {
            hooks: DefaultHooks,
            server,
            attributes: Attributes::default(),
        }
    }
}

impl<H: PreForkHooks, S: ChildServer> Builder<H, S> {
    /// Overrides the hooks.
    pub fn hooks<N: PreForkHooks>(self, hooks: N) -> Builder<N, S> {
        Builder {
            hooks,
            server: self.server,
            attributes: self.attributes,
        }
    }

    /// Starts the server: runs the hook `handler_start`. The socket is open when this returns, and
    /// nothing is forked yet.
    ///
    /// Takes over SIGTERM and SIGINT (see `handle_signals`) until the server has shut down, and sets
    /// SIGCHLD to its default if it was ignored.
    ///
    /// # Errors
    ///
    /// When the process has several threads, when the limit of open files does not allow
    /// `max_clients` children, when the attributes and the server do not go together, when the
    /// operating system refuses something, or when the server's `start` fails: then with its error.
    /// Nothing is started then, and nothing left behind but the raised limit of open files.
    ///
    /// # Panics
    ///
    /// When the hook `handler_start` does.
    pub fn start(self) -> Result<PreFork<H, S>, Error> {
        if self.attributes.thread_check == ThreadCheck::Refuse {
            Threads::open().expect_one()?;
        }
        check_channel(&self.server, self.attributes.comm_channel)
            .map_err(|error| Error::new(Operation::Start, "the server", error))?;
        let mut normal = self.attributes.clone();
        let _ = normal.normalise();
        let private = usize::from(normal.comm_channel == CommChannel::Private);
        limits::ensure_open_files(normal.max_clients, DESCRIPTORS_A_CHILD + private)?;
        let id = PreForkId::unique();
        let shell = Shell::new(
            id,
            normal.handle_signals,
            normal.kill_timeout,
            normal.max_clients,
        )?;
        let mut monitor = Monitor::with_attributes(self.attributes);
        monitor.pid = std::process::id();
        let mut prefork = PreFork {
            id,
            core: Hooked::new(self.hooks, monitor, shell.clock),
            server: self.server,
            shell,
            ready: Vec::new(),
            expected: None,
            to_look_at_scoreboard: false,
            at_the_latest: None,
            deaths_unknown: false,
            look_at: None,
            warned_of_threads: false,
            done: false,
        };
        prefork.start()?;
        Ok(prefork)
    }

    /// Starts the server and drives it until it has shut down.
    ///
    /// Returns in the parent only: a child ends inside of this call.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start) and [`PreFork::run`].
    pub fn run(self) -> Result<Report, Error> {
        self.start()?.run()
    }
}

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    fn start(&mut self) -> Result<(), Error> {
        let Self {
            id, core, server, ..
        } = self;
        let started = fd_registry::starting(*id, || {
            let hooks = &mut core.hooks;
            core.monitor.naming("handler_start", |monitor| {
                hooks.handler_start(monitor, server)
            })
        });
        started.map_err(|error| {
            self.call_child(&error);
            self.stop();
            Error::new(Operation::Start, "the server", error)
        })?;
        self.lead_signals().inspect_err(|_| self.stop())
    }

    fn lead_signals(&mut self) -> Result<(), Error> {
        let mut signals = self.core.monitor.leads().keys();
        signals.try_for_each(|signal| self.shell.lead(*signal))
    }
}
