//! The end of a server: after a shutdown in the loop's last turn, by `PreFork::stop`, or because it
//! is dropped. The last two are a shutdown as well, in turns of the loop, in which no hook is called.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{
        error::Error,
        event::Event,
        notice::Notice,
        stop::{Manner, StopEffect},
        system::Wait,
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::time::Duration;

/// How long the end waits for queued tasks and for a slow reader of the parent's own output.
const LAST_WORK: Duration = Duration::from_secs(1);

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Ends the server when the shutdown is complete: the last child reaped, the last output
    /// written.
    pub(super) fn end_if_over(&mut self) {
        self.give_up_the_immortal();
        let monitor = &self.parent.monitor;
        if !monitor.is_shutdown() || monitor.pool.len() > 0 || self.hooks.uses_defaults() {
            return;
        }
        // A child that was given up may still have the listeners: they are to be closed for it as well.
        if !self.draining.is_over() {
            return;
        }
        let give_up = *self.at_the_latest.get_or_insert(monitor.now() + LAST_WORK);
        // A state that posts itself never runs out of tasks.
        let works = !monitor.queue.is_empty() || self.parent.system.is_printing();
        if works && monitor.now() < give_up {
            return;
        }
        self.parent.monitor.report.output_dropped += self.parent.system.give_up_printing();
        self.end();
    }

    /// A shutdown does not wait forever for children that hang in the kernel.
    fn give_up_the_immortal(&mut self) {
        for (_, pid) in self.parent.monitor.take_unkillable() {
            self.parent.monitor.notice(
                Notice::Unkillable,
                format_args!("child {pid} cannot be killed; the shutdown goes on without it"),
            );
        }
    }

    /// `_stop`: ends the server before it returns.
    pub(super) fn stop(&mut self) {
        if self.is_here() && !self.done {
            self.run_down();
            self.end();
        }
    }

    /// Ends a server that the program drops, as in a panic of the program around it.
    pub(super) fn leave(&mut self) {
        if !self.parent.system.is_owner() {
            return;
        }
        if !self.done {
            self.run_down();
            self.done = true;
            self.note_refusals();
            self.emit_end();
        }
        self.close();
    }

    /// Ends the living children as a shutdown does, in turns of the loop.
    fn run_down(&mut self) {
        self.parent.update_time();
        self.hooks.use_defaults(true);
        if self.parent.monitor.pool.len() > 0 {
            self.shut_down_now();
        }
        while self.parent.monitor.pool.len() > 0 {
            // It fails only at the end of a server, which is not reached here.
            let _ = self.turn(Wait::ForAnything(None));
        }
        // The last ones may have been given up.
        self.drain();
        self.hooks.use_defaults(false);
    }

    /// Without a delay, and with a bound even if SIGQUIT has asked for none.
    fn shut_down_now(&mut self) {
        self.apply_stop(StopEffect::Shutdown);
        self.parent.monitor.ask_stop(Manner::Bounded);
    }

    /// A wait for events has failed. In an end that the program has brought about, the loop goes on
    /// without one: it looks for deaths in each turn.
    pub(super) fn waits_no_more(&mut self, error: Error) -> Result<(), Error> {
        if !self.hooks.uses_defaults() {
            return Err(error);
        }
        self.deaths_unknown = true;
        Ok(())
    }

    /// No child is left: calls the last hook, and tells the end.
    fn end(&mut self) {
        self.done = true;
        self.note_refusals();
        self.call_stop();
        self.emit_end();
        self.close();
    }

    fn emit_end(&mut self) {
        self.parent.monitor.end_notices();
        for name in std::mem::take(&mut self.listeners) {
            self.parent.emit(&Event::ListenerClosed { name: &name });
        }
        self.parent.emit(&Event::Ended);
        self.parent.write_control();
    }

    fn close(&mut self) {
        // It has answered until now that the server is not ready.
        self.parent.status.end();
        // Signals last: another SIGTERM must not end the process before the server has cleaned up.
        self.parent.system.close();
        self.parent.control_file = None;
    }
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Drop for Loop<H, S, Y> {
    fn drop(&mut self) {
        self.leave();
    }
}
