//! The trait whose methods a subclass overrides. Every method has a default, which is a function of
//! the same name in [`defaults`](crate::hooks::defaults). Declares the hooks; the loop calls them.

pub(crate) mod comm;
pub mod defaults;
mod forward;
pub(crate) mod server;
mod start;
#[cfg(test)]
pub(crate) mod testing;
mod watches;

pub use self::{server::ChildServer, start::Start};

use crate::core::{
    child::{Child, ChildId, Death},
    error::{Error, Operation},
    monitor::Monitor,
    saturation::Saturation,
    states::States,
    wire::{Line, Output},
};
use std::{io, time::Duration};

/// The hooks: every step of the server can be overridden.
///
/// **The calls.** The loop ([`PreFork`](crate::PreFork)) calls the `handler_*` methods; their
/// defaults call the `server_*` methods. Hooks ask the [`Monitor`] for actions, which are queued
/// and performed, in order, after the hook has returned.
///
/// **The default from an override.** `$self->SUPER::server_busy($child)` is written
/// `defaults::server_busy(self, monitor, child)`.
///
/// **The process.** All hooks run in the parent, except `server_start` and `server_exiting`, which
/// run in the forked child. There the default of `server_start` also calls `handler_shutdown`.
///
/// **Panics.** In the parent a panic in a hook is caught, logged with the hook's name and counted
/// in the [`Report`](crate::Report); what the hook had asked for before is performed, and the loop
/// goes on. A panic in `handler_start` unwinds out of [`Builder::start`](crate::Builder::start). In
/// a child a panic ends the child with exit code 101.
///
/// **Blocking.** While a hook blocks, the parent does nothing else; the children go on serving.
///
/// No method has to be implemented: [`DefaultHooks`] has all the defaults.
pub trait PreForkHooks {
    // ---- The methods of the original. ----

    /// A child has sent an ACK, so it is alive.
    ///
    /// Default: [`defaults::server_ack`] records the time. Without it the child counts as silent.
    fn server_ack(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_ack(self, monitor, child);
    }

