//! A framework for preforking servers: a parent opens a socket, forks children that accept on it,
//! and keeps the right number of them.
//!
//! A child serves one connection at a time. It tells the parent when it has one in hand and when it
//! waits for the next; the parent forks when the last idle child turns busy, stops the oldest when
//! too many are idle, ends children that hang, and replaces children that die. Every step of the
//! parent is a hook that can be overridden, with a default that the override can call. The crate is
//! a port of Perl's POE::Class::Server::PreFork, and has its attributes, handlers and methods under
//! their own names.
//!
//! # Limits first
//!
//! - **One thread.** The parent must have one thread when it forks; on Linux that is checked
//!   ([`ThreadCheck`]). Start async runtimes, thread pools and background loggers in the children.
//! - **One connection, one process.** Many connections that are mostly idle are better off with an
//!   async runtime, and children share no memory that changes.
//! - **Linux.** Tested on 64-bit Linux only. The fall-backs for other Unixes are untested; on macOS
//!   it does not build, and Windows has no fork.
//! - **A child ends by `_exit`.** What is registered with `atexit`, and destructors of values that
//!   the parent made, run in the parent only.
//! - **No timeout by default.** `timeout`, `busy_timeout` and `start_timeout` are off, the first as
//!   in the original: without them a child that hangs is not ended.
//! - **No holder by default.** When the parent is killed, the children finish their connections and
//!   leave, and nothing starts another parent: that takes the feature `holder`, or a supervisor.
//!
//! The file `docs/limits.md` has the whole list, `docs/platform.md` what is asked of the kernel,
//! `docs/handlers.md` a table of all hooks, `docs/porting.md` Perl and Rust side by side, and
//! `docs/design.md` how the crate is built.
//!
//! # A first program
//!
//! ```no_run
//! use prefork_server::{PreFork, TcpServer};
//! use std::{io::Write, time::Duration};
//!
//! // Runs in a child, for one connection at a time.
//! let server = TcpServer::new(|conn| writeln!(&conn, "hello from {}", std::process::id()))
//!     .address("127.0.0.1")
//!     .port(7777);
//!
//! // Runs in the parent, until SIGTERM or SIGINT.
//! let report = PreFork::builder(server)
//!     .max_clients(20)
//!     .timeout(Duration::from_secs(30))
//!     .run()?;
//! println!("{report}");
//! # Ok::<(), prefork_server::Error>(())
//! ```
//!
//! [`PreFork::builder`] takes a server object: [`TcpServer`], [`UnixServer`], [`InetdServer`], which
//! runs a program for each connection, [`ExecServer`], whose children are programs, or your own
//! [`ChildServer`]. A connection is served by a function, as here, or by an object with handlers
//! ([`servers::conn`]). [`Builder::start`] opens the socket and forks nothing; [`PreFork::run`] does
//! the rest and returns when the server has shut down, in the parent only. A program with its own
//! event loop, or with several servers, calls [`PreFork::turn`] instead.
//!
//! # The flow of a server
//!
//! In the parent, with the hooks of [`PreForkHooks`] in their places:
//!
//! 1. [`handler_start`](PreForkHooks::handler_start), called by [`Builder::start`]: calls
//!    [`create_states`](PreForkHooks::create_states), normalises the attributes, opens the socket
//!    with [`ChildServer::start`], posts `forkoff`, sets the timer of the timeout check.
//! 2. [`handler_forkoff`](PreForkHooks::handler_forkoff), whenever the numbers may be wrong: posts
//!    a `server_fork` for each child that is missing, or tells the oldest of a surplus to stop.
//! 3. [`handler_server_fork`](PreForkHooks::handler_server_fork): asks for one fork.
//! 4. [`before_fork`](PreForkHooks::before_fork): right before it. **Here the process forks.**
//! 5. [`server_forked`](PreForkHooks::server_forked): the child is in the tables of the
//!    [`Monitor`], and counts as free.
//! 6. [`handler_server_ack`](PreForkHooks::handler_server_ack), for each word and each line that
//!    the child writes to its stdout: calls [`server_ack`](PreForkHooks::server_ack),
//!    [`server_busy`](PreForkHooks::server_busy),
//!    [`server_not_busy`](PreForkHooks::server_not_busy) or
//!    [`server_stdout`](PreForkHooks::server_stdout).
//!    [`handler_server_stderr`](PreForkHooks::handler_server_stderr) calls
//!    [`server_stderr`](PreForkHooks::server_stderr). A child that moved between free and busy
//!    leads back to 2.
//! 7. [`handler_server_timeout_check`](PreForkHooks::handler_server_timeout_check), on a timer, if
//!    there is a `timeout`: hands silent children to
//!    [`server_timeout_free`](PreForkHooks::server_timeout_free) and
//!    [`server_timeout_busy`](PreForkHooks::server_timeout_busy), which call
//!    [`server_timeout`](PreForkHooks::server_timeout). A child that takes longer than
//!    `start_timeout` or `busy_timeout`: [`server_overtime`](PreForkHooks::server_overtime).
//! 8. [`handler_server_closed`](PreForkHooks::handler_server_closed): the child's outputs have
//!    ended, or it was reaped. Back to 2.
//! 9. [`server_exited`](PreForkHooks::server_exited): it has been reaped; how it ended. Back to 2.
//! 10. [`handler_shutdown`](PreForkHooks::handler_shutdown), on SIGTERM, SIGINT or
//!     [`Monitor::shutdown`]: tells all children to stop. When the last one has been reaped,
//!     [`handler_stop`](PreForkHooks::handler_stop) calls [`ChildServer::stop`].
//!
//! In each child, after the fork:
//!
//! 1. [`server_start`](PreForkHooks::server_start): the first code of the user's. The default notes
//!    that this is a child, asks for `resume_accept` and calls
//!    [`handler_shutdown`](PreForkHooks::handler_shutdown), which drops what was the parent's.
//! 2. The first ACK, then [`ChildServer::resume_accept`]: serves until told to stop. In a stock
//!    server it calls the handler for each connection. In an [`ExecServer`] the process becomes
//!    another program, which says its first ACK itself, and nothing follows here.
//! 3. [`server_exiting`](PreForkHooks::server_exiting), and the process ends.
//!
//! When things go wrong, [`fork_failed`](PreForkHooks::fork_failed) is called for forks that will
//! be tried again, [`handler_run_error`](PreForkHooks::handler_run_error) for operations that
//! failed for good, and [`handler_child`](PreForkHooks::handler_child) for a server object that did
//! not start or lost its socket. [`handler_state`](PreForkHooks::handler_state) is called for
//! states of the subclass.
//!
//! Hooks decide; [`Observer`]s get each [`Event`] of this in the parent.
//!
//! # The wire
//!
//! A child speaks to the parent in three words, each a byte on a line of its own on its stdout,
//! between the lines that it prints: [`COMM_ACK`] (it lives), [`COMM_BUSY`] (it has a connection in
//! hand), [`COMM_NOT_BUSY`] (it can take one). [`Comm`] says them for a server;
//! `println!("{COMM_ACK}")` does as well, while `comm_words` is the default. A child that goes from
//! one connection straight to the next says nothing in between, and while the parent is going to
//! look by itself BUSY and NOT_BUSY are noted in shared memory in place of being printed; with
//! `coalesce_words` off all of them are said, and printed. With [`CommChannel::Private`] the words
//! have a pipe of their own, for handlers that print text that is not theirs.
//!
//! Everything else that a child prints is passed to a hook as a [`Line`] of at most 64 KiB.
//!
//! # Exit codes of a child
//!
//! | code | meaning |
//! |---|---|
//! | 0 | it was told to stop, or reached `max_requests`, or `server_start` did not ask for `resume_accept` |
//! | 101 | it panicked |
//! | 102 | `server_start` failed, or the process could not be set up as a child or [confined](Confinement) |
//! | 103 | [`ChildServer::resume_accept`] failed (a program could not be exec'd), or the first ACK could not be sent |
//!
//! A program that was exec'd has its own exit codes.
//!
//! [`Death`] has the exit code or the signal, the [`Cause`] that the parent has determined, and what
//! is known of the child's life: its age, its connections, its last lines, what it has [used](Usage),
//! and where it was [stuck](Stuck) when the parent had to kill it.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `usdt` | Static probes for bpftrace, perf and gdb: see docs/tracing.md |
//! | `systemd` | `Systemd`, an observer that tells systemd how the server is |
//! | `stacks` | [`Death::stack`]: where a child that is over its time was stuck, with functions, files and lines. Linux on x86-64 and AArch64; elsewhere it has no effect. Build with `debug = "line-tables-only"` |
//! | `status` | `Builder::status`: a page, JSON, metrics and probes by HTTP, from a process beside the children |
//! | `config` | `settings`: attributes, listeners and confinement from a TOML file, the environment and flags |
//! | `holder` | `Builder::holder`: a small process above the parent, which starts another parent when that is killed. Linux only |
//! | `proxy-protocol` | `servers::proxy`: the client's address as a proxy tells it, in the PROXY protocol |
//! | `cli` | the command `prefork`, which runs any program: see `docs/command.md` |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod core;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hooks;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod internals;
mod listeners;
mod observe;
mod run;
pub mod servers;
#[cfg(feature = "config")]
pub mod settings;
mod sys;

