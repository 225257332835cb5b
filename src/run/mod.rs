//! `PreFork`, the server as a program holds it: started, driven by `run` or turn by turn, ended.
//! The loop itself is `Loop` in `turn.rs`, over any system. This file runs it on Unix, and adds no
//! decision.

mod active_hooks;
mod adopt;
mod builder;
mod child;
mod control;
mod drain;
mod emit;
mod end;
mod fork;
mod guarded;
mod handlers;
#[cfg(all(feature = "holder", target_os = "linux"))]
mod holder;
#[cfg(all(feature = "holder", not(target_os = "linux")))]
#[path = "no_holder.rs"]
mod holder;
mod hooked;
#[cfg(feature = "holder")]
mod journal;
mod longest_wait;
mod parent;
mod perform;
mod queues;
mod read;
mod reap;
mod replace;
mod reserve;
mod signals;
#[cfg(test)]
mod simulation_tests;
mod stacks;
mod starts;
mod status;
mod time_limits;
mod turn;
mod upgrade;

pub use self::builder::Builder;

use self::turn::Loop;
use crate::{
    core::{
        child::ChildId,
        error::{Error, Operation},
        monitor::Monitor,
        report::Report,
        system::{ChildPipe, Wait},
        wire::{Line, Output},
    },
    hooks::{ChildServer, DefaultHooks, PreForkHooks},
    sys::{fd_registry::PreForkId, unix::UnixSystem},
};
use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// A preforking server: started, its socket open. Made by [`PreFork::builder`].
///
/// Dropping a server that has not shut down stops it as [`stop`](Self::stop) does, but calls no hook
/// at all.
pub struct PreFork<H: PreForkHooks, S: ChildServer> {
    inner: Loop<H, S, UnixSystem>,
    /// Whether the process that runs this is to become a holder first.
    #[cfg(feature = "holder")]
    wants_holder: bool,
}

/// A server of any kind with any hooks: for different servers in one `Vec`.
///
/// ```
/// use prefork_server::{AnyPreFork, ChildServer, DefaultHooks, PreFork, PreForkHooks};
/// use prefork_server::{TcpServer, UnixServer};
/// use prefork_server::servers::{TcpConn, UnixConn};
/// use std::io::{self, Write};
///
/// struct Quiet;
///
/// impl PreForkHooks for Quiet {}
///
/// fn start(
///     server: impl ChildServer + 'static,
///     hooks: impl PreForkHooks + 'static,
/// ) -> Result<AnyPreFork, prefork_server::Error> {
///     let server: Box<dyn ChildServer> = Box::new(server);
///     let hooks: Box<dyn PreForkHooks> = Box::new(hooks);
///     PreFork::builder(server).hooks(hooks).start()
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::env::temp_dir().join(format!("prefork-any-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("socket");
/// let tcp = TcpServer::new(|conn: TcpConn| writeln!(&conn, "hello")).port(0);
/// let unix = UnixServer::new(&path, |conn: UnixConn| writeln!(&conn, "hello"));
/// let mut servers: Vec<AnyPreFork> = vec![start(tcp, DefaultHooks)?, start(unix, Quiet)?];
/// for server in &mut servers {
///     server.shutdown();
///     assert!(server.turn(None)?.is_done());
/// }
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok(())
/// # }
/// ```
pub type AnyPreFork = PreFork<Box<dyn PreForkHooks>, Box<dyn ChildServer>>;

/// The state of the loop after a turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a turn says when the next is due"]
pub struct Turn {
    done: bool,
    wait: Option<Duration>,
}

impl Turn {
    /// Whether the server has shut down: no child is left, and no work.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// How long the caller may wait before the next turn.
    ///
    /// The wait also ends when the descriptor becomes readable. Zero while work is left, `None` for
    /// no limit.
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }
}

impl<S: ChildServer> PreFork<DefaultHooks, S> {
    /// Begins the description of a server around `server`, with the default hooks.
    pub fn builder(server: S) -> Builder<DefaultHooks, S> {
        Builder::new(server)
    }
}

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// Drives the server until it has shut down, and returns a report.
    ///
    /// Returns in the parent only: a child ends inside this call.
    ///
    /// # Errors
    ///
    /// When the server has ended because of a failure: an operation on a child, with
    /// `shutdown_on_error`; a fork that another attempt cannot cure; a lost socket. The error names
    /// the operation and the object. Everything has been cleaned up as after an orderly shutdown
    /// ([`Monitor::report`] says what happened until then).
    ///
    /// Also when waiting for events fails: then the children are told to stop when the server is
    /// dropped.
    pub fn run(&mut self) -> Result<Report, Error> {
        #[cfg(feature = "holder")]
        self.split()?;
        self.inner.run()
    }

    /// Runs one turn of the loop.
    ///
    /// For a program with a loop of its own, or with several servers in one loop. The turn waits
    /// for events for at most `wait` (`None`: until an event arrives), and less if a timer is due.
    ///
    /// A child is forked inside this call and never returns from it: it runs on the caller's stack,
    /// with all locks that the caller holds.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); a server that has ended because of a failure returns it once, in its
    /// last turn.
    pub fn turn(&mut self, wait: Option<Duration>) -> Result<Turn, Error> {
        self.inner.turn(Wait::ForAnything(wait))
    }
}

