//! The dispositions of this process: the changes that servers asked for, and the program's own.
//! Installs and restores them under one lock. Counts no signal.

use super::{native, set_action};
use crate::core::signal_policy::{InChild, InParent, TABLE};
use nix::sys::signal::{SigAction, SigHandler, sigaction};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What servers ask for one signal.
#[derive(Debug)]
struct Disposition {
    /// The program's own disposition.
    before: SigAction,
    /// How many servers ask for each action, the strongest action first.
    handled: usize,
    ignored: usize,
    not_ignored: usize,
}

impl Disposition {
    fn new(before: SigAction) -> Self {
        Self {
            before,
            handled: 0,
            ignored: 0,
            not_ignored: 0,
        }
    }

    fn count(&mut self, action: InParent) -> &mut usize {
        match action {
            InParent::Handled => &mut self.handled,
            InParent::Ignored => &mut self.ignored,
            InParent::NotIgnored | InParent::Left => &mut self.not_ignored,
        }
    }

    fn is_wanted(&self) -> bool {
        self.handled + self.ignored + self.not_ignored > 0
    }

    /// The action that the signal should have now; `None` for the program's own.
    fn due(&self, handler: SigHandler) -> Option<SigHandler> {
        match self.before.handler() {
            _ if self.handled > 0 => Some(handler),
            SigHandler::SigDfl if self.ignored > 0 => Some(SigHandler::SigIgn),
            SigHandler::SigIgn if self.not_ignored > 0 => Some(SigHandler::SigDfl),
            _ => None,
        }
    }

    fn apply(&self, index: usize, handler: SigHandler) -> io::Result<()> {
        let signal = native(TABLE[index].signal)?;
        match self.due(handler) {
            Some(due) => set_action(signal, due)?,
            // SAFETY: the process had this disposition before; the code that installed it vouches
            // for its handler.
            None => unsafe { sigaction(signal, &self.before) }?,
        };
        Ok(())
    }
}

/// The changed signals, by row of the table.
static CHANGED: Mutex<BTreeMap<usize, Disposition>> = Mutex::new(BTreeMap::new());

fn changed() -> MutexGuard<'static, BTreeMap<usize, Disposition>> {
    // OK to go on after a panic: each change of the map is a single insertion or removal.
    CHANGED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One more server wants that of the signal in row `index`; `handler` is the parent's.
pub(super) fn want(index: usize, action: InParent, handler: SigHandler) -> io::Result<()> {
    let mut changed = changed();
    let disposition = match changed.entry(index) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(Disposition::new(exchange(index, action, handler)?)),
    };
    *disposition.count(action) += 1;
    disposition.apply(index, handler)
}

/// What the program had in row `index`. The action is in its place already: a signal in between must
/// not find a default that ends the process.
fn exchange(index: usize, action: InParent, handler: SigHandler) -> io::Result<SigAction> {
    let first = match action {
        InParent::Handled => handler,
        InParent::Ignored => SigHandler::SigIgn,
        InParent::NotIgnored | InParent::Left => SigHandler::SigDfl,
    };
    set_action(native(TABLE[index].signal)?, first)
}

/// One server less wants it. What the program had comes back when none does.
pub(super) fn unwant(index: usize, action: InParent, handler: SigHandler) {
    let mut changed = changed();
    if let Some(disposition) = changed.get_mut(&index) {
        *disposition.count(action) -= 1;
        // OK to ignore: the same disposition was installed before, so the call cannot fail.
        let _ = disposition.apply(index, handler);
        if !disposition.is_wanted() {
            changed.remove(&index);
        }
    }
}

/// In a new child: replaces the parent's dispositions by those that the table gives to children.
/// `stop` is the child's handler.
pub(super) fn become_child(stop: SigHandler) -> io::Result<()> {
    let changed = std::mem::take(&mut *changed());
    for (index, row) in TABLE.iter().enumerate() {
        let changed = changed.get(&index);
        let signal = native(row.signal)?;
        match row.child {
            InChild::Stop => {
                set_action(signal, stop)?;
            }
            InChild::Default => {
                set_action(signal, SigHandler::SigDfl)?;
            }
            InChild::DefaultIfChanged if changed.is_some_and(|it| it.due(stop).is_some()) => {
                set_action(signal, SigHandler::SigDfl)?;
            }
            InChild::AsBefore if let Some(it) = changed => {
                // SAFETY: the program had this disposition before; the code that installed it
                // vouches for its handler.
                unsafe { sigaction(signal, &it.before) }?;
            }
            _ => {}
        }
    }
    // The map is leaked: freeing it would touch pages that the child shares with its parent.
    std::mem::forget(changed);
    Ok(())
}
