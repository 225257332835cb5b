//! The dispositions of this process: the changes that servers asked for, and the program's own.
//! Installs and restores them under one lock. Counts no signal.

use super::{native, set_action};
use crate::core::signal_policy::{InChild, InParent, TABLE};
use nix::sys::signal::{SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
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
    /// Whether the signal was blocked before a server handled it: the mask may be inherited from the process
    /// that started us.
    was_blocked: bool,
}

impl Disposition {
    fn new(before: SigAction) -> Self {
        Self {
            before,
            handled: 0,
            ignored: 0,
            not_ignored: 0,
            was_blocked: false,
        }
    }

    fn count(&mut self, action: InParent) -> &mut usize {
        match action {
            InParent::Handled => &mut self.handled,
            InParent::Ignored | InParent::Resizing => &mut self.ignored,
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
    disposition.apply(index, handler)?;
    if action == InParent::Handled {
        disposition.was_blocked |= unblock(native(TABLE[index].signal)?)?;
    }
    Ok(())
}

/// Unblocks a signal. True if it was blocked.
fn unblock(signal: Signal) -> io::Result<bool> {
    let before = SigSet::from(signal).thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?;
    Ok(before.contains(signal))
}

/// What the program had in row `index`. The action is in its place already: a signal in between must
/// not find a default that ends the process.
fn exchange(index: usize, action: InParent, handler: SigHandler) -> io::Result<SigAction> {
    let first = match action {
        InParent::Handled => handler,
        InParent::Ignored | InParent::Resizing => SigHandler::SigIgn,
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
        if disposition.handled == 0
            && std::mem::take(&mut disposition.was_blocked)
            && let Ok(signal) = native(TABLE[index].signal)
        {
            // OK to ignore: the signal exists, so the call cannot fail.
            let _ = SigSet::from(signal).thread_block();
        }
        if !disposition.is_wanted() {
            changed.remove(&index);
        }
    }
}

/// Before an exec: what servers ignore and the program did not is not to be ignored by the next
/// program. Handlers end with an exec by themselves. All signals are blocked meanwhile.
#[cfg(target_os = "linux")]
pub(super) fn before_exec() -> io::Result<()> {
    for (index, disposition) in &*changed() {
        let before = disposition.before.handler();
        if matches!(before, SigHandler::SigDfl | SigHandler::SigIgn) {
            set_action(native(TABLE[*index].signal)?, before)?;
        }
    }
    Ok(())
}

/// After an exec that has failed: as before it.
#[cfg(target_os = "linux")]
pub(super) fn after_failed_exec(handler: SigHandler) {
    for (index, disposition) in &*changed() {
        // OK to ignore: the same disposition was installed before, so the call cannot fail.
        let _ = disposition.apply(*index, handler);
    }
}

/// The signals that the program had blocked before servers handled them, by number: bit 0 is signal 1.
pub(super) fn blocked_before() -> io::Result<u64> {
    let mut mask = SigSet::thread_get_mask()?;
    for (index, disposition) in &*changed() {
        if disposition.was_blocked {
            mask.add(native(TABLE[*index].signal)?);
        }
    }
    let bit = |signal: Signal| 1 << (signal as u64 - 1);
    Ok(mask.iter().map(bit).fold(0, |bits, bit| bits | bit))
}

/// After an upgrade, in which all signals were blocked: blocks what the program before had blocked, but
/// not what a server handles.
pub(super) fn resume(blocked_before: u64) -> io::Result<()> {
    let has = |signal: Signal| blocked_before & 1 << (signal as u64 - 1) != 0;
    let mut mask: SigSet = Signal::iterator().filter(|signal| has(*signal)).collect();
    for (index, disposition) in &mut *changed() {
        let signal = native(TABLE[*index].signal)?;
        if disposition.handled > 0 {
            disposition.was_blocked = has(signal);
            mask.remove(signal);
        }
    }
    Ok(mask.thread_set_mask()?)
}

/// The handlers of a child.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChildHandlers {
    /// Tells it to stop.
    pub(super) stop: SigHandler,
    /// Has it reopen its logs.
    pub(super) reopen: SigHandler,
    /// Does nothing. An exec replaces it by the default.
    pub(super) nothing: SigHandler,
}

/// The signals that this child ignores and that a program that it becomes is not to ignore: a bit
/// for each row.
static IGNORED_HERE: AtomicU32 = AtomicU32::new(0);

/// The signals that were blocked before a server handled them, and that do not stop a child: a bit for
/// each row.
static BLOCKED_BEFORE: AtomicU32 = AtomicU32::new(0);

/// In a new child: replaces the parent's dispositions by those that the table gives to children.
pub(super) fn become_child(handlers: ChildHandlers) -> io::Result<()> {
    let changed = std::mem::take(&mut *changed());
    IGNORED_HERE.store(0, Ordering::Relaxed);
    BLOCKED_BEFORE.store(0, Ordering::Relaxed);
    for (index, row) in TABLE.iter().enumerate() {
        let signal = native(row.signal)?;
        if !row.child.stops() && changed.get(&index).is_some_and(|it| it.was_blocked) {
            BLOCKED_BEFORE.fetch_or(1 << index, Ordering::Relaxed);
        }
        match due_in_child(row.child, changed.get(&index), handlers) {
            ChildDisposition::AsInParent => {}
            ChildDisposition::Action(handler) => {
                set_action(signal, handler)?;
            }
            ChildDisposition::Ignored => {
                set_action(signal, SigHandler::SigIgn)?;
                IGNORED_HERE.fetch_or(1 << index, Ordering::Relaxed);
            }
            ChildDisposition::Before(before) => {
                // SAFETY: the program had this disposition before; the code that installed it
                // vouches for its handler.
                unsafe { sigaction(signal, &before) }?;
            }
        }
    }
    // The map is leaked: freeing it would touch pages that the child shares with its parent.
    std::mem::forget(changed);
    Ok(())
}

/// In a child that is about to become another program: blocks what the program had blocked before a
/// server of the parent handled it.
pub(super) fn block_again() -> io::Result<()> {
    let bits = BLOCKED_BEFORE.load(Ordering::Relaxed);
    let rows = TABLE.iter().enumerate();
    for (_, row) in rows.filter(|(index, _)| bits & 1 << index != 0) {
        SigSet::from(native(row.signal)?).thread_block()?;
    }
    Ok(())
}

/// What a new child does with one signal.
enum ChildDisposition {
    AsInParent,
    Action(SigHandler),
    Ignored,
    Before(SigAction),
}

/// `changed` is what servers of the parent have asked for.
fn due_in_child(
    row: InChild,
    changed: Option<&Disposition>,
    handlers: ChildHandlers,
) -> ChildDisposition {
    let handled = changed.is_some_and(|it| it.handled > 0);
    let Some(it) = changed else {
        return match row {
            InChild::Stop => ChildDisposition::Action(handlers.stop),
            InChild::Default => ChildDisposition::Action(SigHandler::SigDfl),
            _ => ChildDisposition::AsInParent,
        };
    };
    let had_default = matches!(it.before.handler(), SigHandler::SigDfl);
    match row {
        InChild::Stop => ChildDisposition::Action(handlers.stop),
        InChild::StopIfHandled if handled => ChildDisposition::Action(handlers.stop),
        InChild::ReopenIfHandled if handled => ChildDisposition::Action(handlers.reopen),
        InChild::NothingIfHandled if handled && had_default => {
            ChildDisposition::Action(handlers.nothing)
        }
        InChild::IgnoredIfChanged if had_default => ChildDisposition::Ignored,
        InChild::Default => ChildDisposition::Action(SigHandler::SigDfl),
        InChild::DefaultIfChanged if it.due(handlers.stop).is_some() => {
            ChildDisposition::Action(SigHandler::SigDfl)
        }
        InChild::DefaultIfChanged | InChild::AsInParent => ChildDisposition::AsInParent,
        _ => ChildDisposition::Before(it.before),
    }
}

/// In a child that is about to become another program: the default for what only the child ignores.
pub(super) fn stop_ignoring() -> io::Result<()> {
    let ignored = IGNORED_HERE.load(Ordering::Relaxed);
    for (index, row) in TABLE.iter().enumerate() {
        if ignored & (1 << index) != 0 {
            set_action(native(row.signal)?, SigHandler::SigDfl)?;
        }
    }
    Ok(())
}
