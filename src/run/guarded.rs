//! Calls the program's code, hooks and observers. Catches panics, and warns of slow calls. Decides
//! nothing.

use super::parent::ParentState;
use crate::{
    core::{monitor::Monitor, notice::Notice, say::say, slow_hooks::SLOW, system::System},
    hooks::PreForkHooks,
};
use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

/// The code that is called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Callee {
    Hook(&'static str),
    /// An observer, by its number from 1.
    Observer(usize),
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook(name) => write!(f, "hook {name}"),
            Self::Observer(number) => write!(f, "observer {number}"),
        }
    }
}

impl<Y: System> ParentState<Y> {
    /// Calls a hook or an observer. A panic is caught, logged and counted. A call that blocks the
    /// parent for long is logged and counted as well. (This reads the clock twice, without a system
    /// call, which is a small part of the cost of a word.)
    pub(super) fn guarded(&mut self, callee: Callee, call: impl FnOnce(&mut Monitor)) {
        let before = self.system.now();
        self.caught(callee, call);
        let took = self.system.now().since(before);
        if took >= SLOW {
            self.was_slow(callee, took);
        }
    }

    fn caught(&mut self, callee: Callee, call: impl FnOnce(&mut Monitor)) {
        let monitor = &mut self.monitor;
        // The queue and the tables change in steps that do not panic half-way, so what a hook
        // requested before its panic stays valid.
        let call = AssertUnwindSafe(|| match callee {
            Callee::Hook(name) => monitor.naming(name, call),
            Callee::Observer(_) => call(monitor),
        });
        if let Err(payload) = catch_unwind(call) {
            let (who, notice) = match callee {
                Callee::Hook(_) => {
                    let name = self.monitor.hook;
                    (Callee::Hook(name), Notice::HookPanicked(name))
                }
                Callee::Observer(number) => (callee, Notice::ObserverPanicked(number)),
            };
            let text = panic_text(&*payload);
            self.monitor
                .notice(notice, format_args!("{who} panicked: {text}"));
            self.monitor.report.hook_panics += 1;
        }
    }

    fn was_slow(&mut self, callee: Callee, took: Duration) {
        self.monitor.report.slow_hooks += 1;
        let Some(unsaid) = self.slow.note(self.system.now()) else {
            return;
        };
        let inner = match callee {
            Callee::Hook(name) => Some(self.monitor.last_hook).filter(|&inner| inner != name),
            Callee::Observer(_) => None,
        };
        let inner = inner.map(|inner| format!(", and in it {inner},"));
        say!(
            Warn,
            "{callee}{} took {} ms, in which the parent did nothing else \
             ({unsaid} more were slow since the last warning)",
            inner.unwrap_or_default(),
            took.as_millis()
        );
    }
}

/// Calls the hook `restore`, before there is a loop. A panic there is an error like another.
pub(super) fn restore(hooks: &mut impl PreForkHooks, saved: &[u8]) -> io::Result<()> {
    // What a hook that has panicked leaves behind is its own affair.
    let restored = catch_unwind(AssertUnwindSafe(|| hooks.restore(saved)));
    restored.unwrap_or_else(|payload| {
        let text = panic_text(&*payload);
        let reason = format!("the hook restore has panicked: {text}");
        Err(io::Error::other(reason))
    })
}

/// The message of a panic.
fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}