    /// A child has said BUSY: it has a connection in hand.
    ///
    /// It is called when the child turns from free to busy, and again with each ACK of a busy
    /// child. Under load it is not called for each connection, but at most once every 2 to 20 ms
    /// (see `coalesce_words`).
    ///
    /// Default: [`defaults::server_busy`] counts the child as busy and posts `forkoff` if it was
    /// free.
    fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_busy(self, monitor, child);
    }

    /// A child has said NOT_BUSY: it waits for a connection.
    ///
    /// It is called again with each ACK of a free child. A child says the first one before its
    /// first wait, which shows that it has started.
    ///
    /// Default: [`defaults::server_not_busy`] counts the child as free and posts `forkoff` if it
    /// was busy.
    fn server_not_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_not_busy(self, monitor, child);
    }

    /// A child, busy or free, has been silent for longer than `timeout`.
    ///
    /// The defaults of the two methods below call it.
    ///
    /// Default: [`defaults::server_timeout`] sends SIGINT.
    fn server_timeout(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_timeout(self, monitor, child);
    }

    /// A busy child has been silent for longer than `timeout`.
    ///
    /// Override it to log what the child was doing, or to leave the child alone, which is then
    /// reported again at the next check.
    ///
    /// Default: [`defaults::server_timeout_busy`] calls `server_timeout` and counts the child as
    /// retiring, which means SIGKILL after `kill_timeout`.
    fn server_timeout_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_timeout_busy(self, monitor, child);
    }

    /// A free child has been silent for longer than `timeout`.
    ///
    /// Default: [`defaults::server_timeout_free`], the same as for a busy one.
    fn server_timeout_free(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_timeout_free(self, monitor, child);
    }

    /// A child has printed a line to stdout that is not a word.
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

    /// Runs **in the forked child** before all other code of the user.
    ///
    /// Override it to seed random numbers, or to open what must not be shared. Code after the call of
    /// the default still runs before the first connection is accepted. The child has the limits and
    /// privileges of its [`Confinement`](crate::Confinement) already.
    ///
    /// Default: [`defaults::server_start`] sets `is_child`, asks for `resume_accept`, and calls
    /// `handler_shutdown`. Without the default the child ends when this returns.
    ///
    /// # Errors
    ///
    /// An error is printed to the child's stderr and ends the child with exit code 102. It counts
    /// as a failed start, which delays forks.
    fn server_start(&mut self, start: &mut Start<'_>) -> io::Result<()> {
        defaults::server_start(self, start)
    }

    /// Registers states and descriptors.
    ///
    /// The default of `handler_start` calls it first, once.
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
    /// An error is passed to `handler_child`; then `handler_stop` is called, and `start` returns
    /// the error.
    fn handler_start(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        defaults::handler_start(self, monitor, server)
    }

    /// `_child`: the server object did not start, or its socket is lost.
    ///
    /// Runs in the parent.
    ///
    /// Default: [`defaults::handler_child`] shuts down.
    fn handler_child(&mut self, monitor: &mut Monitor, error: &io::Error) {
        defaults::handler_child(self, monitor, error);
    }

    /// `_stop`: the last hook in the parent, after the last child has been reaped.
    ///
    /// It is not called in a child, and not for a server that is dropped before it has shut down.
    ///
    /// Default: [`defaults::handler_stop`] stops the server object and drops the children's
    /// records.
    fn handler_stop(&mut self, monitor: &mut Monitor, server: &mut dyn ChildServer) {
        defaults::handler_stop(self, monitor, server);
    }

    /// `run_error`: an operation has failed for good.
    ///
    /// With a child it is reading its output or collecting its status. Without a child it is a fork
    /// that retrying cannot cure, or watching a descriptor of the subclass.
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

    /// `shutdown`: begins the shutdown, and also runs **in each child**.
    ///
    /// In the parent it is called at the first request to shut down, and at further requests while
    /// the default has not run. In a child the default of `server_start` calls it, with `is_child`
    /// true.
    ///
    /// When it has returned in the parent and the shutdown has begun, the loop calls
    /// [`ChildServer::begin_drain`], which lets no further client in; then the loop performs what
    /// the hook has asked for.
    ///
    /// Default: [`defaults::handler_shutdown`] removes all alarms and sends SIGINT to all children;
    /// in a child it drops the parent's data. Without the default a request to shut down has no
    /// effect.
    fn handler_shutdown(&mut self, monitor: &mut Monitor) {
        defaults::handler_shutdown(self, monitor);
    }

    /// `server_closed`: both outputs of a child have ended, or it has been reaped.
    ///
    /// It is called once for each child, at whichever comes first, after everything that the child
    /// wrote has been delivered. The child may still be alive: see `server_exited`.
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

    /// `server_ack`: a word or a line from a child's stdout.
    ///
    /// With a private channel, words come from there.
    ///
    /// Default: [`defaults::handler_server_ack`] calls `server_ack`, `server_busy`,
    /// `server_not_busy` or `server_stdout`.
    fn handler_server_ack(&mut self, monitor: &mut Monitor, child: ChildId, output: Output<'_>) {
        defaults::handler_server_ack(self, monitor, child, output);
    }

    /// `server_timeout_check`: looks for silent children.
    ///
    /// It is called every `server_check_ack`, while there is a `timeout`.
    ///
    /// Everything that children had written has been read; the default leaves out children for
    /// which that is not so.
    ///
    /// Default: [`defaults::handler_server_timeout_check`] calls `server_timeout_free` and
    /// `server_timeout_busy` for silent children, and sets the timer again.
    fn handler_server_timeout_check(&mut self, monitor: &mut Monitor) {
        defaults::handler_server_timeout_check(self, monitor);
    }

    /// `forkoff`: decides how many children to fork or to stop.
    ///
    /// It is posted at the start, when a child turned busy or free, when a child closed its
    /// outputs, was reaped or timed out, when a failed fork is to be retried, and when a surplus
    /// has lasted `cull_after`. It has no timer of its own.
    ///
    /// Default: [`defaults::handler_forkoff`] culls the surplus, or posts a `server_fork` for each
    /// missing child.
    fn handler_forkoff(&mut self, monitor: &mut Monitor) {
        defaults::handler_forkoff(self, monitor);
    }

    /// `server_fork`: one more child is wanted.
    ///
    /// Default: [`defaults::handler_server_fork`] asks for the fork, which is performed when the
    /// hook has returned.
    fn handler_server_fork(&mut self, monitor: &mut Monitor) {
        defaults::handler_server_fork(self, monitor);
    }

    /// A state of the subclass was posted.
    ///
    /// A hook, an alarm, a signal or a descriptor has posted it.
    ///
    /// Default: [`defaults::handler_state`] does nothing.
    fn handler_state(&mut self, monitor: &mut Monitor, state: &str) {
        defaults::handler_state(self, monitor, state);
    }

    // ---- What the original lacks and its users miss. ----

    /// In the parent: the logs are to be reopened.
    ///
    /// SIGUSR1 and [`Monitor::reopen_logs`] lead here.
    ///
    /// Use it to reopen the log files of the program, which a program such as logrotate has
    /// renamed.
    ///
    /// Default: [`defaults::reopen_logs`] tells every child to reopen its logs. Without it the
    /// children are told nothing.
    fn reopen_logs(&mut self, monitor: &mut Monitor) {
        defaults::reopen_logs(self, monitor);
    }

    /// A child has taken longer than `start_timeout` or `busy_timeout`.
    ///
    /// The first is for its start, the second for a connection.
    ///
    /// [`Child::has_served`] and [`Child::has_waited`] tell which of the two it is: before its
    /// first word a child is starting. Override it to log what the child was doing, or to leave the
    /// child alone, which is then reported again after the same time.
    ///
    /// Default: [`defaults::server_overtime`] tells the child to stop, which means SIGKILL after
    /// `kill_timeout`.
    fn server_overtime(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_overtime(self, monitor, child);
    }

    /// In the parent, right before each fork.
    ///
    /// Use it to read a file again for the child, to flush a buffer that parent and child would
    /// otherwise both write, or to check that no thread is running.
    ///
    /// Default: nothing.
    fn before_fork(&mut self, monitor: &mut Monitor) {
        defaults::before_fork(self, monitor);
    }

    /// In the parent, right after a fork: the monitor has the child's record.
    ///
    /// Use it to keep data for the child by its [`ChildId`], to put its pid into a cgroup, or to
    /// log the fork. Clean up in [`server_exited`](Self::server_exited).
    ///
    /// Default: nothing.
    fn server_forked(&mut self, monitor: &mut Monitor, child: ChildId) {
        defaults::server_forked(self, monitor, child);
    }

    /// **In the child**, as the last hook, unless a panic or a signal ends the child.
    ///
    /// A child ends without running destructors. Use this to close what `server_start` has opened:
    /// to log off from a database, to flush a buffer, to hand in statistics.
    ///
    /// Default: nothing.
    fn server_exiting(&mut self, start: &mut Start<'_>) {
        defaults::server_exiting(self, start);
    }

    /// In the parent, once, when a child was reaped and its output delivered.
    ///
    /// The monitor no longer has its record. The [`Death`] tells crashes from orderly ends: use it
    /// to log or count them, to raise an alarm, or to drop the data of
    /// [`server_forked`](Self::server_forked).
    ///
    /// Default: a debug line.
    fn server_exited(&mut self, monitor: &mut Monitor, child: &Child, death: &Death) {
        defaults::server_exited(self, monitor, child, death);
    }

    /// In the parent: a reload was asked for.
    ///
    /// SIGHUP asks for one, as does a program that calls [`Monitor::reload`].
    ///
    /// Read the program's settings again here, and change attributes and the server object. When it
    /// returns `Ok`, every child is replaced; new children have what the parent has now. Keep the
    /// new settings apart until all of them were checked: an error must leave everything as it was.
    ///
    /// Default: [`defaults::handler_reload`] calls [`ChildServer::reload`].
    ///
    /// # Errors
    ///
    /// An error, or a panic, ends the reload: no child is replaced, and
    /// [`reload_failed`](Self::reload_failed) is called.
    fn handler_reload(
        &mut self,
        monitor: &mut Monitor,
        server: &mut dyn ChildServer,
    ) -> io::Result<()> {
        defaults::handler_reload(self, monitor, server)
    }

    /// In the parent: a reload has failed, and the old children serve on.
    ///
    /// Either [`handler_reload`](Self::handler_reload) has returned the error, or three children in
    /// a row have not become ready. In the second case the parent has the new settings: put the old
    /// ones back here, since the next child gets the settings of the parent. Children that have
    /// become ready in the reload are replaced once more.
    ///
    /// With a holder another parent may have taken over in the middle of the reload. Its
    /// `handler_reload` has found the attributes that were in force before the reload. Everything
    /// else that is to be put back must come from [`save`](Self::save).
    ///
    /// Default: nothing; the error was logged.
    fn reload_failed(&mut self, monitor: &mut Monitor, error: &Error) {
        defaults::reload_failed(self, monitor, error);
    }

    /// In the parent: what is to be handed on to its successor.
    ///
    /// The successor is another program that takes its place, or the next parent.
    ///
    /// In an upgrade it is called for the trial of the new program, and again when that is executed. The
    /// other program, which may be an older one, gets the bytes in [`restore`](Self::restore). It is not
    /// called when a new program gives the place back: the old one gets what it has handed on itself. A
    /// panic fails the upgrade.
    ///
    /// With a holder (`Builder::holder`) it is called in the first turn of each parent, about once
    /// a second after that, and when a reload begins: be quick. If this parent is killed, the next
    /// one gets what was saved last; more than about 60 KiB is not kept, and a warning says so.
    ///
    /// Default: nothing.
    fn save(&mut self, monitor: &mut Monitor) -> Vec<u8> {
        defaults::save(self, monitor)
    }

    /// In a parent that takes another's place: what that one has handed on.
    ///
    /// It is empty if nothing was handed on.
    ///
    /// In an upgrade it is called before `handler_start`; also in a trial, whose process then ends. Change
    /// nothing but `self`. When the new program has given the place back, the old one is called with the
    /// bytes that it has handed on itself.
    ///
    /// With a holder it is called in each parent after the first, which is a fork of the holder: `self` is
    /// as [`handler_start`](Self::handler_start) has left it, which is not called again. If a reload has
    /// read settings, `handler_reload` is called after it; the file may be another by then.
    ///
    /// Default: takes anything.
    ///
    /// # Errors
    ///
    /// In an upgrade an error, or a panic, refuses it, and the other program serves on. In the old program
    /// that has come back it is a warning, and the server goes on without the bytes; in a parent under a
    /// holder as well.
    fn restore(&mut self, saved: &[u8]) -> io::Result<()> {
        defaults::restore(self, saved)
    }

    /// In the parent: an upgrade has failed, and this program, the old one, serves on.
    ///
    /// The error contains an [`UpgradeFailure`](crate::UpgradeFailure), unless the system has caused it.
    ///
    /// Default: nothing; the error was logged.
    fn upgrade_failed(&mut self, monitor: &mut Monitor, error: &Error) {
        defaults::upgrade_failed(self, monitor, error);
    }

    /// In the parent: a child was replaced, in a reload or at a limit.
    ///
    /// `new` is ready, and `old` was told to stop. Where `old` had to go first for lack of room
    /// (`max_clients`), it may have been reaped: then the monitor has no record of it.
    ///
    /// Default: nothing.
    fn server_replaced(&mut self, monitor: &mut Monitor, old: ChildId, new: ChildId) {
        defaults::server_replaced(self, monitor, old, new);
    }

    /// In the parent: a fork failed for lack of processes, memory or descriptors.
    ///
    /// It will be tried again after `retry_in` (100 ms, doubled up to 5 s). Use it to raise an
    /// alarm, to free memory or descriptors that the parent does not need, or to call `shutdown` if
    /// waiting does not help.
    ///
    /// Default: [`defaults::fork_failed`] warns.
    fn fork_failed(&mut self, monitor: &mut Monitor, error: &io::Error, retry_in: Duration) {
        defaults::fork_failed(self, monitor, error, retry_in);
    }

    /// In the parent, once an episode: the server is saturated.
    ///
    /// New clients have to wait.
    ///
    /// For a second there have been `max_clients` children, none free and some busy. Use it to
    /// raise an alarm, to allow more children with `set_max_clients`, or to take the server out of a
    /// load balancer. [`Event::Relieved`](crate::Event::Relieved) tells the end.
    ///
    /// Default: nothing.
    fn saturated(&mut self, monitor: &mut Monitor, episode: &Saturation) {
        defaults::saturated(self, monitor, episode);
    }
}

/// The hooks with nothing overridden.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DefaultHooks;

impl PreForkHooks for DefaultHooks {}

#[cfg(test)]
mod replacement_tests;
#[cfg(test)]
mod tests;
