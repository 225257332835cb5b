//! What each hook does unless it is overridden, callable from an override: the counterpart of
//! `SUPER::`. Each function has the name and the arguments of its hook, and where the original's
//! method calls another method, it calls that *hook*. Asks the monitor; performs nothing.
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
        error::Operation,
        monitor::Monitor,
        pool::Plan,
        say::say,
        states::{DOCUMENTED_STATES, Posted, States},
        wire::{Line, Output, Word},
    },
    hooks::{
        PreForkHooks,
        server::{ChildServer, Start},
    },
};
use std::{io, time::Duration};

/// Records that the child is alive: `last_ack` is now.
pub fn server_ack<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor, child: ChildId) {
    monitor.acknowledge(child);
}

/// Moves the child to the busy ones, and posts `forkoff` if it moved.
pub fn server_busy<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor, child: ChildId) {
    if monitor.set_busy(child) {
        monitor.post_known(Posted::Forkoff);
    }
}

/// Moves the child to the free ones, and posts `forkoff` if it moved.
pub fn server_not_busy<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor, child: ChildId) {
    if monitor.set_not_busy(child) {
        monitor.post_known(Posted::Forkoff);
    }
}

/// Sends SIGINT to the child.
pub fn server_timeout<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor, child: ChildId) {
    monitor.kill(child, Signal::Interrupt);
}

/// Calls the hook `server_timeout`; then the child is retiring.
pub fn server_timeout_busy<H: PreForkHooks + ?Sized>(
    hooks: &mut H,
    monitor: &mut Monitor,
    child: ChildId,
) {
    log::debug!("busy child {child} has timed out");
    monitor.naming("server_timeout", |monitor| {
        hooks.server_timeout(monitor, child)
    });
    monitor.retire(child, Reason::TimedOut);
}

/// Calls the hook `server_timeout`; then the child is retiring.
pub fn server_timeout_free<H: PreForkHooks + ?Sized>(
    hooks: &mut H,
    monitor: &mut Monitor,
    child: ChildId,
) {
    log::debug!("free child {child} has timed out");
    monitor.naming("server_timeout", |monitor| {
        hooks.server_timeout(monitor, child)
    });
    monitor.retire(child, Reason::TimedOut);
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

/// In the child: notes that this is one, asks for `resume_accept`, and calls the hook
/// `handler_shutdown`, which drops what was the parent's. Nothing has been accepted when it returns.
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

/// Calls `create_states`; normalises the attributes; with a timeout, gives the server the interval
/// of its ACKs; tells it how many children to expect; starts the server; posts `forkoff` once; sets the timer of the timeout check.
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
        // Before the server starts: it may want to set the interval on its socket.
        if interval.is_some() {
            server.set_send_ack(interval);
        }
        monitor.derived_ack = Some(Interval(interval));
    }
    monitor.attributes.derive_check();
    server.start()?;
    monitor.post_known(Posted::Forkoff);
    monitor.arm_timeout_check();
    Ok(())
}

/// Shuts the server down, unless that is under way.
pub fn handler_child<H: PreForkHooks + ?Sized>(
    _: &mut H,
    monitor: &mut Monitor,
    error: &io::Error,
) {
    if monitor.is_shutdown() {
        return;
    }
    if monitor.report().forks == 0 {
        // `start` returns the error; the program tells of it.
        log::debug!("the server has not started: {error}");
    } else {
        say!(Error, "the server has ended: {error}");
    }
    monitor.shutdown();
}

/// Stops the server object and empties the tables.
pub fn handler_stop<H: PreForkHooks + ?Sized>(
    _: &mut H,
    monitor: &mut Monitor,
    server: &mut dyn ChildServer,
) {
    server.stop();
    monitor.forget_all();
}

/// Warns `{pid} got {operation} error {n} ({text})`, and posts `shutdown` if `shutdown_on_error`.
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
    // The number has been said, and std says it again.
    let again = format!(" (os error {number})");
    let text = text.strip_suffix(&again).unwrap_or(&text);
    say!(Warn, "{pid} got {operation} error {number} ({text})");
    if monitor.shutdown_on_error() {
        monitor.shutdown();
    }
}

/// Begins the shutdown: no forks any more, all alarms removed. In the parent every child gets
/// SIGINT; in a child the parent's things are dropped.
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
        monitor.post_known(Posted::Forkoff);
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

/// Calls the hook for the word, `server_ack`, `server_busy` or `server_not_busy`; for a line, the
/// hook `server_stdout`.
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

/// Hands children that have been silent for longer than `timeout` to the hooks
/// `server_timeout_free` (the free ones first) and `server_timeout_busy`, posts `forkoff` if there
/// was one, and sets the timer again (first of all, so that a hook that panics does not end it).
///
/// If the loop has not turned for three quarters of the timeout, nobody is judged yet: another check
/// follows after half a timeout, when whoever was stopped together with the parent has had the time
/// to say an ACK.
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
        monitor.post_known(Posted::Forkoff);
    }
}

/// Keeps the number of children right: SIGINT to the oldest of a surplus that has lasted, or one
/// `server_fork` for each child that is missing.
pub fn handler_forkoff<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor) {
    match monitor.take_plan() {
        Plan::Fork(forks) => (0..forks).for_each(|_| monitor.post_known(Posted::ServerFork)),
        Plan::Retire(surplus) => {
            for child in monitor.pool.oldest_free(surplus) {
                monitor.stop(child, Reason::Culled);
            }
        }
        Plan::Steady => {}
    }
}

/// Asks for one fork, if `max_clients` allows it.
pub fn handler_server_fork<H: PreForkHooks + ?Sized>(_: &mut H, monitor: &mut Monitor) {
    monitor.fork();
}

/// Nothing but a debug line: a state of one's own needs a handler of one's own.
pub fn handler_state<H: PreForkHooks + ?Sized>(_: &mut H, _monitor: &mut Monitor, state: &str) {
    log::debug!("state {state} has no handler");
}

/// Nothing.
pub fn before_fork<H: PreForkHooks + ?Sized>(_: &mut H, _monitor: &mut Monitor) {}

/// Nothing.
pub fn server_forked<H: PreForkHooks + ?Sized>(_: &mut H, _monitor: &mut Monitor, _child: ChildId) {
}

/// Nothing.
pub fn server_exiting<H: PreForkHooks + ?Sized>(_: &mut H, _start: &mut Start<'_>) {}

/// Nothing but a debug line.
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

/// Warns.
pub fn fork_failed<H: PreForkHooks + ?Sized>(
    _: &mut H,
    _monitor: &mut Monitor,
    error: &io::Error,
    retry_in: Duration,
) {
    say!(Warn, "fork failed: {error}; next attempt in {retry_in:?}");
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
mod tests;
#[cfg(test)]
mod walk;
