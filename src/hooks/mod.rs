//! The trait whose methods a subclass overrides. Every method has a default, and every default is a
//! function of the same name in [`defaults`](crate::hooks::defaults). Names what can be overridden; the
//! loop does the calling.

pub(crate) mod comm;
pub mod defaults;
pub(crate) mod server;
#[cfg(test)]
pub(crate) mod testing;
mod watches;

pub use self::server::{ChildServer, Start};

use crate::core::{
    child::{Child, ChildId, Death},
    error::Operation,
    monitor::Monitor,
    states::States,
    wire::{Line, Output},
};
use std::{io, time::Duration};

/// Every step of the server, to be overridden one by one.
///
/// **Who drives.** The loop ([`PreFork`](crate::PreFork)) calls the `handler_*` methods; their
/// defaults call the `server_*` methods. Hooks ask the [`Monitor`] for what is to be done; it is
/// queued and performed after the hook has returned, in order.
///
/// **The default from an override.** `$self->SUPER::server_busy($child)` is written
/// `defaults::server_busy(self, monitor, child)`.
///
/// **Where.** All hooks run in the parent, but `server_start`, `server_exiting` and, called by the
/// default of `server_start`, `handler_shutdown`, which run in the forked child.
///
/// **Panics.** In the parent a panic in a hook is caught, logged with the hook's name and counted in
/// the [`Report`](crate::Report); what the hook had asked for before is done, and the loop goes on.
/// (One in `handler_start` unwinds out of [`Builder::start`](crate::Builder::start).) In a child it
/// ends that child with exit code 101.
///
/// **Blocking.** A hook that blocks in the parent stops everything the parent does; the children go
/// on serving meanwhile.
///
/// Nothing has to be implemented: [`DefaultHooks`] is the trait as it stands.
pub trait PreForkHooks {
    // ---- The methods of the original. ----

