//! The default of each hook, callable from an override: the counterpart of `SUPER::`. Each function
//! has the name and the arguments of its hook. Where the original's method calls another method,
//! the default calls that *hook*. Asks the monitor for actions; performs none.
//!
//! ```
//! use prefork_server::{ChildId, Monitor, PreForkHooks, defaults};
//!
//! struct Counting(u64);
//!
//! impl PreForkHooks for Counting {
//!     fn server_busy(&mut self, monitor: &mut Monitor, child: ChildId) {
//!         self.0 += 1;
//!         defaults::server_busy(self, monitor, child); // $self->SUPER::server_busy($child)
//!     }
//! }
//! ```

use crate::{
    core::{
        child::{Child, ChildId, Death, Reason, Signal},
        comm::Interval,
        error::{Error, Operation},
        monitor::Monitor,
        notice::Notice,
        pool::ForkPlan,
        saturation::Saturation,
        say::say,
        states::{DOCUMENTED_STATES, PostedState, States},
        wire::{Line, Output, Word},
    },
    hooks::{ChildServer, PreForkHooks, Start},
};
use std::{io, time::Duration};

/// Records that the child is alive: `last_ack` is now.
pub fn server_ack<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor, child: ChildId) {
    monitor.acknowledge(child);
}

/// Counts the child as busy, and posts `forkoff` if it was free.
pub fn server_busy<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor, child: ChildId) {
    if monitor.set_busy(child) {
        monitor.post_known(PostedState::Forkoff);
    }
}

/// Counts the child as free, and posts `forkoff` if it was busy.
pub fn server_not_busy<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor, child: ChildId) {
    if monitor.set_not_busy(child) {
        monitor.post_known(PostedState::Forkoff);
    }
}

/// Sends SIGINT to the child.
pub fn server_timeout<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor, child: ChildId) {
    monitor.kill(child, Signal::Interrupt);
}

/// Calls the hook `server_timeout`, and counts the child as retiring.
pub fn server_timeout_busy<H: PreForkHooks + ?Sized>(
    hooks: &mut H,
    monitor: &mut Monitor,
    child: ChildId,
) {
    log::debug!("busy child {child} has timed out");
    monitor.ask_stack(child);
    monitor.naming("server_timeout", |monitor| {
        hooks.server_timeout(monitor, child)
    });
    monitor.retire(child, Reason::TimedOut);
}

/// Calls the hook `server_timeout`, and counts the child as retiring.
pub fn server_timeout_free<H: PreForkHooks + ?Sized>(
    hooks: &mut H,
    monitor: &mut Monitor,
    child: ChildId,
) {
    log::debug!("free child {child} has timed out");
    monitor.ask_stack(child);
    monitor.naming("server_timeout", |monitor| {
        hooks.server_timeout(monitor, child)
    });
    monitor.retire(child, Reason::TimedOut);
}

/// Tells the child to stop, for [`Reason::Overtime`] or [`Reason::StartTimeout`].
///
/// The latter is for a child that starts.
pub fn server_overtime<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor, child: ChildId) {
    let reason = monitor.overtime_reason(child);
    monitor.stop(child, reason);
}

/// Prints `{pid} STDOUT: {line}` to stdout, control characters escaped.
pub fn server_stdout<H: PreForkHooks + ?Sized>(
    _: &mut H,
    monitor: &mut Monitor,
    child: ChildId,
    line: &Line,
) {
    if let Some(text) = prefixed(monitor, child, "STDOUT", line) {
        monitor.print_stdout(text);
    }
}

/// Prints `{pid} STDERR: {line}` to stderr, control characters escaped.
pub fn server_stderr<H: PreForkHooks + ?Sized>(
    _: &mut H,
    monitor: &mut Monitor,
    child: ChildId,
    line: &Line,
) {
    if let Some(text) = prefixed(monitor, child, "STDERR", line) {
        monitor.print_stderr(text);
    }
}

fn prefixed(monitor: &Monitor, child: ChildId, stream: &str, line: &Line) -> Option<Vec<u8>> {
    let mut text = format!("{} {stream}: ", monitor.child(child)?.pid()).into_bytes();
    text.extend(line.escaped());
    Some(text)
}

/// In the child: sets `is_child` and asks for `resume_accept`.
///
/// Calls `handler_shutdown`, which drops what was the parent's.
///
/// The default of `handler_shutdown` drops the parent's data. Nothing has been accepted when this
/// returns.
///
/// # Errors
///
/// None of its own.
pub fn server_start<H: PreForkHooks + ?Sized>(
    hooks: &mut H,
    start: &mut Start<'_>,
) -> io::Result<()> {
    start.monitor().become_child();
    start.resume_accept();
    hooks.handler_shutdown(start.monitor());
    Ok(())
}

/// Registers the documented states.
pub fn create_states<H: PreForkHooks + ?Sized>(_: &mut H, states: &mut States) {
    for state in DOCUMENTED_STATES {
        states.add(state);
    }
}

