//! The server whose children are other programs: it opens the sockets, and each child execs a
//! program that finds them the way systemd passes them. Accepts nothing itself.

mod image;
mod listen;

pub use self::listen::Listen;

use self::{
    image::{Birth, ExecSpec, Socket},
    listen::Listening,
};
use crate::{
    core::child::Signal,
    hooks::{comm::Comm, server::ChildServer},
    listeners::ListenerStatus,
    sys,
};
use std::{
    ffi::{OsStr, OsString},
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    time::Duration,
};

/// Runs a program in each child, in any language, and hands it the listening sockets.
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
/// | those of the parent | as they are when the child is forked, but for what describes descriptors of the parent's own: LISTEN_FDS, LISTEN_PID, LISTEN_PIDFDID, LISTEN_FDNAMES, SERVER_STARTER_PORT, SERVER_STARTER_GENERATION, EINHORN_*; and for what is the parent's to say to systemd: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID |
/// | those of [`env`](Self::env) | |
/// | LISTEN_FDS | how many sockets; this and the next four only if there is one |
/// | LISTEN_PID | the program's process id |
/// | LISTEN_FDNAMES | their [names](Listen::name), with colons between |
/// | SERVER_STARTER_PORT | `host:port=3;/path=4`, if [`server_starter`](Self::server_starter) asks for it |
/// | EINHORN_FD_COUNT, EINHORN_FD_0, … | how many, and the descriptors, if [`einhorn`](Self::einhorn) asks for it |
/// | PREFORK_SEND_ACK | at least how often to say ACK, in seconds (`1.5`); only with a `timeout` |
///
/// Every other descriptor closes, also those of the user's that were opened without close-on-exec.
/// SIGINT, SIGTERM, SIGPIPE and the [stop signal](Self::stop_signal) have their default action; handlers of
/// the parent's are gone, as after any exec, and what the parent ignores is ignored; the mask is the
/// parent's, never with SIGINT, SIGTERM, SIGALRM or the stop signal in it. It leads a
/// [process group](Self::process_group) of its own. Directory, user, group, limits and umask are the parent's
/// unless the hook `server_start` has changed them: it runs before the exec, and `server_exiting`
/// only if that fails.
///
/// Whoever sets O_NONBLOCK on a socket sets it for all children, since they share it. All are the
/// same program, so one that expects it may do so.
///
/// # What the program says
///
/// Lines on stdout. One that is a word and nothing else is a word: by default the control characters
/// of [`CommWords::CONTROL`](crate::CommWords::CONTROL), with
/// [`comm_words`](crate::Builder::comm_words) `(`[`CommWords::POE`](crate::CommWords::POE)`)` the
/// `1`, `2` and `3` of the original. ACK once it can serve, and again at least every
/// PREFORK_SEND_ACK while it is well; BUSY when it has a connection in hand, NOT_BUSY when it can
/// take one. The first of the two shows that its start has held. Write words at once and in one
/// piece: a stdout that is buffered says nothing.
///
/// The framework says nothing in its name, not even the first ACK.
/// [`CommChannel::Private`](crate::CommChannel::Private) is refused.
///
/// A program that says nothing at all is supervised by its life alone. It stays
/// [`Starting`](crate::State::Starting), which counts as spare and is never culled, so:
///
/// - there are `start_servers` of them (or `min_spare_servers`, if that is more), however busy they
///   are, and one that ends is replaced;
/// - leave `timeout` off: nobody ever says ACK, so each would be told to stop at that age;
/// - one that ends within a second counts as a failed start, even if it has served, and slows
///   forking down: a program that serves one short request and exits needs words.
///
/// # How it ends
///
/// SIGINT, or the [`stop_signal`](Self::stop_signal) in its place, means: finish what is in hand, and exit.
/// What ignores it gets SIGKILL, after `shutdown_timeout` in a shutdown and after `kill_timeout` else.
///
/// Both are sent to the whole [process group](Self::process_group): a wrapper such as
/// `sh -c 'setup; server'` need not exec the server for that to hear of it. What outlives the program in
/// its group, as a server does whose wrapper dies, is told and killed likewise, and has the child's place
/// until it has ended: after a stop nobody has the sockets. What leaves the group, as a daemon does by
/// setsid(2), is left alone.
///
/// On Linux the program also gets the signal when the parent dies, however that happened, unless it is
/// set-user-ID, set-group-ID or has file capabilities: the kernel takes that tie from those, and from one
/// that changes its user. Only the program itself has that tie, not the others of its group, and one that
/// ignores the signal outlives a parent that is killed.
///
/// A program that cannot be run ends the child with a line on stderr that names it and the reason,
/// and the start counts as failed.
#[derive(Debug)]
pub struct ExecServer {
    spec: ExecSpec,
    listen: Vec<Listen>,
    backlog: i32,
    socket_at_stdin: bool,
    stop_signal: Signal,
    process_group: bool,
    send_ack: Option<Duration>,
    listening: Vec<Listening>,
}

impl ExecServer {
    /// A server whose children run `program`: a path, or a name to look for in the PATH that the
    /// program gets.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            spec: ExecSpec::new(program.into()),
            listen: Vec::new(),
            backlog: 1024,
            socket_at_stdin: false,
            stop_signal: Signal::Interrupt,
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

