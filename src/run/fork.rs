//! Forks a child: a hook asks for it, the monitor allows it, the system does it. `child.rs` runs
//! the new child.

use super::{child::ChildSide, parent::ParentState, turn::Loop};
use crate::{
    core::{
        child::Reason,
        config::{CommChannel, ThreadCheck},
        error::Error,
        event::Event,
        inbox::{Contact, Inbox},
        monitor::Monitor,
        notice::Notice,
        say::say,
        system::{ForkTerms, Forked, ToGroup},
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::io;

/// The exit code of a child whose `resume_accept` failed.
pub(super) const EXIT_ACCEPT: i32 = 103;

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Forks a child now. Failures go to the hooks.
    pub(super) fn fork(&mut self) {
        self.fork_if(|monitor| monitor.may_fork(0));
    }

    /// Forks, in a shutdown, the child that serves who is queued.
    pub(super) fn fork_last(&mut self) {
        log::info!("no child is left for the clients that are queued: one is forked for them");
        self.fork_if(Monitor::may_fork_last);
    }

    fn fork_if(&mut self, may_fork: impl Fn(&mut Monitor) -> bool) {
        if self.done || !may_fork(&mut self.parent.monitor) {
            return;
        }
        self.call("before_fork", |hooks, monitor| hooks.before_fork(monitor));
        // The hook may have lowered `max_clients` or begun the shutdown.
        if !may_fork(&mut self.parent.monitor) {
            return;
        }
        if let Err(error) = self.try_fork() {
            self.fork_failed(&error);
        }
    }

    fn fork_failed(&mut self, error: &Error) {
        // A permanent failure is also retried slowly, for servers that do not shut down on errors.
        let retry_in = self.parent.monitor.fork_failed();
        let event = Event::ForkFailed { error, retry_in };
        if self.parent.system.is_passing(error.io_error()) {
            let hooks = self.hooks.current();
            self.parent.call_and_emit("fork_failed", &event, |monitor| {
                hooks.fork_failed(monitor, error.io_error(), retry_in);
            });
        } else {
            self.call_run_error(error.operation(), error.io_error(), None);
            self.parent.emit(&event);
        }
    }

    fn try_fork(&mut self) -> Result<(), Error> {
        self.settle();
        self.check_threads()?;
        let group = self.group();
        let ParentState {
            monitor, system, ..
        } = &mut self.parent;
        let channel = monitor.comm_channel();
        // The child's name is chosen before the fork, so that the child finds its slot on the
        // board.
        let id = monitor.pool.next_id();
        let has_slot = system.open_slot(id);
        let on_board = monitor.coalesce_words() && has_slot;
        let inbox = Inbox::new(id, monitor.comm_words(), channel, on_board);
        let terms = ForkTerms {
            id,
            private: channel == CommChannel::Private,
            group,
            stop_signal: self.server.stop_signal(),
            #[cfg(feature = "holder")]
            execs: self.server.execs(),
            #[cfg(feature = "holder")]
            epoch: monitor.replacement.epoch(),
            #[cfg(feature = "holder")]
            successor: monitor.replacement.forks_successor() && !monitor.forks_reserve(),
            #[cfg(any(feature = "holder", test))]
            reserved: monitor.forks_reserve(),
        };
        match system.fork(terms)? {
            Forked::Child(new_child) => self.live_as_child(new_child),
            Forked::Parent {
                pid,
                process,
                watched,
            } => self.enter(pid, Contact::new(inbox, process), watched),
        }
        Ok(())
    }

    pub(super) fn group(&mut self) -> Option<ToGroup> {
        let only_kills = self.server.only_kills_group();
        let signals = if only_kills {
            ToGroup::Kill
        } else {
            ToGroup::All
        };
        self.server.own_group().then_some(signals)
    }

    fn check_threads(&mut self) -> Result<(), Error> {
        match (
            self.parent.system.check_threads(),
            self.parent.monitor.thread_check(),
        ) {
            (Err(error), ThreadCheck::Refuse) => Err(error),
            (Err(error), ThreadCheck::Warn) => {
                if !std::mem::replace(&mut self.warned_of_threads, true) {
                    say!(Warn, "forking all the same: {error}");
                }
                Ok(())
            }
            (Ok(()), _) => Ok(()),
        }
    }

    /// Adds a child to the table.
    fn enter(&mut self, pid: u32, contact: Contact<Y::Process>, watched: io::Result<()>) {
        let monitor = &mut self.parent.monitor;
        let id = monitor.forked(pid, Some(Box::new(contact)));
        if let Err(error) = watched {
            monitor.notice(
                Notice::UnwatchedChild,
                format_args!("cannot watch child {pid}: {error}"),
            );
            monitor.note_failing_start(id);
            monitor.stop(id, Reason::Faulty);
        }
        self.note_reused_pid(pid, id);
        self.call("server_forked", |hooks, monitor| {
            hooks.server_forked(monitor, id)
        });
    }
}
