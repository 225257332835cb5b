//! The birth of a child: pipes, fork, and the life of the new process to its end. In the parent it
//! ends with the child in the tables; in the child it never returns.

use super::{LOOK_EVERY, PreFork};
use crate::{
    core::{
        child::{ChildId, Reason, Signal},
        config::{CommChannel, ThreadCheck},
        error::{Error, Operation},
    },
    hooks::{
        PreForkHooks,
        comm::Comm,
        server::{ChildServer, Start, complain},
    },
    sys::{
        child_link::{ChildLink, PipeSink},
        fork::{self, Cradle, Forked},
        limits,
        pipes::{self, ChildEnds, ParentEnds},
        signals::Mask,
    },
};
use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The exit code of a child that panicked, as Rust has it for a program.
const EXIT_PANIC: i32 = 101;
/// The exit code of a child that could not start: `server_start` failed.
const EXIT_START: i32 = 102;
/// The exit code of a child whose `resume_accept` failed.
pub(super) const EXIT_ACCEPT: i32 = 103;

impl<H: PreForkHooks, S: ChildServer> PreFork<H, S> {
    /// Forks a child now. Failures are handed to the hooks.
    pub(super) fn fork(&mut self) {
        if self.done || !self.core.monitor.may_fork_now() {
            return;
        }
        self.core
            .call("before_fork", |hooks, monitor| hooks.before_fork(monitor));
        match self.try_fork() {
            Ok(()) => {}
            Err(error) if limits::is_passing(error.io_error()) => {
                let retry_in = self.core.monitor.fork_failed();
                self.core.call("fork_failed", |hooks, monitor| {
                    hooks.fork_failed(monitor, error.io_error(), retry_in);
                });
            }
            Err(error) => {
                // Retried slowly all the same, for those who do not shut down on errors.
                self.core.monitor.fork_failed();
                self.core.call("handler_run_error", |hooks, monitor| {
                    hooks.handler_run_error(monitor, error.operation(), error.io_error(), None);
                });
            }
        }
    }

    fn try_fork(&mut self) -> Result<(), Error> {
        self.settle();
        self.check_threads()?;
        let private = self.core.monitor.comm_channel() == CommChannel::Private;
        let (parents, childs) = pipes::for_child(private)
            .map_err(|error| Error::new(Operation::Pipe, "for a child", error))?;
        // What it will be called is known before, so that the child finds its place.
        let id = self.core.monitor.pool.next_id();
        self.shell.scoreboard.enter(id);
        let parent = std::process::id();
        let signal = |error| Error::new(Operation::Signal, "mask", error);
        let mask = Mask::block_all().map_err(signal)?;
        match fork::fork(&mask) {
            Ok(Forked::Child) => self.live_as_child(id, childs, parent, mask),
            Ok(Forked::Parent(pid)) => {
                drop(childs);
                let restored = mask.restore().map_err(signal);
                self.enter(pid, parents);
                restored
            }
            Err(error) => {
                mask.restore().map_err(signal)?;
                Err(Error::new(Operation::Fork, "a child", error))
            }
        }
    }

    fn check_threads(&mut self) -> Result<(), Error> {
        match (
            self.shell.threads.expect_one(),
            self.core.monitor.thread_check(),
        ) {
            (Err(error), ThreadCheck::Refuse) => Err(error),
            (Err(error), ThreadCheck::Warn) => {
                if !std::mem::replace(&mut self.warned_of_threads, true) {
                    log::warn!("forking all the same: {error}");
                }
                Ok(())
            }
            (Ok(()), _) => Ok(()),
        }
    }

    /// In the parent: enters a child in the tables and watches it.
    fn enter(&mut self, pid: u32, ends: ParentEnds) {
        let id = self.core.monitor.forked(pid);
        let words = self.core.monitor.comm_words();
        let watched = self
            .shell
            .wires
            .insert(&self.shell.poller, id, pid, ends, words);
        if self.shell.wires.lacks_pidfd(id) {
            // It may have died before the handler was there.
            self.deaths_unknown |= self.shell.watch_deaths();
            let now = self.core.monitor.now();
            self.look_at.get_or_insert(now + LOOK_EVERY);
        }
        if let Err(error) = watched {
            log::error!("cannot watch child {pid}: {error}");
            self.core.monitor.note_failing_start(id);
            self.core.monitor.kill(id, Signal::Kill);
            self.core.monitor.retire(id, Reason::Faulty);
        }
        self.core.call("server_forked", |hooks, monitor| {
            hooks.server_forked(monitor, id)
        });
    }

    /// In the child: everything, to the end of the process. Nothing that the parent owns is dropped
    /// here; the descriptors have been closed by number.
    fn live_as_child(&mut self, id: ChildId, ends: ChildEnds, parent: u32, mask: Mask) -> ! {
        let life = AssertUnwindSafe(|| match self.become_child(id, ends, parent, mask) {
            Ok(mut comm) => self.serve(&mut comm, parent),
            Err(error) => {
                complain!("cannot become a child: {error}");
                EXIT_START
            }
        });
        let code = catch_unwind(life).unwrap_or_else(|payload| {
            // Dropping what was thrown could panic again.
            std::mem::forget(payload);
            EXIT_PANIC
        });
        // OK to ignore: there is nobody left to tell.
        let _ = io::stdout().flush();
        let _ = io::stderr().flush();
        fork::exit(code)
    }

    fn become_child(
        &mut self,
        id: ChildId,
        ends: ChildEnds,
        parent: u32,
        mask: Mask,
    ) -> io::Result<Comm> {
        self.core.monitor.pid = std::process::id();
        let monitor = &self.core.monitor;
        let (words, coalesce) = (monitor.comm_words(), monitor.coalesce_words());
        let cradle = Cradle {
            id: self.id,
            parent,
            null: &self.shell.null,
            stdout: &ends.stdout,
            stderr: &ends.stderr,
            grace: monitor.kill_timeout(),
        };
        let stop = fork::become_child(&cradle, mask)?;
        let death = self.shell.death_read.take();
        let death = death.ok_or_else(|| io::Error::other("the death watch is gone"))?;
        let link = ChildLink::new(self.shell.clock, stop, death, self.shell.stops.of(id))?;
        let sink = PipeSink {
            pipe: ends.comm.unwrap_or(ends.stdout),
            place: coalesce.then(|| self.shell.scoreboard.place(id)),
        };
        Ok(Comm::new(link, sink, words, coalesce))
    }

    /// In the child: the hooks, and serving between them. The exit code.
    fn serve(&mut self, comm: &mut Comm, parent: u32) -> i32 {
        let hooks = &mut self.core.hooks;
        let mut start = Start::new(&mut self.core.monitor, comm, &mut self.server);
        let started = hooks
            .server_start(&mut start)
            .and_then(|()| fork::tie_to_parent(parent));
        let code = match started {
            Err(error) => {
                complain!("server_start failed: {error}");
                EXIT_START
            }
            Ok(()) => match start.serve() {
                Ok(()) => 0,
                Err(error) => {
                    complain!("resume_accept failed: {error}");
                    EXIT_ACCEPT
                }
            },
        };
        hooks.server_exiting(&mut start);
        code
    }
}
