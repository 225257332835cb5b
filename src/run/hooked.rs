//! Calls hooks with the monitor, and passes them what children have said. Decides nothing.

use super::{child::ChildSide, guarded::Callee, parent::ParentState, turn::Loop};
use crate::{
    core::{child::ChildId, monitor::Monitor, system::ChildPipe, wire::Output},
    hooks::{ChildServer, PreForkHooks},
};

/// Counts of words received.
#[derive(Debug, Default)]
pub(super) struct WordCounts {
    /// Since the turn began.
    pub(super) in_turn: usize,
}

impl<H: PreForkHooks, S: ChildServer, Y: ChildSide> Loop<H, S, Y> {
    /// Calls a hook, and tells observers what it has done.
    pub(super) fn call(
        &mut self,
        name: &'static str,
        hook: impl FnOnce(&mut dyn PreForkHooks, &mut Monitor),
    ) {
        self.call_with_server(name, |hooks, monitor, _| hook(hooks, monitor));
    }

    /// Like [`call`](Self::call), for a hook that gets the server object.
    pub(super) fn call_with_server(
        &mut self,
        name: &'static str,
        hook: impl FnOnce(&mut dyn PreForkHooks, &mut Monitor, &mut S),
    ) {
        let (hooks, server) = (self.hooks.current(), &mut self.server);
        let hook = |monitor: &mut Monitor| hook(hooks, monitor, server);
        self.parent.guarded(Callee::Hook(name), hook);
        self.parent.emit_pending();
    }

    /// Takes over what a child has noted of its connections.
    pub(super) fn note_board(&mut self, child: ChildId) {
        let ParentState {
            monitor, system, ..
        } = &mut self.parent;
        let notes = system.notes(child.slot());
        monitor.note_requests(child, notes.requests);
        monitor.note_in_hand(child, notes.in_hand());
        if notes.due {
            monitor.replace(child);
        }
    }

    /// Passes on what was read from a child's output.
    pub(super) fn deliver(&mut self, child: ChildId, from: ChildPipe, found: Output<'_>) {
        self.reading.delivered += 1;
        if let Output::Word(word) = found {
            self.words.in_turn += 1;
            self.parent.monitor.report.count_word(word);
            self.parent.monitor.note_word_heard(child);
            self.note_board(child);
        }
        match (from, found) {
            (ChildPipe::Comm, Output::Line(line)) => {
                log::debug!("{child} said {:?}, which is not a word", line.bytes());
            }
            (ChildPipe::Stderr, Output::Line(line)) => {
                if let Some(record) = self.parent.monitor.pool.get_mut(child) {
                    record.note_stderr(line.bytes());
                }
                self.call("handler_server_stderr", |hooks, monitor| {
                    hooks.handler_server_stderr(monitor, child, line);
                });
            }
            _ => self.call("handler_server_ack", |hooks, monitor| {
                hooks.handler_server_ack(monitor, child, found);
            }),
        }
        #[cfg(feature = "holder")]
        if matches!(found, Output::Word(_)) {
            self.note_words(child);
        }
    }
}