    /// A child has sent an ACK: it is alive.
    ///
    /// Default: [`defaults::server_ack`] records the time. Without it the child is taken for silent.
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_ack(self, monitor, child);
    }

    /// A child has said BUSY: it has a connection in hand. Heard when it turns from waiting to
    /// working, not for each connection of a child under load, and at the most once every 2 to
    /// 20 ms then (see `coalesce_words`); and again with each ACK of a busy child.
    ///
    /// Default: [`defaults::server_busy`] moves it to the busy ones and posts `forkoff` if it moved.
    fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_busy(self, monitor, child);
    }

    /// A child has said NOT_BUSY: it waits for a connection. Heard again with each ACK of a free
    /// child. The first one is said before the first wait: the start has held.
    ///
    /// Default: [`defaults::server_not_busy`] moves it to the free ones and posts `forkoff` if it
    /// moved.
    fn server_not_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_not_busy(self, monitor, child);
    }

    /// A child, busy or free, has been silent for longer than `timeout`. Called by the defaults of
    /// the two methods below.
    ///
    /// Default: [`defaults::server_timeout`] sends SIGINT.
    fn server_timeout(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_timeout(self, monitor, child);
    }

    /// A busy child has been silent for longer than `timeout`: the place to log what it was doing,
    /// or to spare it. A child that is spared is offered again at the next check.
    ///
    /// Default: [`defaults::server_timeout_busy`] calls `server_timeout`; the child is retiring
    /// then, and gets SIGKILL after `kill_timeout`.
    fn server_timeout_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_timeout_busy(self, monitor, child);
    }

    /// A free child has been silent for longer than `timeout`.
    ///
    /// Default: [`defaults::server_timeout_free`], the same as for a busy one.
    fn server_timeout_free(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_timeout_free(self, monitor, child);
    }

    /// A child has printed a line to stdout that is no word.
    ///
    /// Default: [`defaults::server_stdout`] prints it to the parent's stdout as
    /// `{pid} STDOUT: {line}`.
    fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        defaults::server_stdout(self, monitor, child, line);
    }

    /// A child has printed a line to stderr.
    ///
    /// Default: [`defaults::server_stderr`] prints it to the parent's stderr as
    /// `{pid} STDERR: {line}`.
    fn server_stderr(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        defaults::server_stderr(self, monitor, child, line);
    }

    /// Runs **in the forked child**, first of the user's code: the place to seed random
    /// numbers, open what must not be shared. Code after the call of the default still runs
    /// before the first connection is accepted. The child has the limits and privileges of its
    /// [`Confinement`](crate::Confinement) already.
    ///
    /// Default: [`defaults::server_start`] sets `is_child`, asks for `resume_accept`, calls
    /// `handler_shutdown`. Without it the child ends when this returns.
    ///
    /// # Errors
    ///
    /// An error is printed to the child's stderr and ends the child with exit code 102, which slows
    /// forking down as a start that failed.
    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        defaults::server_start(self, start)
    }

    /// Called once, first thing in the default of `handler_start`: the place to register states and
    /// descriptors of one's own.
    ///
    /// Default: [`defaults::create_states`] registers the documented states.
    fn create_states(&mut self, states: &mut States) {
        defaults::create_states(self, states);
    }

    // ---- The handlers of the original. ----

    /// `_start`: called once, in the parent, by [`Builder::start`](crate::Builder::start).
    ///
    /// Default: [`defaults::handler_start`] calls `create_states`, normalises the attributes, sets
    /// the intervals that follow from `timeout`, starts the server, posts `forkoff`, sets the timer
    /// of the timeout check. Nothing has been forked when it returns.
    ///
    /// # Errors
    ///
    /// An error is handed to `handler_child` and `handler_stop` and returned from `start`.
    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        defaults::handler_start(self, monitor, server)
    }

    /// `_child`: the server has ended in the parent, because it did not start or because its socket
    /// is lost.
    ///
    /// Default: [`defaults::handler_child`] shuts down.
    fn handler_child(&mut self, monitor: &mut Monitor, error: &io::Error) {
        defaults::handler_child(self, monitor, error);
    }

    /// `_stop`: the last call in the parent, after the last child has been reaped. Never in a child,
    /// and not for a server that is dropped before it has shut down.
    ///
    /// Default: [`defaults::handler_stop`] stops the server object and empties the tables.
    fn handler_stop(&mut self, monitor: &mut Monitor, server: &mut dyn ChildServer) {
        defaults::handler_stop(self, monitor, server);
    }

    /// `run_error`: an operation has failed for good. On a child: reading its output, collecting its
    /// status. With no child: a fork that retrying cannot cure, watching a descriptor of one's own.
    ///
    /// Default: [`defaults::handler_run_error`] warns, and shuts down if `shutdown_on_error`. When
    /// that is off, a child whose output could not be read is killed and replaced in any case.
    fn handler_run_error(
        &mut self,
        monitor: &mut Monitor,
        operation: Operation,
        error: &io::Error,
        child: Option<ChildId>,
    ) {
        defaults::handler_run_error(self, monitor, operation, error, child);
    }

    /// `shutdown`: begins the end. Called in the parent at the first request to shut down (and at
    /// further ones while the default has not run), and **in each child** by the default of
    /// `server_start`, with `is_child` true.
    ///
    /// When it has returned in the parent, and the shutdown has begun, the loop has the server object let no
    /// further client in ([`ChildServer::begin_drain`]); then what the hook has asked for is done.
    ///
    /// Default: [`defaults::handler_shutdown`] removes all alarms and sends SIGINT to all children;
    /// in a child it drops the parent's books. Without it a request to shut down changes nothing.
    fn handler_shutdown(&mut self, monitor: &mut Monitor) {
        defaults::handler_shutdown(self, monitor);
    }

    /// `server_closed`: once a child, when both its outputs have ended or when it has been reaped,
    /// whichever comes first. What it had written has been delivered. It is not dead for certain:
    /// see `server_exited`.
    ///
    /// Default: [`defaults::handler_server_closed`] posts `forkoff` unless shutting down.
    fn handler_server_closed(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::handler_server_closed(self, monitor, child);
    }

    /// `server_stderr`: a line from a child's stderr.
    ///
    /// Default: [`defaults::handler_server_stderr`] calls `server_stderr`.
    fn handler_server_stderr(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
        defaults::handler_server_stderr(self, monitor, child, line);
    }

    /// `server_ack`: a word or a line from a child's stdout (or a word from its private channel).
    ///
    /// Default: [`defaults::handler_server_ack`] calls `server_ack`, `server_busy`,
    /// `server_not_busy` or `server_stdout`.
    fn handler_server_ack(&mut self, monitor: &mut Monitor, child: ChildId, output: Output<'_>) {
        defaults::handler_server_ack(self, monitor, child, output);
    }

    /// `server_timeout_check`: every `server_check_ack`, while there is a `timeout`. What children
    /// had written by then has been read, or the default leaves them out.
    ///
    /// Default: [`defaults::handler_server_timeout_check`] hands the silent ones to
    /// `server_timeout_free` and `server_timeout_busy`, and sets the timer again.
    fn handler_server_timeout_check(&mut self, monitor: &mut Monitor) {
        defaults::handler_server_timeout_check(self, monitor);
    }

    /// `forkoff`: the main decision. Posted at the start, when a child really moved between busy
    /// and free, when one closed or was reaped, when one timed out, when a failed fork is to be
    /// retried, and when a surplus has lasted `cull_after`; never on a timer of its own.
    ///
    /// Default: [`defaults::handler_forkoff`] culls, or posts a `server_fork` for each child that is
    /// missing.
    fn handler_forkoff(&mut self, monitor: &mut Monitor) {
        defaults::handler_forkoff(self, monitor);
    }

    /// `server_fork`: one more child is wanted.
    ///
    /// Default: [`defaults::handler_server_fork`] asks for the fork, which happens when the hook has
    /// returned.
    fn handler_server_fork(&mut self, monitor: &mut Monitor) {
        defaults::handler_server_fork(self, monitor);
    }

    /// A state of one's own, registered in `create_states` and posted, set on an alarm or on a
    /// descriptor.
    ///
    /// Default: [`defaults::handler_state`] does nothing.
    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        defaults::handler_state(self, monitor, state);
    }

    // ---- What the original lacks and its users miss. ----

    /// In the parent, right before each fork. For what each child is to find as it is now: a file to
    /// be read again, a buffer to be flushed that would otherwise be written twice, a check that no
    /// thread has been left running.
    ///
    /// Default: nothing.
    fn before_fork(&mut self, monitor: &mut Monitor) {
        defaults::before_fork(self, monitor);
    }

    /// In the parent, right after a fork: the child is in the tables. For what the program keeps of each
    /// child: a record of one's own by its [`ChildId`], a cgroup that its pid is put into, a line in the
    /// log. [`server_exited`](Self::server_exited) is where that ends.
    ///
    /// Default: nothing.
    fn server_forked(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_forked(self, monitor, child);
    }

    /// **In the child**, last, however serving ended (but not after a panic or a signal). For what
    /// `server_start` has opened and nobody else closes, since a child ends without destructors: a
    /// database to say goodbye to, a buffer to write out, figures to hand in.
    ///
    /// Default: nothing.
    fn server_exiting(&mut self, start: &mut Start<'_>) {
        defaults::server_exiting(self, start);
    }

    /// In the parent, once, when a child has been reaped and everything it wrote has been delivered.
    /// Its name finds nothing any more. For telling crashes from orderly ends, by the [`Death`]: to log
    /// or count them, to raise an alarm, to forget what [`server_forked`](Self::server_forked) noted.
    ///
    /// Default: a debug line.
    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        defaults::server_exited(self, monitor, child, death);
    }

    /// In the parent: a fork failed for want of processes, memory or descriptors. It will be tried
    /// again after `retry_in` (100 ms doubling to 5 s). For an alarm, for giving back memory or
    /// descriptors that the parent can do without, or for a `shutdown` where waiting is no use.
    ///
    /// Default: [`defaults::fork_failed`] warns.
    fn fork_failed(&mut self, monitor: &mut Monitor, error: &io::Error, retry_in: Duration) {
        defaults::fork_failed(self, monitor, error, retry_in);
    }
}