/// The documented handlers, for calls between two turns.
///
/// The loop calls them by itself. They are public for programs that drive the server by
/// [`turn`](Self::turn).
///
/// Each call acts at once, and performs what its hook has queued. If that is a fork, the child is
/// forked inside the call and never returns from it.
impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// `_child`: the server has ended in the parent. Calls `handler_child`.
    pub fn child(&mut self, error: &io::Error) {
        self.inner.by_hand(|inner| inner.call_child(error));
    }

    /// `_stop`: ends the server before it returns, without `pre_stop_delay`.
    ///
    /// That is a shutdown as by SIGTERM, in turns of the loop: queued clients are served, children
    /// have `shutdown_timeout`, a second SIGTERM or SIGINT kills those that are left, and observers
    /// are told of it. No hook is called meanwhile, and lines that children print are dropped. Then
    /// `handler_stop` is called. [`shutdown`](Self::shutdown) is the way on which hooks are called.
    pub fn stop(&mut self) {
        self.inner.stop();
    }

    /// `run_error`: an operation on a child has failed. Calls `handler_run_error`.
    pub fn run_error(&mut self, operation: Operation, error: &io::Error, child: Option<ChildId>) {
        self.inner
            .by_hand(|inner| inner.call_run_error(operation, error, child));
    }

    /// `shutdown`: calls `handler_shutdown`, unless the shutdown has already begun.
    pub fn shutdown(&mut self) {
        self.inner.by_hand(Loop::call_shutdown);
    }

    /// Reads the program's settings again and replaces every child, as SIGHUP does.
    ///
    /// Calls `handler_reload`. The children are replaced in the turns that follow.
    pub fn reload(&mut self) {
        self.inner.by_hand(Loop::call_reload);
    }

    /// `server_closed`: a child has closed its outputs or was reaped.
    ///
    /// Calls `handler_server_closed`.
    pub fn server_closed(&mut self, child: ChildId) {
        self.inner.by_hand(|inner| inner.call_server_closed(child));
    }

    /// `server_stderr`: a line from a child's stderr. Calls `handler_server_stderr`.
    pub fn server_stderr(&mut self, child: ChildId, line: &Line) {
        self.inner
            .by_hand(|inner| inner.deliver(child, ChildPipe::Stderr, Output::Line(line)));
    }

    /// `server_ack`: a word or a line from a child's stdout.
    ///
    /// Calls `handler_server_ack`.
    pub fn server_ack(&mut self, child: ChildId, output: Output<'_>) {
        self.inner
            .by_hand(|inner| inner.deliver(child, ChildPipe::Stdout, output));
    }

    /// `server_timeout_check`: calls `handler_server_timeout_check`.
    ///
    /// The handler resets its timer.
    pub fn timeout_check(&mut self) {
        self.inner.by_hand(Loop::call_timeout_check);
    }

    /// `forkoff`: calls `handler_forkoff`.
    pub fn forkoff(&mut self) {
        self.inner.by_hand(Loop::call_forkoff);
    }

    /// `server_fork`: calls `handler_server_fork`.
    pub fn server_fork(&mut self) {
        self.inner.by_hand(Loop::call_server_fork);
    }
}

/// Access to the parts of the server.
impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// The name of this server, unique in the process: the original's `->ID`.
    pub fn id(&self) -> PreForkId {
        self.inner.parent.system.id
    }

    /// The addresses at which the status is told.
    ///
    /// Such as `127.0.0.1:9100` or `/run/hello.status`.
    ///
    /// Empty unless [`Builder::status`] has asked for it.
    #[cfg(feature = "status")]
    #[cfg_attr(docsrs, doc(cfg(feature = "status")))]
    pub fn status_addresses(&self) -> Vec<String> {
        self.inner.parent.status.names()
    }

    /// The addresses at which HAProxy's agent-check is answered.
    ///
    /// Empty unless [`Builder::agent_check`] has asked for it.
    #[cfg(feature = "status")]
    #[cfg_attr(docsrs, doc(cfg(feature = "status")))]
    pub fn agent_check_addresses(&self) -> Vec<String> {
        self.inner.parent.status.agent_names()
    }

    /// The monitor: children, attributes, counts.
    pub fn monitor(&self) -> &Monitor {
        &self.inner.parent.monitor
    }

    /// The monitor, to set an attribute or to request an action.
    ///
    /// The action is done in the next turn. The monitor takes the time of this call as the present:
    /// alarms and the time limits of stopped children count from it.
    pub fn monitor_mut(&mut self) -> &mut Monitor {
        self.inner.parent.update_time();
        &mut self.inner.parent.monitor
    }

    /// The server object.
    pub fn server(&self) -> &S {
        &self.inner.server
    }

    /// The server object, to change it. Living children have copies of their own.
    pub fn server_mut(&mut self) -> &mut S {
        &mut self.inner.server
    }

    /// The hooks.
    pub fn hooks(&self) -> &H {
        self.inner.hooks.program()
    }

    /// The hooks, to change them. Living children have copies of their own.
    pub fn hooks_mut(&mut self) -> &mut H {
        self.inner.hooks.program_mut()
    }

    /// Ends the server as a drop does, and returns the hooks.
    pub fn into_hooks(mut self) -> H {
        self.inner.leave();
        self.inner.hooks.take()
    }
}

/// Readable when a turn is due.
///
/// [`Turn::wait`] tells when timers are due. Nests in any poller.
impl<H: PreForkHooks, S: ChildServer> AsFd for PreFork<H, S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.parent.system.as_fd()
    }
}

impl<H: PreForkHooks, S: ChildServer> fmt::Debug for PreFork<H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreFork")
            .field("id", &self.id())
            .field("children", &self.monitor().pool.len())
            .field("done", &self.inner.done)
            .finish_non_exhaustive()
    }
}
