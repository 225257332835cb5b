//! The description of a server before it starts, and the start.

use super::{PreFork, parent::ParentState, turn::Loop};
#[cfg(feature = "status")]
use crate::observe::status::StatusAddress;
use crate::{
    core::{
        config::{Attributes, CommChannel, Config, ThreadCheck, facts, with_attributes},
        confinement::Confinement,
        error::{Error, Operation, copy},
        event::Event,
        monitor::Monitor,
        report::Report,
        signal_policy::TakenSignals,
        state::Snapshot,
        system::System,
        wire::CommWords,
    },
    hooks::{
        DefaultHooks, PreForkHooks,
        server::{ChildServer, check_channel},
    },
    listeners::socket_file::{SocketFile, listen_privately},
    observe::{
        Observer, Observers, log,
        status::{Status, StatusConfig},
    },
    sys::{
        adopted::Adoption,
        confine::ConfinementPlan,
        fd_registry::{self, PreForkId},
        limits::{self, Threads},
        unix::UnixSystem,
        unix_socket::display_name,
        upgrade,
    },
};
use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Descriptors that the parent holds for each child: the read ends of its outputs.
const DESCRIPTORS_A_CHILD: usize = 2;

/// The description of a server before its start.
///
/// Set attributes, then call [`start`](Self::start) or [`run`](Self::run).
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder<H, S> {
    hooks: H,
    server: S,
    config: Config,
    confinement: Confinement,
    observers: Observers,
    control: Option<PathBuf>,
    status: StatusConfig,
    #[cfg(feature = "holder")]
    holder: bool,
}