/// The hooks as they stand, nothing overridden.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DefaultHooks;

impl PreForkHooks for DefaultHooks {}

/// Forwards every method. One that is left out would silently fall back to its default, which is
/// why a test runs all of them through each of these types.
macro_rules! forward_hooks {
    ($($type:ty),*) => {$(
        impl<H: PreForkHooks + ?Sized> PreForkHooks for $type {
            fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_ack(monitor, child);
            }
            fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_busy(monitor, child);
            }
            fn server_not_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_not_busy(monitor, child);
            }
            fn server_timeout(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_timeout(monitor, child);
            }
            fn server_timeout_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_timeout_busy(monitor, child);
            }
            fn server_timeout_free(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_timeout_free(monitor, child);
            }
            fn server_stdout(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
                (**self).server_stdout(monitor, child, line);
            }
            fn server_stderr(&mut self, monitor: &mut Monitor, child: ChildId, line: &Line) {
                (**self).server_stderr(monitor, child, line);
            }
            fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
                (**self).server_start(start)
            }
            fn create_states(&mut self, states: &mut States) {
                (**self).create_states(states);
            }
            fn handler_start(
                &mut self,
                monitor: &mut Monitor,
                server: &mut dyn ChildServer,
            ) -> io::Result<()> {
                (**self).handler_start(monitor, server)
            }
            fn handler_child(&mut self, monitor: &mut Monitor, error: &io::Error) {
                (**self).handler_child(monitor, error);
            }
            fn handler_stop(&mut self, monitor: &mut Monitor, server: &mut dyn ChildServer) {
                (**self).handler_stop(monitor, server);
            }
            fn handler_run_error(
                &mut self,
                monitor: &mut Monitor,
                operation: Operation,
                error: &io::Error,
                child: Option<ChildId>,
            ) {
                (**self).handler_run_error(monitor, operation, error, child);
            }
            fn handler_shutdown(&mut self, monitor: &mut Monitor) {
                (**self).handler_shutdown(monitor);
            }
            fn handler_server_closed(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).handler_server_closed(monitor, child);
            }
            fn handler_server_stderr(
                &mut self,
                monitor: &mut Monitor,
                child: ChildId,
                line: &Line,
            ) {
                (**self).handler_server_stderr(monitor, child, line);
            }
            fn handler_server_ack(
                &mut self,
                monitor: &mut Monitor,
                child: ChildId,
                output: Output<'_>,
            ) {
                (**self).handler_server_ack(monitor, child, output);
            }
            fn handler_server_timeout_check(&mut self, monitor: &mut Monitor) {
                (**self).handler_server_timeout_check(monitor);
            }
            fn handler_forkoff(&mut self, monitor: &mut Monitor) {
                (**self).handler_forkoff(monitor);
            }
            fn handler_server_fork(&mut self, monitor: &mut Monitor) {
                (**self).handler_server_fork(monitor);
            }
            fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
                (**self).handler_state(monitor, state);
            }
            fn before_fork(&mut self, monitor: &mut Monitor) {
                (**self).before_fork(monitor);
            }
            fn server_forked(&mut self, monitor: &mut Monitor, child: ChildId) {
                (**self).server_forked(monitor, child);
            }
            fn server_exiting(&mut self, start: &mut Start<'_>) {
                (**self).server_exiting(start);
            }
            fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
                (**self).server_exited(monitor, child, death);
            }
            fn fork_failed(
                &mut self,
                monitor: &mut Monitor,
                error: &io::Error,
                retry_in: Duration,
            ) {
                (**self).fork_failed(monitor, error, retry_in);
            }
        }
    )*};
}
forward_hooks!(&mut H, Box<H>);

#[cfg(test)]
mod replacement_tests;
#[cfg(test)]
mod tests;
