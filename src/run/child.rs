//! The life of a new process from its fork to its end. It never returns into the loop, and never
//! drops what the parent owns: those descriptors were closed by number.

use super::{fork::EXIT_ACCEPT, turn::Loop};
use crate::{
    core::{monitor::Monitor, system::System},
    hooks::{ChildServer, PreForkHooks, Start, comm::Comm, server::complain},
    observe::status::Status,
    sys::{
        child_link::{ChildLink, PipeSink, Traced},
        fork::{self, ChildSetup},
        title::ChildTitle,
        unix::{NewChild, UnixSystem},
    },
};
use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The exit code of a child that panicked, the same as of a Rust program.
const EXIT_PANIC: i32 = 101;
/// The exit code of a child whose `server_start` failed.
const EXIT_START: i32 = 102;

/// A system whose forks make processes.
pub(crate) trait ChildSide: System {
    /// Makes a new process a child, and returns its end of the link to the parent.
    fn become_child(
        &mut self,
        new_child: Self::NewChild,
        monitor: &mut Monitor,
    ) -> io::Result<Comm>;
    /// Limits what it may do and use from now on.
    fn confine(&self) -> io::Result<()>;
    /// Ties it to the parent's life again: the user's own set-up may have cleared the tie.
    fn tie_to_parent(&self) -> io::Result<()>;
    /// Ends the process.
    fn exit(&self, code: i32) -> !;
    /// Forks the status helper.
    fn fork_status(&mut self, _: &mut Status, _: &mut Monitor) {}
}

impl ChildSide for UnixSystem {
    fn become_child(&mut self, new_child: NewChild, monitor: &mut Monitor) -> io::Result<Comm> {
        monitor.pid = std::process::id();
        let (words, coalesce) = (monitor.comm_words(), monitor.coalesce_words());
        let NewChild { id, ends, mask } = new_child;
        let setup = ChildSetup {
            id: self.id,
            tie: self.tie(),
            null: &self.null,
            stdout: &ends.stdout,
            stderr: &ends.stderr,
            grace: monitor.kill_timeout(),
        };
        self.stacks.answer_from_now_on(id)?;
        let stop = fork::become_child(&setup, mask)?;
        let death = self.death_read.take();
        let death = death.ok_or_else(|| io::Error::other("the death watch is gone"))?;
        let link = ChildLink::new(self.clock, stop, death, self.stops.of(id))?;
        let title = monitor.process_title().as_deref().map(ChildTitle::new);
        let slot = self.board.slot(id);
        slot.settle();
        let sink = PipeSink {
            pipe: ends.comm.unwrap_or(ends.stdout),
            slot,
            coalesces: coalesce,
            clock: self.clock,
            title,
            traced: Traced::new(id),
        };
        Ok(Comm::new(link, sink, words, coalesce))
    }

    fn confine(&self) -> io::Result<()> {
        if self.confinement.is_empty() {
            return Ok(());
        }
        self.confinement.perform()?;
        // A change of the user or the group has untied it, and `server_start` may take long.
        fork::tie_to_parent(self.tie())
    }

    fn tie_to_parent(&self) -> io::Result<()> {
        fork::tie_to_parent(self.tie())
    }

    fn exit(&self, code: i32) -> ! {
        fork::exit(code)
    }

    fn fork_status(&mut self, status: &mut Status, monitor: &mut Monitor) {
        status.fork(monitor, self.clock, &self.confinement);
    }
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Runs the child, to the end of the process.
    pub(super) fn live_as_child(&mut self, new_child: Y::NewChild) -> ! {
        let life = AssertUnwindSafe(|| {
            let parent = &mut self.parent;
            let born = parent.system.become_child(new_child, &mut parent.monitor);
            // Before any code of the user's runs in this process.
            match born.and_then(|comm| parent.system.confine().map(|()| comm)) {
                Ok(mut comm) => self.serve(&mut comm),
                Err(error) => {
                    complain!("cannot become a child: {error}");
                    EXIT_START
                }
            }
        });
        let code = catch_unwind(life).unwrap_or_else(|payload| {
            // A drop of the panic's payload could panic again.
            std::mem::forget(payload);
            EXIT_PANIC
        });
        // OK to ignore: the process ends.
        let _ = io::stdout().flush();
        let _ = io::stderr().flush();
        self.parent.system.exit(code)
    }

    /// Calls the hooks, and serves between them. Returns the exit code.
    fn serve(&mut self, comm: &mut Comm) -> i32 {
        let system = &self.parent.system;
        let mut start = Start::new(&mut self.parent.monitor, comm, &mut self.server);
        let started = self
            .hooks
            .current()
            .server_start(&mut start)
            .and_then(|()| system.tie_to_parent());
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
        self.hooks.current().server_exiting(&mut start);
        code
    }
}