/// Starts the server, and prepares the first `forkoff` and the timeout check.
///
/// It calls `create_states`, normalises the attributes, sets the interval of ACKs on the server if
/// there is a timeout, starts the server, posts `forkoff` and sets the timer of the timeout check.
///
/// # Errors
///
/// The server's `start` failed.
pub fn handler_start<H: PreForkHooks + ?Sized>(
    hooks: &mut H,
    monitor: &mut Monitor,
    server: &mut dyn ChildServer,
) -> io::Result<()> {
    let mut states = monitor.take_states();
    hooks.create_states(&mut states);
    monitor.install(states);
    monitor.attributes_changed();
    let interval = monitor.attributes.ack_interval();
    if interval.is_none() || server.send_ack().is_none() {
        // Before the server starts: it may set the interval on its socket.
        if interval.is_some() {
            server.set_send_ack(interval);
        }
        monitor.derived_ack = Some(Interval(interval));
    }
    monitor.attributes.derive_check();
    server.start()?;
    monitor.post_known(PostedState::Forkoff);
    monitor.arm_timeout_check();
    Ok(())
}

/// Shuts the server down, unless it is already shutting down.
pub fn handler_child<H: PreForkHooks + ?Sized>(
    _: &mut H,
    monitor: &mut Monitor,
    error: &io::Error,
) {
    if monitor.is_shutdown() {
        return;
    }
    if monitor.report().forks == 0 {
        // `start` returns the error, so the program reports it.
        log::debug!("the server has not started: {error}");
    } else {
        say!(Error, "the server has ended: {error}");
    }
    monitor.shutdown();
}

/// Stops the server object and drops the children's records.
pub fn handler_stop<H: PreForkHooks + ?Sized>(
    _: &mut H,
    monitor: &mut Monitor,
    server: &mut dyn ChildServer,
) {
    server.stop();
    monitor.forget_all();
}

/// Logs a warning, and posts `shutdown` if `shutdown_on_error`.
///
/// The warning is `{pid} got {operation} error {n} ({text})`.
pub fn handler_run_error<H: PreForkHooks + ?Sized>(
    _: &mut H,
    monitor: &mut Monitor,
    operation: Operation,
    error: &io::Error,
    child: Option<ChildId>,
) {
    let pid = child
        .and_then(|child| monitor.child(child))
        .map_or(monitor.pid, Child::pid);
    let number = error.raw_os_error().unwrap_or(0);
    let text = error.to_string();
    // The message has the number already, and std would repeat it.
    let again = format!(" (os error {number})");
    let text = text.strip_suffix(&again).unwrap_or(&text);
    monitor.notice(
        Notice::RunError(operation, number),
        format_args!("{pid} got {operation} error {number} ({text})"),
    );
    if monitor.shutdown_on_error() {
        monitor.shutdown();
    }
}

/// Begins the shutdown: ends all forks and removes all alarms.
///
/// In the parent every child gets SIGINT; in a child the parent's data is dropped.
pub fn handler_shutdown<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor) {
    monitor.begin_shutdown();
    monitor.alarm_remove_all();
    if monitor.is_child() {
        return monitor.forget_all();
    }
    let children: Vec<_> = monitor.children().map(Child::id).collect();
    for child in children {
        monitor.stop(child, Reason::Shutdown);
    }
}

/// Posts `forkoff`, unless the server is shutting down.
pub fn handler_server_closed<H: PreForkHooks + ?Sized>(
    _: &mut H,
    monitor: &mut Monitor,
    _child: ChildId,
) {
    if !monitor.is_shutdown() {
        monitor.post_known(PostedState::Forkoff);
    }
}

/// Calls the hook `server_stderr`.
pub fn handler_server_stderr<H: PreForkHooks + ?Sized>(
    hooks: &mut H,
    monitor: &mut Monitor,
    child: ChildId,
    line: &Line,
) {
    monitor.naming("server_stderr", |monitor| {
        hooks.server_stderr(monitor, child, line)
    });
}

/// Calls the hook for the word or the line.
///
/// That is `server_ack`, `server_busy` or `server_not_busy` for a word, `server_stdout` for a line.
pub fn handler_server_ack<H: PreForkHooks + ?Sized>(
    hooks: &mut H,
    monitor: &mut Monitor,
    child: ChildId,
    output: Output<'_>,
) {
    match output {
        Output::Word(Word::Ack) => {
            monitor.naming("server_ack", |monitor| hooks.server_ack(monitor, child));
        }
        Output::Word(Word::Busy) => {
            monitor.naming("server_busy", |monitor| hooks.server_busy(monitor, child));
        }
        Output::Word(Word::NotBusy) => {
            monitor.naming("server_not_busy", |monitor| {
                hooks.server_not_busy(monitor, child)
            });
        }
        Output::Line(line) => {
            monitor.naming("server_stdout", |monitor| {
                hooks.server_stdout(monitor, child, line)
            });
        }
    }
}