    /// Sets a variable. Those that describe the sockets are set after it.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.spec.changes.insert(name.into(), Some(value.into()));
        self
    }

    /// Keeps a variable of the parent's from the program.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.spec.changes.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Keeps all variables of the parent's from the program, and forgets those that were set.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.spec.clear = true;
        self.spec.changes.clear();
        self
    }

    /// One more socket: `"127.0.0.1:80"`, `"/run/x.sock"`, or a [`Listen`] with a name. Without any,
    /// the programs are workers that get their work elsewhere.
    #[must_use]
    pub fn listen(mut self, listen: impl Into<Listen>) -> Self {
        self.listen.push(listen.into());
        self
    }

    /// How many connections may wait to be accepted. Default: 1024. The kernel cuts what is more than
    /// the system allows (`net.core.somaxconn`), of which a warning tells; less than 0 counts as 0.
    #[must_use]
    pub fn backlog(mut self, connections: i32) -> Self {
        self.backlog = connections;
        self
    }

    /// Whether to name the sockets the way of Server::Starter too. Default: false. No path may
    /// contain `=` or `;` then.
    #[must_use]
    pub fn server_starter(mut self, on: bool) -> Self {
        self.spec.server_starter = on;
        self
    }

    /// Whether to name the sockets the way of Einhorn too. Default: false. A worker that wants to
    /// report to Einhorn itself finds no EINHORN_SOCK_PATH.
    #[must_use]
    pub fn einhorn(mut self, on: bool) -> Self {
        self.spec.einhorn = on;
        self
    }

    /// Whether the first socket stands at descriptor 0 as well, in place of `/dev/null`: where a FastCGI
    /// program looks for it. Default: false.
    #[must_use]
    pub fn socket_at_stdin(mut self, on: bool) -> Self {
        self.socket_at_stdin = on;
        self
    }

    /// The signal that tells the program to stop, in place of SIGINT wherever that would be sent, be it by a
    /// hook or by the kernel when the parent dies. Default: [`Signal::Interrupt`]. Many programs finish what
    /// they have in hand at SIGTERM only, or at SIGQUIT.
    #[must_use]
    pub fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Whether each program leads a process group of its own, to which its signals go. Default: true.
    ///
    /// At a terminal, Ctrl-C then reaches the parent alone, which tells the programs to stop; Ctrl-Z stops
    /// the parent alone. Turn it off for programs that are to stay in the parent's group: signals go to the
    /// program itself only, and what it has started lives on with the sockets.
    #[must_use]
    pub fn process_group(mut self, own: bool) -> Self {
        self.process_group = own;
        self
    }

    /// How many connections were asked to be let wait.
    pub fn get_backlog(&self) -> i32 {
        self.backlog
    }

    /// The TCP addresses that the started server listens on, with the ports that it got.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listening
            .iter()
            .filter_map(Listening::tcp_address)
            .collect()
    }

    fn image(&self, pid: u32) -> io::Result<sys::exec::Image> {
        let sockets: Vec<Socket> = self.listening.iter().map(Socket::from).collect();
        let birth = Birth {
            pid,
            sockets: &sockets,
            send_ack: self.send_ack,
        };
        self.spec.image(std::env::vars_os(), birth)
    }
}

impl ChildServer for ExecServer {
    fn inner(&mut self) -> Option<&mut dyn ChildServer> {
        None
    }

    fn start(&mut self) -> io::Result<()> {
        check_stop_signal(self.stop_signal)?;
        let open = |listen: &Listen| listen.open(self.backlog);
        self.listening = self.listen.iter().map(open).collect::<io::Result<_>>()?;
        // What cannot be handed over would fail in every child: better here, once.
        self.image(std::process::id()).map(drop)
    }

    fn stop(&mut self) {
        self.listening.clear();
    }

    fn send_ack(&mut self) -> Option<Duration> {
        self.send_ack
    }

    /// The program is told, in PREFORK_SEND_ACK.
    fn set_send_ack(&mut self, interval: Option<Duration>) {
        self.send_ack = interval;
    }

    /// Does not return unless the program cannot be run, or the child was told to stop before.
    fn resume_accept(&mut self, comm: &mut Comm) -> io::Result<()> {
        let image = self.image(std::process::id())?;
        let descriptors: Vec<BorrowedFd<'_>> =
            self.listening.iter().map(Listening::as_fd).collect();
        let (stdin, stop_signal) = (self.socket_at_stdin, self.stop_signal);
        sys::exec::exec(&image, &descriptors, stdin, stop_signal, || {
            comm.shutdown_requested()
        })
    }

    fn begin_drain(&mut self) {
        self.listening.iter_mut().for_each(Listening::refuse);
    }

    fn is_queued(&mut self) -> bool {
        self.listening.iter().any(Listening::is_queued)
    }

    fn close_listeners(&mut self) {
        self.listening.iter().for_each(Listening::shut_down);
        self.listening.clear();
    }

    fn lost(&mut self) -> Option<io::Error> {
        let dead = self
            .listening
            .iter()
            .any(|listening| !listening.is_listening());
        dead.then(|| io::Error::other("a listening socket has been shut down"))
    }

    fn execs(&mut self) -> bool {
        true
    }

    fn own_group(&mut self) -> bool {
        self.process_group
    }

    fn stop_signal(&mut self) -> Signal {
        self.stop_signal
    }

    fn listeners(&mut self) -> Vec<ListenerStatus> {
        self.listening.iter().map(Listening::status).collect()
    }
}

/// A program that is told by one of these stands still, and does not end.
fn check_stop_signal(signal: Signal) -> io::Result<()> {
    use Signal::{BackgroundRead, BackgroundWrite, Continue, Stop};
    if matches!(signal, Stop | Continue | BackgroundRead | BackgroundWrite) {
        let reason = format!("{signal:?} cannot tell a program to stop");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(())
}