macro_rules! attribute_setters {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident, $set:ident: $type:ty $(as $read:ty)? = $default:expr => $facts:tt;
    )*) => {
        /// The attributes. The [`Monitor`] can change them later.
        impl<H, S> Builder<H, S> {
            $(
                $(#[doc = $doc])*
                #[doc = facts!($default, $facts)]
                pub fn $name(mut self, value: $type) -> Self {
                    self.config.$name = value;
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
            config: Config::default(),
            confinement: Confinement::default(),
            observers: Observers::default(),
            control: None,
            status: StatusConfig::default(),
            #[cfg(feature = "holder")]
            holder: false,
        }
    }
}

impl<H: PreForkHooks, S: ChildServer> Builder<H, S> {
    /// Sets all attributes at once. Later calls of setters override them.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Limits what each child may do and use.
    ///
    /// Its user, a chroot, resource limits and more.
    ///
    /// Default: a child has the limits and privileges of the parent.
    pub fn confinement(mut self, confinement: Confinement) -> Self {
        self.confinement = confinement;
        self
    }

    /// Sets the hooks.
    pub fn hooks<N: PreForkHooks>(self, hooks: N) -> Builder<N, S> {
        Builder {
            hooks,
            server: self.server,
            config: self.config,
            confinement: self.confinement,
            observers: self.observers,
            control: self.control,
            status: self.status,
            #[cfg(feature = "holder")]
            holder: self.holder,
        }
    }

    /// Adds an observer.
    ///
    /// It is told all events from [`start`](Self::start) on. There can be any number of observers.
    pub fn observe(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.add(Box::new(observer));
        self
    }

    /// Serves commands on a UNIX stream socket at `path`.
    ///
    /// They reload, upgrade, stop, retire a child, set an attribute, and more.
    ///
    /// A client sends lines and gets a line of JSON for each when the command is done. The file
    /// `docs/operations.md` has the commands; `help` lists them:
    ///
    /// ```sh
    /// echo reload | socat -t 60 - UNIX-CONNECT:/run/hello.control
    /// ```
    ///
    /// The socket has mode 0600, and only root and the user of the parent are served. The parent
    /// serves it between its other work, and children do not have it. A stale socket at `path` is
    /// replaced. The socket is removed when the server has ended. A zero byte before the path makes
    /// an abstract name (Linux).
    ///
    /// Default: there is no such socket.
    pub fn control(mut self, path: impl Into<PathBuf>) -> Self {
        self.control = Some(path.into());
        self
    }

    /// Tells the status of the server at this address, by HTTP.
    ///
    /// It is told as a page, as JSON, as metrics and as probes.
    ///
    /// A process beside the children answers, which the parent starts with its first turn and
    /// starts again if it ends. It does not count as a child, has the
    /// [confinement](Self::confinement) of a child except for its limits, and answers until the
    /// server has ended. `docs/status.md` describes what is told.
    ///
    /// Default: nothing is told, and nothing listens.
    ///
    /// ```
    /// # use prefork_server::{PreFork, StatusAddress, TcpServer};
    /// let server = TcpServer::new(|conn| Ok(()));
    /// let builder = PreFork::builder(server).status(StatusAddress::tcp("127.0.0.1:9100"));
    /// ```
    #[cfg(feature = "status")]
    #[cfg_attr(docsrs, doc(cfg(feature = "status")))]
    pub fn status(mut self, address: StatusAddress) -> Self {
        self.status.http = Some(address);
        self
    }

    /// Answers HAProxy's agent-check at this address.
    ///
    /// Each client is told a line: `up ready 85%`, where the weight is the share of children that
    /// could take a connection, on average over some seconds, `drain` from the first moment of a
    /// stop, and `down` as long as no child is ready. The process of [`status`](Self::status)
    /// answers.
    ///
    /// Default: nothing listens.
    #[cfg(feature = "status")]
    #[cfg_attr(docsrs, doc(cfg(feature = "status")))]
    pub fn agent_check(mut self, address: StatusAddress) -> Self {
        self.status.agent = Some(address);
        self
    }

    /// Has the children outlive a parent that is killed: another one takes them over.
    ///
    /// [`PreFork::run`] makes the process a small *holder*, which forks the parent, passes on its
    /// signals, and exits as it does. If the parent is gone before the server has ended, the holder
    /// forks another, which goes on where `run` was called: with the hooks, the observers and the server
    /// object as they were then, and with the children, the counters and the changed attributes of the
    /// parent before. The children serve meanwhile. If the holder is killed, the parent and the children
    /// end.
    ///
    /// `run` then returns in the parent, which has another pid than the process before. Five parents in
    /// a row that end before their first turn is over end the server with exit code 70. Signals are for
    /// the holder: the parent takes no others. An upgrade replaces the holder as well, by a program that
    /// has one or not. Children that become [other programs](crate::ExecServer) are the holder's from
    /// their fork on; what is registered with `pthread_atfork` does not run in them before the exec.
    /// Children beyond the `max_clients` of the start end with their parent. The file
    /// `docs/operations.md` has the rest.
    ///
    /// Linux only, from 5.3 on. Elsewhere, in a process with several threads or servers, and after a
    /// [turn](PreFork::turn), `run` fails with [`Operation::Start`] or [`Operation::Threads`].
    ///
    /// Default: the children end with their parent.
    #[cfg(feature = "holder")]
    #[cfg_attr(docsrs, doc(cfg(feature = "holder")))]
    pub fn holder(mut self) -> Self {
        self.holder = true;
        self
    }

    /// Starts the server: runs the hook `handler_start`.
    ///
    /// When this returns, the socket is open, and no child has been forked yet.
    ///
    /// Takes over signals (see `handle_signals`) until the server has shut down, and sets SIGCHLD to
    /// its default if it was ignored.
    ///
    /// From now on the crate's warnings and errors go to stderr, without blocking, as long as the
    /// program has no logger (of the crate `log`). The program may set one at any time.
    ///
    /// # Errors
    ///
    /// When the process has several threads, when the limit of open files does not allow
    /// `max_clients` children, when the attributes do not suit the server, when a step of the
    /// confinement fails ([`Operation::Confine`]), when another server has the control socket, when
    /// the operating system refuses a call, or when the server's `start` fails: then with its error. After an error nothing has been started, and
    /// only the raised limit of open files stays.
    ///
    /// # Panics
    ///
    /// When the hook `handler_start` does.
    pub fn start(self) -> Result<PreFork<H, S>, Error> {
        log::stand_in();
        match upgrade::instruction() {
            None => self.start_afresh(),
            Some(instruction) => self.start_as_instructed(&instruction),
        }
    }

    fn start_afresh(self) -> Result<PreFork<H, S>, Error> {
        let mut prefork = self.prepare(None)?;
        prefork.start()?;
        Ok(prefork)
    }

    /// The server before its start; with the state of an earlier program, in its place.
    pub(super) fn prepare(mut self, state: Option<&Snapshot>) -> Result<PreFork<H, S>, Error> {
        let attributes = Attributes::from(self.config);
        if attributes.thread_check == ThreadCheck::Refuse {
            Threads::open().expect_one()?;
        }
        check_channel(&mut self.server, attributes.comm_channel)
            .map_err(|error| Error::new(Operation::Start, "the server", error))?;
        check_session(&mut self.server, &self.confinement)?;
        let plan = ConfinementPlan::new(&self.confinement)?;
        let private = usize::from(attributes.comm_channel == CommChannel::Private);
        limits::ensure_open_files(attributes.max_clients, DESCRIPTORS_A_CHILD + private)?;
        let mut system = UnixSystem::new(
            PreForkId::unique(),
            takes(&attributes),
            attributes.max_clients,
            state,
        )?;
        system.confinement = plan;
        system.adoption = Adoption::new(attributes.reap_orphans, &self.confinement);
        let control = self.control.as_deref();
        let control = control.map(|path| open_control(path, &mut system));
        let control_file = control.transpose()?.flatten();
        let status = Status::open(&self.status, attributes.max_clients)?;
        let mut monitor = Monitor::with_attributes(attributes);
        monitor.pid = std::process::id();
        monitor.collects_stacks = system.collects_stacks();
        monitor.tells_status = status.is_on();
        let mut inner = Loop::new(self.hooks, self.server, monitor, system);
        inner.parent.set_observers(self.observers);
        inner.parent.control_file = control_file;
        inner.parent.set_status(status);
        Ok(PreFork {
            inner,
            #[cfg(feature = "holder")]
            wants_holder: self.holder,
        })
    }

    pub(super) fn hooks_mut(&mut self) -> &mut H {
        &mut self.hooks
    }

    /// Starts the server and drives it until it has shut down.
    ///
    /// Returns in the parent only: a child ends inside this call.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start) and [`PreFork::run`].
    pub fn run(self) -> Result<Report, Error> {
        self.start()?.run()
    }
}

/// Opens the control socket. Returns its file, if it has one.
fn open_control(path: &Path, system: &mut UnixSystem) -> Result<Option<SocketFile>, Error> {
    let object = || format!("control socket {}", display_name(path));
    let (listener, file) = listen_privately(path)
        .map_err(|error| Error::new(error.operation(), object(), copy(error.io_error())))?;
    let watched = system.watch_control(listener);
    watched.map_err(|error| Error::new(Operation::Register, object(), error))?;
    Ok(file)
}

fn takes(attributes: &Attributes) -> TakenSignals {
    TakenSignals {
        handle_signals: attributes.handle_signals,
        resize_signals: attributes.resize_signals,
    }
}

/// A leader of a process group cannot begin a session.
fn check_session(server: &mut impl ChildServer, confinement: &Confinement) -> Result<(), Error> {
    if !(confinement.begins_session() && server.own_group()) {
        return Ok(());
    }
    let reason = io::Error::other("children of this server lead process groups");
    Err(Error::new(Operation::Confine, "session", reason))
}

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    fn start(&mut self) -> Result<(), Error> {
        self.open().inspect_err(|error| {
            if error.operation() != Operation::Signal {
                self.inner.call_child(error.io_error());
            }
            self.inner.stop();
        })
    }

    /// Runs `handler_start`, and ends nothing if that fails.
    pub(super) fn open(&mut self) -> Result<(), Error> {
        let inner = &mut self.inner;
        inner.parent.emit(&Event::Starting);
        let (hooks, server) = (inner.hooks.current(), &mut inner.server);
        let monitor = &mut inner.parent.monitor;
        monitor.programs = server.execs();
        let processors = thread::available_parallelism();
        monitor
            .brake
            .set_processors(processors.map_or(1, usize::from));
        let started = fd_registry::starting(inner.parent.system.id, || {
            monitor.naming("handler_start", |monitor| {
                hooks.handler_start(monitor, server)
            })
        });
        started.map_err(|error| Error::new(Operation::Start, "the server", error))?;
        self.lead_signals()?;
        self.inner.emit_start();
        Ok(())
    }

    fn lead_signals(&mut self) -> Result<(), Error> {
        let ParentState {
            monitor, system, ..
        } = &mut self.inner.parent;
        let mut signals = monitor.leads().keys();
        signals.try_for_each(|signal| system.lead(*signal))
    }
}