/// Hands silent children to `server_timeout_free` and `server_timeout_busy`.
///
/// Silent is a child that has sent no ACK for longer than `timeout`; the free children come first.
/// If there was one, `forkoff` is posted. The timer is set again before the hooks are called, so
/// that a panic in a hook does not end the checks.
///
/// If the loop has not turned for three quarters of the timeout, no child is judged yet: another
/// check follows after half a timeout, when children that were stopped together with the parent
/// have had the time to send an ACK.
pub fn handler_server_timeout_check<H: PreForkHooks + ?Sized>(
    hooks: &mut H,
    monitor: &mut Monitor,
) {
    if monitor.puts_off_timeout_check() {
        return;
    }
    monitor.arm_timeout_check();
    let (free, busy) = monitor.overdue();
    for &child in &free {
        monitor.naming("server_timeout_free", |monitor| {
            hooks.server_timeout_free(monitor, child)
        });
    }
    for &child in &busy {
        monitor.naming("server_timeout_busy", |monitor| {
            hooks.server_timeout_busy(monitor, child)
        });
    }
    if !(free.is_empty() && busy.is_empty()) {
        monitor.post_known(PostedState::Forkoff);
    }
}

/// Culls a surplus, or posts a `server_fork` for each missing child.
///
/// A surplus is culled when it has lasted for `cull_after`.
pub fn handler_forkoff<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor) {
    match monitor.take_plan() {
        ForkPlan::Fork(forks) => {
            (0..forks).for_each(|_| monitor.post_known(PostedState::ServerFork))
        }
        ForkPlan::Retire(surplus) => {
            for child in monitor.pool.oldest_free(surplus) {
                monitor.stop(child, Reason::Culled);
            }
        }
        ForkPlan::Steady => {}
    }
}

/// Asks for one fork, if `max_clients` allows it.
pub fn handler_server_fork<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor) {
    monitor.fork();
}

/// Logs a debug line: a state of the subclass needs an override of this hook.
pub fn handler_state<H: PreForkHooks + ?Sized>(_: &mut H, _monitor: &mut Monitor, state: &str) {
    log::debug!("state {state} has no handler");
}

/// Tells every child to reopen its logs.
pub fn reopen_logs<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor) {
    monitor.reopen_children();
}

/// Does nothing.
pub fn before_fork<H: PreForkHooks + ?Sized>(_: &mut H, _monitor: &mut Monitor) {}

/// Does nothing.
pub fn server_forked<H: PreForkHooks + ?Sized>(_: &mut H, _monitor: &mut Monitor, _child: ChildId) {
}

/// Does nothing.
pub fn server_exiting<H: PreForkHooks + ?Sized>(_: &mut H, _start: &mut Start<'_>) {}

/// Logs a debug line.
pub fn server_exited<H: PreForkHooks + ?Sized>(
    _: &mut H,
    _monitor: &mut Monitor,
    child: &Child,
    death: &Death,
) {
    log::debug!(
        "child {} has ended: {death} ({:?})",
        child.pid(),
        death.cause()
    );
}

/// Calls [`ChildServer::reload`].
///
/// # Errors
///
/// That of the server object.
pub fn handler_reload<H: PreForkHooks + ?Sized>(
    _: &mut H,
    _monitor: &mut Monitor,
    server: &mut dyn ChildServer,
) -> io::Result<()> {
    server.reload()
}

/// Does nothing.
pub fn reload_failed<H: PreForkHooks + ?Sized>(_: &mut H, _monitor: &mut Monitor, _error: &Error) {}

/// Hands on nothing.
pub fn save<H: PreForkHooks + ?Sized>(_: &mut H, _monitor: &mut Monitor) -> Vec<u8> {
    Vec::new()
}

/// Takes anything.
///
/// # Errors
///
/// None.
pub fn restore<H: PreForkHooks + ?Sized>(_: &mut H, _saved: &[u8]) -> io::Result<()> {
    Ok(())
}

/// Does nothing.
pub fn upgrade_failed<H: PreForkHooks + ?Sized>(_: &mut H, _monitor: &mut Monitor, _error: &Error) {
}

/// Does nothing.
pub fn server_replaced<H: PreForkHooks + ?Sized>(
    _: &mut H,
    _monitor: &mut Monitor,
    _old: ChildId,
    _new: ChildId,
) {
}

/// Logs a warning.
pub fn fork_failed<H: PreForkHooks + ?Sized>(
    _: &mut H,
    monitor: &mut Monitor,
    error: &io::Error,
    retry_in: Duration,
) {
    monitor.notice(
        Notice::FailedFork,
        format_args!("fork failed: {error}; next attempt in {retry_in:?}"),
    );
}

/// Does nothing.
pub fn saturated<H: PreForkHooks + ?Sized>(
    _: &mut H,
    _monitor: &mut Monitor,
    _episode: &Saturation,
) {
}

#[cfg(test)]
mod death_tests;
#[cfg(test)]
mod escalation_tests;
#[cfg(test)]
mod handler_tests;
#[cfg(test)]
mod monitor_tests;
#[cfg(test)]
mod notice_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
