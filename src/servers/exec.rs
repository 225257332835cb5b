//! The server whose children are other programs: it opens the sockets, and each child execs a
//! program that gets them the way systemd passes them. Accepts nothing itself.

mod serving;
mod spec;
#[cfg(test)]
mod tests;

pub(super) use self::spec::ExecSpec;

use super::listen::{Listen, Listening};
use crate::core::child::Signal;
use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

/// Runs a program in each child and passes it the listening sockets.
///
/// The program may be in any language.
///
/// ```no_run
/// use prefork_server::{CommWords, ExecServer, PreFork};
///
/// let server = ExecServer::new("perl").arg("worker.pl").listen("127.0.0.1:7777");
/// let report = PreFork::builder(server).comm_words(CommWords::POE).run()?;
/// # Ok::<(), prefork_server::Error>(())
/// ```
///
/// # What the program is given
///
/// Exactly this:
///
/// | descriptor | |
/// |---|---|
/// | 0 | `/dev/null`; the first socket, if [`socket_at_stdin`](Self::socket_at_stdin) asks for it |
/// | 1, 2 | pipes to the parent: words and output, and output |
/// | 3, 4, … | the sockets, in the order of [`listen`](Self::listen), listening, in blocking mode |
///
/// | variable | |
/// |---|---|
/// | those of the parent | as they are when the child is forked, without those that describe the parent's own descriptors: LISTEN_FDS, LISTEN_PID, LISTEN_PIDFDID, LISTEN_FDNAMES, SERVER_STARTER_PORT, SERVER_STARTER_GENERATION, EINHORN_*; and without those by which the parent reports to systemd: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID |
/// | those of [`env`](Self::env) | |
/// | LISTEN_FDS | how many sockets; this and the next four only if there is one |
/// | LISTEN_PID | the program's process id |
/// | LISTEN_FDNAMES | their [names](Listen::name), separated by colons |
/// | SERVER_STARTER_PORT | `host:port=3;/path=4`, if [`server_starter`](Self::server_starter) asks for it |
/// | EINHORN_FD_COUNT, EINHORN_FD_0, … | how many, and the descriptors, if [`einhorn`](Self::einhorn) asks for it |
/// | PREFORK_SEND_ACK | at least how often to say ACK, in seconds (`1.5`); only with a `timeout` |
///
/// Every other descriptor is closed, even if the user has opened it without close-on-exec. SIGINT,
/// SIGTERM, SIGPIPE and the [stop signal](Self::stop_signal) have their default action. Handlers of
/// the parent are gone, as after any exec, and signals that the parent ignores stay ignored. The
/// signal mask is the parent's, but never blocks SIGINT, SIGTERM, SIGALRM or the stop signal. The
/// program leads a [process group](Self::process_group) of its own. Directory, user, group, limits
/// and umask are the parent's unless the hook `server_start` has changed them: it runs before the
/// exec, and `server_exiting` only if that fails.
///
/// A program that sets O_NONBLOCK on a socket sets it for all children, since they share the
/// socket. That is fine: all children run the same program.
///
/// # What the program says
///
/// Words are lines on stdout: by default the control characters of
/// [`CommWords::CONTROL`](crate::CommWords::CONTROL), with
/// [`comm_words`](crate::Builder::comm_words) `(`[`CommWords::POE`](crate::CommWords::POE)`)` the
/// `1`, `2` and `3` of the original. ACK once it can serve, and again at least every
/// PREFORK_SEND_ACK; BUSY when it has a connection in hand, NOT_BUSY when it can take one. The
/// first BUSY or NOT_BUSY shows that its start has succeeded. Write each word at once and in one
/// piece: the parent sees nothing that stays in a buffer.
///
/// The framework says no word for the program, not even the first ACK.
/// [`CommChannel::Private`](crate::CommChannel::Private) is refused.
///
/// Of a program that says nothing at all, the parent only sees whether it lives. It stays
/// [`Starting`](crate::State::Starting), which counts as spare and is never culled, so:
///
/// - there are `start_servers` of them (or `min_spare_servers`, if that is more), however busy they
///   are, and a program that ends is replaced;
/// - leave `timeout` off: without ACKs each program would be told to stop at that age;
/// - a program that ends within a second counts as a failed start, even if it has served, and slows
///   forking down: a program that serves one short request and exits needs words.
///
/// # How it ends
///
/// SIGINT, or the [`stop_signal`](Self::stop_signal) in its place, means: finish the connection in
/// hand, and exit. A program that ignores it gets SIGKILL, after `shutdown_timeout` in a shutdown
/// and otherwise after `kill_timeout`.
///
/// Both signals go to the whole [process group](Self::process_group), so a wrapper such as `sh -c
/// 'setup; server'` need not exec the server. A process of the group that outlives the program,
/// such as a server whose wrapper dies, is told to stop and killed in the same way, and takes the
/// child's place until it has ended: after a stop no such process has the sockets. A process that
/// leaves the group, as a daemon does with setsid(2), is left alone.
///
/// On Linux the program also gets the signal when the parent dies for any reason; with
/// `Builder::holder` (feature `holder`), when the holder does. The kernel does not send it to a
/// program that is set-user-ID or set-group-ID, has file capabilities or changes its user, nor to
/// the other processes of the group. A program that ignores the signal outlives a parent that is
/// killed.
///
/// If the program cannot be run, the child ends with a line on stderr that names the program and
/// the reason, and the start counts as failed.
#[derive(Debug)]
pub struct ExecServer {
    spec: ExecSpec,
    listen: Vec<Listen>,
    backlog: i32,
    socket_at_stdin: bool,
    stop_signal: Signal,
    reopen_signal: Option<Signal>,
    process_group: bool,
    send_ack: Option<Duration>,
    listening: Vec<Listening>,
}