pub use self::core::{
    alarms::AlarmId,
    child::{Cause, Child, ChildId, Death, Reason, Signal, State, Stuck, SystemCall, Usage},
    comm::Acker,
    config::{Attribute, CommChannel, Config, Shape, TakesEffect, ThreadCheck},
    confinement::{Confinement, Resource},
    error::{Error, Operation},
    event::Event,
    monitor::Monitor,
    report::Report,
    saturation::Saturation,
    stack::Frame,
    states::{DOCUMENTED_STATES, States, WatchId},
    time::Time,
    upgrade::UpgradeFailure,
    wire::{COMM_ACK, COMM_BUSY, COMM_NOT_BUSY, CommWords, Line, Output, Word},
};
pub use hooks::{ChildServer, DefaultHooks, PreForkHooks, Start, comm::Comm, defaults};
#[cfg(feature = "status")]
#[cfg_attr(docsrs, doc(cfg(feature = "status")))]
pub use observe::status::StatusAddress;
#[cfg(feature = "systemd")]
pub use observe::systemd::Systemd;
pub use observe::{Observer, metrics};
pub use run::{AnyPreFork, Builder, PreFork, Turn};
pub use servers::{ExecServer, InetdServer, TcpServer, UnixServer};
pub use sys::{
    fd_registry::PreForkId,
    launch::Launch,
    link::{Interest, Wake},
    parent_only::ParentOnly,
};

/// The programs in the documents, compiled with the documentation tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/porting.md")]
    struct Porting;
}
