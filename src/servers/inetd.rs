//! The server that runs a program for each connection, with the connection as its stdin and stdout,
//! as inetd does. A child accepts and waits; knows no protocol and reads nothing itself.

mod environment;
mod program;

use self::program::Program;
use super::{
    access_log::AccessLog,
    exec::ExecSpec,
    listen::{Listen, ListenSet},
    stream::StreamServer,
};
use crate::{
    core::{
        access::Access,
        error::{Error, Operation},
    },
    hooks::{comm::Comm, server::ChildServer},
    sys::{connection_program, sockets},
};
use std::{
    cell::RefCell,
    ffi::{OsStr, OsString},
    io,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

/// Runs a program for each connection, with the connection as its stdin and stdout.
///
/// Any program that reads and writes is a server then: `wc -l`, a shell script, an old daemon for
/// inetd. The children are forked ahead of the load, in a number that follows it; a child accepts,
/// says BUSY, runs the program, waits for its end, and says NOT_BUSY.
///
/// ```no_run
/// use prefork_server::{InetdServer, PreFork};
///
/// let server = InetdServer::new("wc").arg("-l").listen("127.0.0.1:7777");
/// let report = PreFork::builder(server).max_clients(100).run()?;
/// # Ok::<(), prefork_server::Error>(())
/// ```
///
/// # What the program is given
///
/// The connection is descriptors 0 and 1, in blocking mode. Descriptor 2 is the child's stderr, a
/// pipe to the parent, which passes each line to the hook `server_stderr`. There is no other
/// descriptor. Signals have their default actions. Directory, user and limits are those of the
/// child: see [`Builder::confinement`](crate::Builder::confinement).
///
/// The environment is the parent's, with what [`env`](Self::env) sets, without variables that
/// describe the parent's own descriptors, and with the client's address both as UCSPI tools
/// (tcpserver, s6) and as systemd tell it:
///
/// | variable | TCP | UNIX socket |
/// |---|---|---|
/// | PROTO | `TCP` | `UNIX` |
/// | TCPREMOTEIP, TCPREMOTEPORT | the client's address and port | – |
/// | TCPLOCALIP, TCPLOCALPORT | what it has connected to | – |
/// | REMOTE_ADDR, REMOTE_PORT | the client's address and port | – |
/// | UNIXLOCALPATH | – | the path that it has connected to |
/// | UNIXREMOTEPID, UNIXREMOTEEUID, UNIXREMOTEEGID | – | the client's process, user and group |
///
/// # How a program ends
///
/// By itself, usually at the end of its input. A line on the child's stderr tells an exit code other
/// than zero and a signal. If the client has sent more than the program has read, the child reads it
/// away for up to 2 s, so that the answer is not lost to a reset.
///
/// After the [`deadline`](Self::deadline) the program gets SIGTERM, and SIGKILL
/// [`kill_after`](Self::kill_after) later. Its client is disconnected, and the child leaves and is
/// replaced.
///
/// A child that is told to stop lets its program finish. When the child is killed (in a shutdown
/// after `shutdown_timeout`, otherwise after `kill_timeout`), SIGKILL goes to its process group,
/// and with it to the program and all that the program has started, unless that has made a group of
/// its own. On Linux the program also dies with its child if the child alone is killed, and what it
/// has started is told to stop and killed. What a program leaves running in the background ends
/// with its child in the same way, and without its connection.
pub struct InetdServer {
    server: StreamServer<ListenSet>,
    program: Rc<RefCell<Program>>,
}

impl InetdServer {
    /// A server that runs `program`.
    ///
    /// It is a path, or a name that is looked up in the PATH that the program gets.
    pub fn new(program: impl Into<OsString>) -> Self {
        let program = Rc::new(RefCell::new(Program {
            spec: ExecSpec::new(program.into()),
            deadline: None,
            kill_after: Duration::from_secs(2),
        }));
        let in_child = Rc::clone(&program);
        let handler = move |conn| in_child.borrow().serve(&conn);
        Self {
            server: StreamServer::on(ListenSet::default(), handler),
            program,
        }
    }

    fn with(self, change: impl FnOnce(&mut Program)) -> Self {
        change(&mut self.program.borrow_mut());
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(self, arg: impl Into<OsString>) -> Self {
        self.with(|program| program.spec.args.push(arg.into()))
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(self, args: impl IntoIterator<Item = A>) -> Self {
        self.with(|program| program.spec.args.extend(args.into_iter().map(Into::into)))
    }

    /// Sets an environment variable.
    ///
    /// Variables that describe the connection override it.
    #[must_use]
    pub fn env(self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.with(|program| {
            let changes = &mut program.spec.changes;
            changes.insert(name.into(), Some(value.into()));
        })
    }

    /// Removes one of the parent's variables from the program's environment.
    #[must_use]
    pub fn env_remove(self, name: impl AsRef<OsStr>) -> Self {
        self.with(|program| {
            let changes = &mut program.spec.changes;
            changes.insert(name.as_ref().to_owned(), None);
        })
    }

    /// Removes all variables, those of the parent and those that were set before.
    #[must_use]
    pub fn env_clear(self) -> Self {
        self.with(|program| {
            program.spec.clear = true;
            program.spec.changes.clear();
        })
    }

    /// One more address: `"127.0.0.1:80"`, `"/run/x.sock"`, or a [`Listen`] with options.
    ///
    /// At least one is needed.
    #[must_use]
    pub fn listen(mut self, listen: impl Into<Listen>) -> Self {
        let listen = listen.into();
        if let Some(wanted) = listen.wanted() {
            self.server.take_over(wanted.clone());
        }
        self.server.listener.listen.push(listen);
        self
    }

    /// How many connections may wait to be accepted. Default: 1024.
    #[must_use]
    pub fn backlog(mut self, connections: i32) -> Self {
        self.server = self.server.backlog(connections);
        self
    }

    /// How many connections a child takes before it leaves and is replaced.
    ///
    /// Default: 25; 0 means no limit.
    #[must_use]
    pub fn max_requests(mut self, connections: u64) -> Self {
        self.server = self.server.max_requests(connections);
        self
    }

    /// How many connections of one client may be in hand at the same time.
    ///
    /// Default, and 0: no limit.
    ///
    /// Others are closed before a program is run: see
    /// [`StreamServer::max_per_peer`](crate::servers::StreamServer::max_per_peer).
    #[must_use]
    pub fn max_per_peer(mut self, connections: usize) -> Self {
        self.server = self.server.max_per_peer(connections);
        self
    }

    /// How long a connection may have been queued.
    ///
    /// Older ones are closed before a program is run. Default: `None`, no limit.
    ///
    /// It has no effect at UNIX sockets: see
    /// [`StreamServer::max_queue_age`](crate::servers::StreamServer::max_queue_age).
    #[must_use]
    pub fn max_queue_age(mut self, age: Option<Duration>) -> Self {
        self.server.set_max_queue_age(age);
        self
    }

    /// Which clients may connect. Default: all.
    ///
    /// Others are closed before a program is run: see
    /// [`StreamServer::access`](crate::servers::StreamServer::access).
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.server.set_access(access);
        self
    }

    /// Writes a line for each connection: see
    /// [`StreamServer::access_log`](crate::servers::StreamServer::access_log).
    ///
    /// The text of a line is the status of a program that has failed. How many bytes have moved is
    /// not known.
    #[must_use]
    pub fn access_log(mut self, log: AccessLog) -> Self {
        self.server = self.server.access_log(log);
        self
    }

    /// How long the program of one connection may run. Default: `None`, no limit.
    #[must_use]
    pub fn deadline(self, time: Option<Duration>) -> Self {
        self.with(|program| program.deadline = time)
    }

    /// How long after SIGTERM, at its deadline, a program is killed. Default: 2 s.
    #[must_use]
    pub fn kill_after(self, time: Duration) -> Self {
        self.with(|program| program.kill_after = time)
    }

    /// Runs the program of `other` from the next fork on, in place of this one.
    ///
    /// Its arguments come with it, its environment, its time limits, its `max_requests`,
    /// `max_per_peer`, `max_queue_age` and `access`. The sockets stay.
    ///
    /// For a reload: see [`ChildServer::reload`].
    pub fn set_program_of(&mut self, other: Self) {
        self.server
            .set_max_requests(other.server.get_max_requests());
        self.server
            .set_max_per_peer(other.server.get_max_per_peer());
        self.server
            .set_max_queue_age(other.server.get_max_queue_age());
        self.server.set_access(other.server.get_access().clone());
        self.program.swap(&other.program);
    }

    /// The file that would be executed.
    ///
    /// `None` if there is none, or it may not be executed. It looks outside of a chroot.
    pub fn program_file(&self) -> Option<PathBuf> {
        self.program.borrow().spec.file()
    }

    /// The TCP addresses that the started server listens on.
    ///
    /// Each has the port that it got.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let sockets = self.server.open_sockets();
        sockets.filter_map(sockets::tcp_address).collect()
    }
}

impl ChildServer for InetdServer {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        Some(&mut self.server)
    }

    fn start(&mut self) -> io::Result<()> {
        check_listen(&self.server.listener.listen)?;
        // An invalid environment would fail in every child: it is found here, once.
        self.program
            .borrow()
            .spec
            .environment(std::env::vars_os())?;
        self.server.start()
    }

    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        connection_program::end_group_with_orphan()?;
        self.server.resume_accept(comm)
    }

    fn own_group(&mut self) -> bool {
        true
    }

    /// A program is to finish when its child is told to stop.
    fn only_kills_group(&mut self) -> bool {
        true
    }
}

/// The sockets of one server have one origin.
fn check_listen(listen: &[Listen]) -> io::Result<()> {
    let taken = listen.iter().filter(|listen| listen.wanted().is_some());
    let taken = taken.count();
    let reason = match (listen.len(), taken) {
        (0, _) => "an InetdServer needs an address to listen on",
        (_, 0) | (1, 1) => return Ok(()),
        _ => "an InetdServer has sockets of systemd's, of one name or all, or addresses of its own",
    };
    let error = io::Error::new(io::ErrorKind::InvalidInput, reason);
    match taken {
        0 => Err(error),
        _ => Err(Error::new(Operation::TakeOver, "LISTEN_FDS", error).into()),
    }
}

impl std::fmt::Debug for InetdServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InetdServer")
            .field("server", &self.server)
            .field("program", &self.program)
            .finish()
    }
}