impl ExecServer {
    /// A server whose children run `program`.
    ///
    /// It is a path, or a name that is looked up in the PATH that the program gets.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            spec: ExecSpec::new(program.into()),
            listen: Vec::new(),
            backlog: 1024,
            socket_at_stdin: false,
            stop_signal: Signal::Interrupt,
            reopen_signal: None,
            process_group: true,
            send_ack: None,
            listening: Vec::new(),
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.spec.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.spec.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. Variables that describe the sockets override it.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.spec.changes.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes one of the parent's variables from the program's environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.spec.changes.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Removes all variables, those of the parent and those that were set before.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.spec.clear = true;
        self.spec.changes.clear();
        self
    }

    /// One more socket: `"127.0.0.1:80"`, `"/run/x.sock"`, or a [`Listen`] with a name.
    ///
    /// Without sockets, the programs are workers that get their work elsewhere.
    #[must_use]
    pub fn listen(mut self, listen: impl Into<Listen>) -> Self {
        self.listen.push(listen.into());
        self
    }

    /// How many connections may wait to be accepted. Default: 1024.
    ///
    /// The kernel lowers it to the system's limit (`net.core.somaxconn`), with a warning; less than
    /// 0 counts as 0.
    #[must_use]
    pub fn backlog(mut self, connections: i32) -> Self {
        self.backlog = connections;
        self
    }

    /// Whether to name the sockets for Server::Starter too.
    ///
    /// Default: false. With it no path may contain `=` or `;`.
    #[must_use]
    pub fn server_starter(mut self, on: bool) -> Self {
        self.spec.server_starter = on;
        self
    }

    /// Whether to name the sockets for Einhorn too.
    ///
    /// Default: false. EINHORN_SOCK_PATH is not set, so a worker cannot report to Einhorn.
    #[must_use]
    pub fn einhorn(mut self, on: bool) -> Self {
        self.spec.einhorn = on;
        self
    }

    /// Whether descriptor 0 is the first socket too, instead of `/dev/null`.
    ///
    /// Default: false. FastCGI programs look for it there.
    #[must_use]
    pub fn socket_at_stdin(mut self, on: bool) -> Self {
        self.socket_at_stdin = on;
        self
    }

    /// The signal that tells the program to stop. Default: [`Signal::Interrupt`].
    ///
    /// It replaces SIGINT everywhere: when a hook sends it, and when the kernel sends it because the
    /// parent has died. Many programs finish the connection in hand only at SIGTERM or at SIGQUIT.
    #[must_use]
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// The signal that tells the program to reopen its logs. Default: none is sent.
    ///
    /// It is sent when SIGUSR1 comes to the parent. A program that does not handle the signal would
    /// be ended by it, and so would a wrapper in the program's process group.
    #[must_use]
    pub fn reopen_signal(mut self, signal: Signal) -> Self {
        self.reopen_signal = Some(signal);
        self
    }

    /// Whether each program leads a process group of its own, to which its signals go.
    ///
    /// Default: true.
    ///
    /// At a terminal, Ctrl-C then reaches only the parent, which tells the programs to stop, and
    /// Ctrl-Z stops only the parent. Turn it off for programs that are to stay in the parent's
    /// group: signals then go only to the program itself, and processes that it has started may
    /// live on with the sockets.
    #[must_use]
    pub fn process_group(mut self, own: bool) -> Self {
        self.process_group = own;
        self
    }

    /// Runs the program of `other` from the next fork on, in place of this one.
    ///
    /// Its arguments come with it, its environment, its ways to be told of the sockets and its
    /// signals. The sockets stay.
    ///
    /// For a reload: see [`ChildServer::reload`](crate::ChildServer::reload).
    pub fn set_program_of(&mut self, other: Self) {
        self.spec = other.spec;
        self.socket_at_stdin = other.socket_at_stdin;
        self.stop_signal = other.stop_signal;
        self.reopen_signal = other.reopen_signal;
        self.process_group = other.process_group;
    }

    /// The file that would be executed.
    ///
    /// `None` if there is none, or it may not be executed. It looks outside of a chroot.
    ///
    /// The start does not ask for it: a program may be installed later, and each attempt is made
    /// again.
    pub fn program_file(&self) -> Option<PathBuf> {
        self.spec.file()
    }

    /// The backlog that was asked for.
    pub fn get_backlog(&self) -> i32 {
        self.backlog
    }

    /// The TCP addresses that the started server listens on.
    ///
    /// Each has the port that it got.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listening
            .iter()
            .filter_map(Listening::tcp_address)
            .collect()
    }
}
