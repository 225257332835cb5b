//! Reload and replacement: calls the hooks and tells observers. `core/replacement.rs` decides who is
//! replaced and when.

use super::{child::ChildSide, turn::Loop};
use crate::{
    core::{
        child::ChildId,
        error::{Error, Operation},
        event::Event,
        replacement::Reloaded,
        say::say,
    },
    hooks::{ChildServer, PreForkHooks},
};
use std::io;

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// `reload`: the program reads its settings again. If it can, every child is replaced.
    pub(super) fn call_reload(&mut self) {
        if self.parent.monitor.is_shutdown() {
            return;
        }
        #[cfg(feature = "holder")]
        self.keep_before_reload();
        match self.read_settings() {
            Ok(()) => {
                self.parent.monitor.begin_reload();
                #[cfg(feature = "holder")]
                self.note_reload();
            }
            Err(error) => self.reload_failed(&error),
        }
    }

    /// Has the program read its settings.
    pub(super) fn read_settings(&mut self) -> Result<(), Error> {
        let mut read = Err(io::Error::other("the hook has panicked"));
        self.call_with_server("handler_reload", |hooks, monitor, server| {
            read = hooks.handler_reload(monitor, server);
        });
        read.map_err(|error| Error::new(Operation::Reload, "the settings", error))
    }

    pub(super) fn reload_failed(&mut self, error: &Error) {
        say!(Error, "{error}; the old children stay");
        self.parent.monitor.report.failed_reloads += 1;
        let hooks = self.hooks.current();
        let event = Event::ReloadFailed { error };
        self.parent
            .call_and_emit("reload_failed", &event, |monitor| {
                hooks.reload_failed(monitor, error);
            });
    }

    /// The children of a reload have failed. If they are those of a new program, that has failed.
    pub(super) fn children_failed(&mut self, error: &Error) {
        // A parent after this one would read what is bad.
        #[cfg(feature = "holder")]
        {
            self.journaled.renewed = false;
        }
        if !self.comes_back(error) {
            self.reload_failed(error);
        }
    }

    /// Moves the replacement on, if anything has changed.
    pub(super) fn replace(&mut self) {
        self.read_memory();
        let moves = self.parent.monitor.replacement_step();
        for (old, new) in moves.replaced {
            self.replaced(old, new);
        }
        if let Some(reloaded) = moves.reloaded {
            self.reloaded(reloaded);
        }
    }

    fn replaced(&mut self, old: ChildId, new: ChildId) {
        let hooks = self.hooks.current();
        let event = Event::Replaced { old, new };
        self.parent
            .call_and_emit("server_replaced", &event, |monitor| {
                hooks.server_replaced(monitor, old, new);
            });
    }

    fn reloaded(&mut self, reloaded: Reloaded) {
        let Reloaded {
            epoch,
            replaced,
            began,
        } = reloaded;
        let took = self.parent.monitor.now().since(began);
        self.complete_upgrade(epoch);
        log::info!(
            "reloaded: {replaced} children replaced in {:.1} s",
            took.as_secs_f64()
        );
        self.parent.monitor.report.reloads += 1;
        self.parent.emit(&Event::Reloaded {
            epoch,
            replaced,
            took,
        });
    }

    /// Reads how much memory some of the children have, when that is due.
    fn read_memory(&mut self) {
        for child in self.parent.monitor.memory_to_read() {
            let contact = self.parent.monitor.pool.contact(child);
            if let Some(bytes) = contact.and_then(|contact| contact.process.memory()) {
                self.parent.monitor.note_memory(child, bytes);
            }
        }
    }
}
